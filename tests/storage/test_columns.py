"""Columns of items: any of them in any order, joined, hashed, and put on record and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.storage.columns import Columns, counts_of, form_of, hashes_of
from dask_labelqc.storage.ledger import Entry

AXES = {"boxes": "box", "classes": "box", "labels": "image"}


def of_items(items: list[list[int]], number: int = 0) -> Columns:
    """Return items each of which has some boxes, given by their classes."""
    counts = {
        "box": np.array([len(item) for item in items], int),
        "image": np.ones(len(items), int),
    }
    classes = np.array([k for item in items for k in item], np.uint8)
    boxes = np.add.outer(classes, np.arange(4)).astype(np.float32) / 4
    values = {"boxes": boxes, "classes": classes, "labels": counts["box"].astype(np.int8)}
    ids = [f"{number}-{i}" for i in range(len(items))]
    return Columns(ids, hashes_of(counts, AXES, values), counts, AXES, values, {"dtype": "f4"})


def items_of(columns: Columns) -> list[list[int]]:
    ends = np.cumsum(columns.counts["box"])
    assert columns.values["boxes"].shape == (len(columns.values["classes"]), 4)
    assert (columns.values["boxes"][:, 0] * 4 == columns.values["classes"]).all()
    return [part.tolist() for part in np.split(columns.values["classes"], ends)[:-1]]


LISTS = st.lists(st.lists(st.integers(0, 200), max_size=4), min_size=1, max_size=6)


@given(parts=st.lists(LISTS, min_size=1, max_size=3), data=st.data())
def test_some_of_several(parts: list[list[list[int]]], data: st.DataObject) -> None:
    first, *others = [of_items(items, number) for number, items in enumerate(parts)]
    joined = first.joined_with(others)
    every = [item for items in parts for item in items]
    assert items_of(joined) == every
    chosen = data.draw(st.lists(st.integers(0, len(every) - 1), max_size=8))
    some = joined.some(np.array(chosen, int))
    assert items_of(some) == [every[i] for i in chosen]
    assert list(some.ids) == [joined.ids[i] for i in chosen]
    assert some.hashes.tolist() == joined.hashes[np.array(chosen, int)].tolist()


@given(items=LISTS)
def test_what_is_on_record_is_what_was_put_there(items: list[list[int]]) -> None:
    columns = of_items(items)
    entry = Entry("a-000000", columns.ids, columns.hashes, 0, columns.head(), columns.body())
    back = Columns.of(entry)
    assert items_of(back) == items
    assert {name: v.dtype for name, v in back.values.items()} == form_of(entry).dtypes
    assert counts_of(entry)["box"].tolist() == [len(item) for item in items]
    assert str(entry.head["dtype"]) == "f4"


@given(a=st.lists(st.integers(0, 3), max_size=3), b=st.lists(st.integers(0, 3), max_size=3))
def test_hashes_are_those_of_the_numbers(a: list[int], b: list[int]) -> None:
    both = of_items([a, b])
    assert (both.hashes[0].tolist() == both.hashes[1].tolist()) == (a == b)
    wide: dict[str, Any] = {"boxes": "f8", "classes": "i4", "labels": "i8"}
    other = {name: both.values[name].astype(dtype) for name, dtype in wide.items()}
    assert hashes_of(both.counts, AXES, other).tolist() == both.hashes.tolist()


def test_rows_that_do_not_add_up_keep_their_items() -> None:
    first, second = of_items([[1], [2]]), of_items([[3]], 1)
    first = Columns(**{**vars(first), "worst": np.array([[1, 0.5, 1.5]])})
    second = Columns(**{**vars(second), "worst": np.array([[0, 0.25, 0.75]])})
    joined = first.joined_with([second])
    assert joined.worst.tolist() == [[1, 0.5, 1.5], [2, 0.25, 0.75]]
    assert joined.head()["worst"].tolist() == joined.worst.tolist()
    other = Columns(**{**vars(second), "about": {"dtype": "f8"}})
    assert second.follows(first)
    assert not other.follows(first)
