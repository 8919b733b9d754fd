from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from dask_labelqc.region import Box
from dask_labelqc.storage.arrays import BlockReader
from dask_labelqc.storage.gaps import watched

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
def damaged(draw: st.DrawFn):
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


@settings(max_examples=25)
@given(damaged(), st.data())
def test_finds_what_is_gone(drawn, data) -> None:
    """What of each block reads as the fill value; each chunk of labels counts in one block."""
    shape, _, arrays, ((chunks, lost), _) = drawn
    reader = BlockReader.of(*arrays)
    pixels = (shape[0], *shape[2:])
    cuts = [sorted({0, n, *data.draw(st.sets(st.integers(0, n)))}) for n in pixels]
    blocks = [
        Box(tuple(a for a, _ in sides), tuple(b for _, b in sides))
        for sides in itertools.product(*(itertools.pairwise(cut) for cut in cuts))
    ]
    begun, found = 0, Counter()
    with (
        patch.object(BlockReader, "ahead", data.draw(st.integers(0, 2))),
        reader.for_region(Box((0,) * 3, pixels), blocks) as read,
    ):
        for block in blocks:
            _, predicted = read(block)
            gaps = read.gaps(block)
            begun += gaps.num_label_chunks
            found.update(box.start for box in gaps.labels)
            known = np.ones_like(predicted)
            for gap in gaps.pred_probs:
                image, *part = gap.box.within(block).slices
                known[(image, slice(*gap.classes), *part)] = 0
            np.testing.assert_array_equal(known, predicted)
            assert (gaps.label, gaps.pred_prob) == (0, 0)
    assert begun == arrays[0].nchunks
    starts = {tuple(i * c for i, c in zip(place, chunks, strict=True)) for place in lost}
    assert found == Counter(dict.fromkeys(starts, 1))


def test_the_object_is_the_shard() -> None:
    array = stored("a", (8, 4), None, {"1/0"}, chunks=(2, 2), shards=(4, 4))
    reads = watched(array)
    assert list(reads.missing_in(Box((0, 0), (8, 4)))) == []
    reads.array[...]
    assert list(reads.missing_in(Box((3, 0), (7, 2)))) == [("a/c/1/0", Box((4, 0), (7, 2)))]
    assert list(reads.missing_begun_in(Box((0, 0), (8, 4)))) == [Box((4, 0), (8, 4))]
    assert list(reads.missing_begun_in(Box((5, 0), (8, 4)))) == []
    assert reads.begun_in(Box((0, 0), (8, 4))) == 2


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_of_either_format_at_the_root_of_a_store(zarr_format, tmp_path) -> None:
    array = zarr.create_array(
        tmp_path / "a", shape=(4, 3), chunks=(2, 3), dtype="i2", zarr_format=zarr_format
    )
    array[:2] = 1
    reads = watched(zarr.open_array(LocalStore(tmp_path / "a"), mode="r"))
    reads.array[...]
    (missing,) = reads.missing_in(Box((0, 0), (4, 3)))
    assert missing == ("c/1/0" if zarr_format == 3 else "1.0", Box((2, 0), (4, 3)))


def test_what_is_there_costs_no_request() -> None:
    """Nor does what is not there: only what is read is looked at."""
    requests: list[str] = []

    class Noting(MemoryStore):
        async def get(self, key, prototype, byte_range=None):
            requests.append(key)
            return await super().get(key, prototype, byte_range)

        async def exists(self, key):
            raise AssertionError(key)

    labels = stored("labels", (4, 6), None, {"1/0"}, Noting(), chunks=(2, 6))
    probs = stored("probs", (4, 3, 6), None, {"0/1/0"}, labels.store, chunks=(2, 1, 6))
    requests.clear()
    reader = BlockReader.of(labels, probs)
    whole = Box((0, 0), (4, 6))
    with reader.for_region(whole, [whole]) as read:
        read(whole)
        gaps = read.gaps(whole)
    assert [gap.key for gap in gaps.pred_probs] == ["probs/c/0/1/0"]
    assert len(gaps.labels) == 1
    assert sorted(requests) == sorted(
        [
            *(f"labels/c/{i}/0" for i in (0, 1)),
            *(f"probs/c/{i}/{k}/0" for i in (0, 1) for k in range(3)),
        ]
    )
