from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.plan import Plan, plan_blocks, spatial_factors


@st.composite
def extents(draw: st.DrawFn) -> Any:
    """The shape of a whole array and an extent in it."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=4)))
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return shape, Extent(start, stop)


@given(extents())
def test_a_box_cuts_out_its_own_pixels(drawn: Any) -> None:
    shape, extent = drawn
    flat = np.arange(math.prod(shape)).reshape(shape)
    part = flat[extent.slices]
    assert part.shape == extent.shape
    assert part.size == extent.size
    assert flat[extent.images].shape[0] == extent.shape[0]
    index = np.arange(extent.size, dtype=np.uint16)
    found = extent.flat_index(index, shape)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, part.ravel())
    for position in index.tolist():
        image, pixel = extent.place(position)
        assert flat[(image, *pixel)] == part.ravel()[position]


@given(extents(), st.data())
def test_within_is_relative_to_the_outer_extent(drawn: Any, data: st.DataObject) -> None:
    _, outer = drawn
    start = tuple(data.draw(st.integers(0, n - 1)) for n in outer.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, outer.shape, strict=True))
    local = Extent(start, stop)
    moved = Extent(
        tuple(a + o for a, o in zip(start, outer.start, strict=True)),
        tuple(b + o for b, o in zip(stop, outer.start, strict=True)),
    )
    assert moved.within(outer) == local


def test_coarsened() -> None:
    assert Extent((2, 4, 6), (5, 8, 12)).coarsened((2, 3)) == Extent((2, 2, 2), (5, 4, 4))


@st.composite
def plans(draw: st.DrawFn) -> Any:
    factor = draw(st.sampled_from([1, 2, 3, 4]))
    spatial = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    shape = (draw(st.integers(1, 9)), *(factor * n for n in spatial))
    chunk = tuple(draw(st.integers(1, n)) for n in shape)
    plan = plan_blocks(
        shape,
        chunk,
        draw(st.sampled_from([1, 2**19, 2**22, 2**30])),
        (factor,) * len(spatial),
        group_bytes=draw(st.sampled_from([1, 2**22, 2**26, 2**40])),
        group_images=draw(st.none() | st.integers(1, 12)),
    )
    return plan, chunk, factor


@given(plans())
def test_groups_and_blocks_cover_every_pixel_once(drawn: Any) -> None:
    plan, _, _ = drawn
    times = np.zeros(plan.shape, int)
    groups = list(plan.group_extents())
    assert len(groups) == plan.num_groups
    for group in groups:
        covered = np.zeros(plan.shape, int)
        for block in plan.blocks(group):
            covered[block.slices] += 1
        assert (covered[group.slices] == 1).all()
        times += covered
    assert (times == 1).all()
    assert plan.chunks == tuple(
        tuple(int(c) for c in np.diff([*range(0, n, g), n]))
        for n, g in zip(plan.shape, plan.group, strict=True)
    )


@given(plans())
def test_no_block_splits_a_chunk_or_a_cell(drawn: Any) -> None:
    plan, chunk, factor = drawn
    for block in (b for group in plan.group_extents() for b in plan.blocks(group)):
        for axis, edge in enumerate(zip(block.start, block.stop, strict=True)):
            size = plan.shape[axis]
            for place in edge:
                assert place % chunk[axis] == 0 or place == size
                assert axis == 0 or place % factor == 0


@pytest.mark.parametrize(
    ("images", "group"), [(1, (1, 8, 8)), (3, (3, 8, 8)), (100, (10, 8, 8)), (None, (10, 8, 8))]
)
def test_group_images(images: int | None, group: tuple[int, ...]) -> None:
    plan = plan_blocks((10, 8, 8), (1, 8, 8), 2**19, group_images=images)
    assert plan.block == (1, 8, 8) if images == 1 else plan.group == group
    assert plan.group == group


def test_large_chunks_are_blocks_and_small_ones_are_read_together() -> None:
    assert plan_blocks((50, 512, 512), (1, 512, 512), 84).block == (1, 512, 512)
    assert plan_blocks((50, 512, 512), (1, 64, 64), 84).block == (1, 512, 512)
    assert plan_blocks((50, 64, 64), (1, 64, 64), 84).block == (50, 64, 64)
    assert plan_blocks((5, 4096, 4096), (1, 512, 512), 84).block == (1, 512, 512)


def test_group_box_of_a_position() -> None:
    plan = Plan((5, 6), (1, 2), (2, 4))
    assert plan.grid == (3, 2)
    assert plan.group_extent((2, 1)) == Extent((4, 4), (5, 6))


@pytest.mark.parametrize("downsample", [0, -2, 1.0, True, "2", None])
def test_downsample_must_be_a_positive_integer(downsample: Any) -> None:
    with pytest.raises(InputError, match=f"downsample: got {downsample!r}, it must be an integer"):
        spatial_factors(downsample, (4, 4))


def test_downsample_must_divide() -> None:
    with pytest.raises(
        InputError,
        match=r"downsample: 4 does not divide the image shape \(12, 6\); it may be 1, 2, 3, 6",
    ):
        spatial_factors(4, (12, 6))
    assert spatial_factors(3, (12, 6)) == (3, 3)
