"""The plan that cuts a dataset into blocks and groups of them.

Everything here is integer arithmetic. Coordinates are (image, *spatial).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.typing import Shape

__all__ = ["GROUP_BYTES", "Plan", "plan_blocks", "spatial_factors"]

BLOCK_BYTES = 24 * 2**20
"""Predictions that are decoded at a time, where the storage chunks are smaller than that."""
GROUP_BYTES = 320 * 2**20
"""Predictions that one task of the job goes through."""
GROUP_PIXELS = 2**23
"""Pixels that one task of the job goes through at the most: their labels are held."""


@dataclass(frozen=True)
class Plan:
    """How a dataset is cut: blocks are read whole, a group of blocks is one task.

    Attributes
    ----------
    shape
        (N, *spatial).
    block, group
        Their shapes; a group is a whole number of blocks along each axis.
    """

    shape: Shape
    block: Shape
    group: Shape

    @property
    def grid(self) -> Shape:
        """How many groups there are along each axis."""
        return tuple(-(-n // g) for n, g in zip(self.shape, self.group, strict=True))

    @property
    def num_groups(self) -> int:
        return math.prod(self.grid)

    def group_extent(self, position: Sequence[int]) -> Extent:
        """Return the extent of the group at a position of the grid."""
        return _cell(position, self.group, self.shape)

    def group_extents(self) -> Iterator[Extent]:
        """Yield the extents of all groups, in the order of their numbers."""
        return (self.group_extent(position) for position in np.ndindex(self.grid))

    def blocks(self, extent: Extent) -> Iterator[Extent]:
        """Yield the extents of the blocks of a group, in order."""
        counts = tuple(-(-n // b) for n, b in zip(extent.shape, self.block, strict=True))
        for position in np.ndindex(counts):
            part = _cell(position, self.block, extent.shape)
            yield Extent(
                tuple(a + o for a, o in zip(part.start, extent.start, strict=True)),
                tuple(b + o for b, o in zip(part.stop, extent.start, strict=True)),
            )

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The extents of the groups along each axis, as Dask writes them."""
        return tuple(
            tuple(min(g, n - start) for start in range(0, n, g))
            for n, g in zip(self.shape, self.group, strict=True)
        )


def _cell(position: Sequence[int], cell: Shape, shape: Shape) -> Extent:
    start = tuple(i * c for i, c in zip(position, cell, strict=True))
    return Extent(start, tuple(min(a + c, n) for a, c, n in zip(start, cell, shape, strict=True)))


def plan_blocks(
    shape: Shape,
    chunk: Shape,
    pixel_bytes: int,
    factors: Shape = (),
    *,
    group_bytes: int = GROUP_BYTES,
    group_images: int | None = None,
) -> Plan:
    """Cut a dataset along its storage chunks.

    Parameters
    ----------
    shape
        (N, *spatial).
    chunk
        Storage chunks of the predictions along the same axes.
    pixel_bytes
        Bytes that the predictions of one pixel take: K times the item size.
    factors
        Of the downsampling: no block splits a cell.
    group_bytes
        Predictions of one group, about.
    group_images
        Images of one group instead; rounded up to whole chunks.

    Examples
    --------
    >>> plan_blocks((100, 512, 512), (1, 512, 512), 84)
    Plan(shape=(100, 512, 512), block=(1, 512, 512), group=(15, 512, 512))
    """
    every = (1, *(factors or (1,) * (len(shape) - 1)))
    unit = tuple(min(n, math.lcm(c, f)) for n, c, f in zip(shape, chunk, every, strict=True))
    block = _grow(unit, shape, max(min(BLOCK_BYTES, group_bytes) // pixel_bytes, 1))
    if group_images is not None:
        images = -(-min(group_images, shape[0]) // block[0]) * block[0]
        return Plan(shape, block, (min(images, shape[0]), *shape[1:]))
    group = _grow(block, shape, max(min(group_bytes // pixel_bytes, GROUP_PIXELS), 1))
    return Plan(shape, block, group)


def _grow(unit: Shape, shape: Shape, most: int) -> Shape:
    """Take whole units along the last axis, then the one before, while the extent stays small."""
    grown = list(unit)
    for axis in reversed(range(len(shape))):
        times = min(-(-shape[axis] // unit[axis]), most // math.prod(grown))
        grown[axis] = min(unit[axis] * max(times, 1), shape[axis])
        if grown[axis] < shape[axis]:
            break
    return tuple(grown)


def spatial_factors(downsample: int, spatial: Shape) -> Shape:
    """Return the factor of each spatial axis, all equal to `downsample`.

    Raises
    ------
    InputError
        The factor is not a positive integer or does not divide an axis.
    """
    downsample = positive_integer("downsample", downsample)
    if any(n % downsample for n in spatial):
        raise InputError(
            f"downsample: {downsample} does not divide the image shape {spatial}; "
            f"it may be {_divisors(spatial)}"
        )
    return (downsample,) * len(spatial)


def _divisors(spatial: Shape) -> str:
    common = math.gcd(*spatial)
    small = [d for d in range(1, math.isqrt(common) + 1) if common % d == 0]
    return ", ".join(str(d) for d in sorted({*small, *(common // d for d in small)}))
