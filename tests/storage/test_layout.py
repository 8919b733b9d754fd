"""Arrays of any order are seen as (N, K, *spatial), and read extent by extent."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dask_labelqc.extent import Extent
from dask_labelqc.storage.layout import Layout
from tests.stores import CountingStore


@st.composite
def layouts(draw: st.DrawFn) -> Any:
    """An array, how it is seen, and what that is: computed with nothing but NumPy."""
    classes, scene = draw(st.booleans()), draw(st.booleans())
    ndim = draw(st.integers(1, 3)) + classes + (not scene)
    shape = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    array = np.arange(np.prod(shape)).reshape(shape)
    own = list(draw(st.permutations(range(ndim))))
    axes = [None, *own] if scene else own
    order = []
    for place, axis in enumerate(axes):
        n = 1 if axis is None else shape[axis]
        any_order = draw(st.permutations(range(n))) if axis is not None else None
        kinds = [None] if axis is None or (classes and place == 1) else [None, "back", "any"]
        kind = draw(st.sampled_from(kinds))
        order.append(
            None if kind is None else range(n - 1, -1, -1) if kind == "back" else any_order
        )
    seen = array.transpose(own)
    seen = seen[None] if scene else seen
    for axis, positions in enumerate(order):
        if positions is not None:
            seen = np.take(seen, list(positions), axis)
    orders = [o if o is None or isinstance(o, range) else np.array(o, "u1") for o in order]
    return array, Layout(tuple(axes), tuple(orders)), seen, classes


def in_zarr(array: np.ndarray, chunks: tuple[int, ...]) -> zarr.Array:
    return zarr.create_array(MemoryStore(), data=array, chunks=chunks)


@given(layouts(), st.data())
def test_any_box_is_read_from_any_array(drawn: Any, data: st.DataObject) -> None:
    array, layout, seen, classes = drawn
    assert layout.shape(array.shape) == seen.shape
    chunks = tuple(data.draw(st.integers(1, n)) for n in array.shape)
    places = (seen.shape[0], *seen.shape[2:]) if classes else seen.shape
    start = tuple(data.draw(st.integers(0, n - 1)) for n in places)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, places, strict=True))
    extent = Extent(start, stop)
    image, *pixels = extent.slices
    expected = seen[(image, slice(None), *pixels)] if classes else seen[extent.slices]
    stored = in_zarr(array, chunks)
    for container in (array, da.from_array(array, chunks=chunks), stored):
        np.testing.assert_array_equal(layout.read(container, extent), expected)
    buffer = np.empty(expected.size, array.dtype)
    np.testing.assert_array_equal(layout.read(stored, extent, buffer), expected)


@given(layouts())
def test_a_whole_array(drawn: Any) -> None:
    array, layout, seen, _ = drawn
    np.testing.assert_array_equal(layout.ordered(layout.inwards(array)), seen)
    lazy = layout.ordered(layout.inwards(da.from_array(array, chunks=1)))
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), seen)


@given(layouts())
def test_back_to_the_own_dimensions(drawn: Any) -> None:
    array, layout, seen, _ = drawn
    np.testing.assert_array_equal(layout.outwards(layout.inwards(array)), array)
    assert layout.own(seen.shape) == array.shape
    unordered = all(order is None for order in layout.order)
    assert layout.is_plain == (unordered and layout.axes == tuple(range(array.ndim)))


@pytest.mark.parametrize(
    ("order", "extents"),
    [
        ((np.array([5, 0, 3, 1, 4, 2], "u1"), None, None, None), [(0, 2), (2, 6)]),
        ((None, None, range(3, -1, -1), range(4, -1, -1)), [(0, 1), (1, 6)]),
    ],
    ids=["shuffled images", "backwards"],
)
def test_each_chunk_of_one_image_is_read_once(order: Any, extents: Any) -> None:
    store = CountingStore()
    group = zarr.open_group(store, mode="w")
    array = np.arange(6 * 3 * 4 * 5).reshape(6, 3, 4, 5)
    stored = group.create_array("pred_probs", data=array, chunks=(1, 3, 4, 5))
    store.reads.clear()
    layout = Layout((0, 1, 2, 3), order)
    parts = [layout.read(stored, Extent((a, 0, 0), (b, 4, 5))) for a, b in extents]
    np.testing.assert_array_equal(np.concatenate(parts), layout.ordered(array))
    reads = store.chunk_reads("pred_probs")
    assert set(reads.values()) == {1}
    assert len(reads) == 6


def test_positions_that_follow_one_another_are_a_plain_read() -> None:
    stored = in_zarr(np.arange(12).reshape(6, 2), (1, 2))
    layout = Layout((0, 1), (np.array([3, 4, 5, 2, 1, 0], "u1"), None))
    with patch.object(zarr.Array, "get_orthogonal_selection", side_effect=AssertionError):
        found = layout.read(stored, Extent((0, 0), (3, 2)))
        again = layout.read(stored, Extent((3, 0), (6, 2)))
    assert found[:, 0].tolist() == [6, 8, 10]
    assert again[:, 0].tolist() == [4, 2, 0]


def test_a_mask_stays_one() -> None:
    array = np.ma.masked_array(np.arange(6).reshape(2, 3), [[True, False, False], [False] * 3])
    found = Layout((1, 0), (range(2, -1, -1), None)).read(array, Extent((0, 0), (3, 2)))
    np.testing.assert_array_equal(found.mask, array.mask.T[::-1])
