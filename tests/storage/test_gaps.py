from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from dask_labelqc.extent import Extent
from dask_labelqc.storage.arrays import BlockReader
from dask_labelqc.storage.chunks import fill_value
from dask_labelqc.storage.gaps import missing_objects, object_grid, watched
from tests.stores import CountingStore
from tests.strategies import examples

EVERY_CHUNK = {"write_empty_chunks": True}
DIMS = ("image", "class", "y", "x")


def stored(
    path: str,
    shape: tuple[int, ...],
    names: Any,
    gone: set[str],
    store: Any = None,
    **keywords: Any,
) -> zarr.Array:
    """An array of ones without some of its chunks."""
    group = zarr.open_group(MemoryStore() if store is None else store, mode="a")
    array = group.create_array(path, shape=shape, dtype="u1", dimension_names=names, **keywords)
    array[...] = 1
    for key in gone:
        asyncio.run(array.store_path.store.delete(f"{path}/c/{key}"))
    return array


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Labels and predictions in any chunks, some of which are gone, and which these are."""
    shape = tuple(draw(st.integers(1, 5)) for _ in range(4))
    order = draw(st.permutations(range(4)))
    arrays, gone = [], []
    for name, axes in (("labels", (0, 2, 3)), ("probs", order)):
        extents = [shape[axis] for axis in axes]
        chunks = tuple(draw(st.integers(1, n)) for n in extents)
        places = list(
            itertools.product(*(range(-(-n // c)) for n, c in zip(extents, chunks, strict=True)))
        )
        lost = draw(st.sets(st.sampled_from(places), max_size=4))
        keys = {"/".join(map(str, place)) for place in lost}
        names = [DIMS[axis] for axis in axes]
        arrays.append(stored(name, tuple(extents), names, keys, chunks=chunks))
        gone.append((chunks, lost))
    return shape, order, arrays, gone


@examples(15)
@given(damaged(), st.data())
def test_finds_what_is_gone(drawn: Any, data: st.DataObject) -> None:
    """What of each block reads as the fill value; each chunk of labels counts in one block."""
    shape, _, arrays, ((chunks, lost), _) = drawn
    reader = BlockReader.of(*arrays)
    pixels = (shape[0], *shape[2:])
    cuts = [sorted({0, n, *data.draw(st.sets(st.integers(0, n)))}) for n in pixels]
    blocks = [
        Extent(tuple(a for a, _ in sides), tuple(b for _, b in sides))
        for sides in itertools.product(*(itertools.pairwise(cut) for cut in cuts))
    ]
    begun, found = 0, Counter()
    with (
        patch.object(BlockReader, "ahead", data.draw(st.integers(0, 2))),
        reader.for_region(Extent((0,) * 3, pixels), blocks) as read,
    ):
        for block in blocks:
            _, predicted = read(block)
            gaps = read.gaps(block)
            begun += gaps.num_label_chunks
            found.update(extent.start for extent in gaps.labels)
            known = np.ones_like(predicted)
            for gap in gaps.pred_probs:
                image, *part = gap.extent.within(block).slices
                known[(image, slice(*gap.classes), *part)] = 0
            np.testing.assert_array_equal(known, predicted)
            assert (gaps.label, gaps.pred_prob) == (0, 0)
    assert begun == arrays[0].nchunks
    starts = {tuple(i * c for i, c in zip(place, chunks, strict=True)) for place in lost}
    assert found == Counter(dict.fromkeys(starts, 1))


def test_the_object_is_the_shard() -> None:
    array = stored("a", (8, 4), None, {"1/0"}, chunks=(2, 2), shards=(4, 4))
    reads = watched(array)
    assert list(reads.missing_in(Extent((0, 0), (8, 4)))) == []
    reads.read()
    assert list(reads.missing_in(Extent((3, 0), (7, 2)))) == [("a/c/1/0", Extent((4, 0), (7, 2)))]
    assert list(reads.missing_begun_in(Extent((0, 0), (8, 4)))) == [Extent((4, 0), (8, 4))]
    assert list(reads.missing_begun_in(Extent((5, 0), (8, 4)))) == []
    assert reads.begun_in(Extent((0, 0), (8, 4))) == 2


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_of_either_format_at_the_root_of_a_store(zarr_format: Any, tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a", shape=(4, 3), chunks=(2, 3), dtype="i2", zarr_format=zarr_format
    )
    array[:2] = 1
    reads = watched(zarr.open_array(LocalStore(tmp_path / "a"), mode="r"))
    reads.read()
    (missing,) = reads.missing_in(Extent((0, 0), (4, 3)))
    assert missing == ("c/1/0" if zarr_format == 3 else "1.0", Extent((2, 0), (4, 3)))


def test_what_is_there_costs_no_request() -> None:
    """Nor does what is not there: only what is read is looked at."""
    labels = stored("labels", (4, 6), None, {"1/0"}, CountingStore(), chunks=(2, 6))
    probs = stored("probs", (4, 3, 6), None, {"0/1/0"}, labels.store, chunks=(2, 1, 6))
    labels.store.forget()
    reader = BlockReader.of(labels, probs)
    whole = Extent((0, 0), (4, 6))
    with reader.for_region(whole, [whole]) as read:
        read(whole)
        gaps = read.gaps(whole)
    assert [gap.key for gap in gaps.pred_probs] == ["probs/c/0/1/0"]
    assert len(gaps.labels) == 1
    assert sorted(labels.store.requests) == sorted(
        [
            *(("get", f"labels/c/{i}/0") for i in (0, 1)),
            *(("get", f"probs/c/{i}/{k}/0") for i in (0, 1) for k in range(3)),
        ]
    )


def chunks_missing(array: zarr.Array, *extent: slice) -> list[int]:
    """The numbers of the chunks of an extent that are seen to be missing when it is read."""
    reads = watched(array)
    reads.reader.read_into(
        extent, np.empty([part.stop - part.start for part in extent], array.dtype)
    )
    return sorted(
        reads.chunks_missing_in(
            Extent(tuple(b.start for b in extent), tuple(b.stop for b in extent))
        )
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "u1", ">i4", "i8", "bool"])
@pytest.mark.parametrize("fill", [0, 1, np.nan])
def test_written_fill_values_are_there(zarr_format: Any, dtype: Any, fill: Any) -> None:
    if fill != fill and np.dtype(dtype).kind != "f":
        fill = 0
    array = zarr.create_array(
        MemoryStore(),
        shape=(9, 6),
        chunks=(2, 3),
        dtype=dtype,
        fill_value=fill,
        zarr_format=zarr_format,
        config=EVERY_CHUNK,
    )
    array[0:2] = fill
    array[2:4, 3:6] = 1 if fill != 1 else 0
    assert object_grid(array) == (5, 2)
    assert chunks_missing(array, slice(0, 9), slice(0, 6)) == [2, *range(4, 10)]
    assert chunks_missing(array, slice(3, 5), slice(0, 4)) == [2, 4, 5]


def test_chunks_of_a_shard() -> None:
    array = zarr.create_array(
        MemoryStore(), shape=(8, 6), chunks=(2, 3), shards=(4, 6), dtype="f4", config=EVERY_CHUNK
    )
    array[0:4] = 0
    array[0, 0] = 1
    assert chunks_missing(array, slice(0, 8), slice(0, 6)) == [4, 5, 6, 7]
    assert chunks_missing(array, slice(3, 5), slice(3, 6)) == [5]


def test_no_fill_value_reads_as_zero() -> None:
    array = zarr.create_array(
        MemoryStore(), shape=(4,), chunks=(2,), dtype="i4", fill_value=None, zarr_format=2
    )
    array[:2] = 5
    assert fill_value(array) == 0
    assert chunks_missing(array, slice(0, 4)) == [1]


@given(
    st.lists(st.sampled_from(["absent", "filled", "mixed"]), min_size=1, max_size=6),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_any_box_of_a_row_of_chunks(states: Any, start: Any, length: Any) -> None:
    array = zarr.create_array(
        CountingStore(), shape=(3 * len(states),), chunks=(3,), dtype="i2", config=EVERY_CHUNK
    )
    for number, state in enumerate(states):
        if state != "absent":
            array[3 * number : 3 * number + 3] = 0 if state == "filled" else [0, 0, 7]
    start = min(start, array.size - 1)
    extent = slice(start, min(start + 1 + length, array.size))
    touched = sorted({i // 3 for i in range(extent.start, extent.stop)})
    array.store.forget()
    assert chunks_missing(array, extent) == [i for i in touched if states[i] == "absent"]
    assert sorted(array.store.requests) == [("get", f"c/{i}") for i in touched]


class Unlisted(WrapperStore):
    """A store that answers requests for objects only, as plain HTTP does."""

    supports_listing = False

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise AssertionError("listed")
        yield ""


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("path", ["", "group/array"])
@pytest.mark.parametrize("kind", [MemoryStore, LocalStore])
@pytest.mark.parametrize("listed", [True, False])
def test_missing_objects_are_found(
    tmp_path: Path, zarr_format: Any, path: Any, kind: Any, listed: Any
) -> None:
    store = kind(tmp_path) if kind is LocalStore else kind()
    array = zarr.create_array(
        store if listed else Unlisted(store),
        name=path or None,
        shape=(25, 6),
        chunks=(10, 4),
        dtype="i4",
        zarr_format=zarr_format,
    )
    array[10:] = 1
    array[0, 5] = 1
    array[20:, :4] = 0  # which deletes it
    assert missing_objects(array) == [(0, 0), (2, 0)]
    array[:] = np.ones(array.shape)
    assert missing_objects(array) == []


def test_missing_shards() -> None:
    array = zarr.create_array({}, shape=(40,), chunks=(5,), shards=(10,), dtype="i4")
    array[10:15] = 1
    assert missing_objects(array) == [(0,), (2,), (3,)]
    assert object_grid(array) == (4,)


def test_an_empty_array_has_no_objects() -> None:
    assert missing_objects(zarr.create_array({}, shape=(0, 4), chunks=(5, 4), dtype="i4")) == []


def test_a_store_is_asked_once_and_where_zarr_reads_it() -> None:
    """The connections of a store belong to the thread in which they were made."""
    asked: list[tuple[str, int]] = []

    class Bound(MemoryStore):
        async def get(self, key: Any, prototype: Any, byte_range: Any = None) -> Any:
            asked.append((key, threading.get_ident()))
            return await super().get(key, prototype, byte_range)

        async def list_prefix(self, prefix: Any) -> AsyncIterator[Any]:
            asked.append((prefix, threading.get_ident()))
            async for key in super().list_prefix(prefix):
                yield key

    array = stored("a", (6,), None, {"1"}, Bound(), chunks=(2,))
    asked.clear()
    array[:2]
    assert missing_objects(array) == [(1,)]
    assert [key for key, _ in asked] == ["a/c/0", "a/"]
    assert len({thread for _, thread in asked}) == 1
