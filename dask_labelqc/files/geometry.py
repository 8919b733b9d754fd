"""Where the pixels of an image are in the world, and where those of another one lie among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.typing import Shape

__all__ = ["Geometry", "places_in", "same_grid"]

Rows: TypeAlias = tuple[tuple[float, ...], ...]

CLOSE = 0.01
"""Of a pixel: grids that are no further apart are the same."""
STEPS = 2**16
"""Places are whole multiples of this part of a pixel: so those of a part of an image are exactly
those of the whole, and a grid that is shifted by whole pixels is hit exactly."""


@dataclass(frozen=True)
class Geometry:
    """The grid of an image.

    Attributes
    ----------
    affine
        (d, d + 1): of the centre of the pixel at an index, in the order of the axes, to the world.
    crs
        Of the world, as text; empty if it is the scanner's, or not known.
    """

    affine: Rows
    crs: str = ""

    @classmethod
    def of(cls, affine: Any, crs: str = "") -> Geometry:
        """Take the first rows of a matrix."""
        matrix = np.asarray(affine, np.float64)
        rows = matrix[: matrix.shape[1] - 1]
        return cls(tuple(tuple(float(value) for value in row) for row in rows), crs)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(d + 1, d + 1)."""
        size = len(self.affine) + 1
        return np.vstack([np.array(self.affine), np.eye(size)[-1:]])

    def shifted(self, offset: Shape) -> Geometry:
        """Return the grid that begins at another pixel."""
        matrix = self.matrix
        matrix[:, -1] = matrix @ [*offset, 1]
        return Geometry.of(matrix, self.crs)

    def refined(self, factor: int) -> Geometry:
        """Return the grid of pixels that are smaller by a factor, over the same place."""
        size = len(self.affine)
        scale = np.diag([1 / factor] * size + [1.0])
        scale[:-1, -1] = (1 / factor - 1) / 2
        return Geometry.of(self.matrix @ scale, self.crs)


def same_grid(first: Geometry | None, second: Geometry | None, shape: Shape) -> bool:
    """Say if two images of a shape have their pixels at the same places, as far as they tell."""
    if first is None or second is None or len(first.affine) != len(second.affine):
        return first is None or second is None
    if first.crs != second.crs and _equal_crs(first.crs, second.crs) is False:
        return False
    corners = np.array(np.meshgrid(*([0.0, n - 1.0] for n in shape))).reshape(len(shape), -1)
    places = _between(replace(first, crs=""), replace(second, crs=""), corners)
    return bool(np.abs(places - corners).max() < CLOSE)


def _equal_crs(first: str, second: str) -> bool:
    if not (first and second):
        return True
    from rasterio.crs import CRS

    return bool(CRS.from_string(first) == CRS.from_string(second))


def places_in(other: Geometry, own: Geometry, start: Shape, shape: Shape) -> NDArray[np.float64]:
    """Return where the pixels of a part of an image are, as indices of another image.

    Parameters
    ----------
    other, own
        The grids.
    start, shape
        The part.

    Returns
    -------
    float64 (d, *shape)
        The same for a pixel, whatever the part.
    """
    ranges = [np.arange(a, a + n, dtype=np.float64) for a, n in zip(start, shape, strict=True)]
    index = np.array(np.meshgrid(*ranges, indexing="ij")).reshape(len(shape), -1)
    places = _between(own, other, index)
    return (np.rint(places * STEPS) / STEPS).reshape(len(shape), *shape)


def _between(own: Geometry, other: Geometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    world = _applied(own.matrix, index)
    if own.crs and other.crs and own.crs != other.crs:
        from rasterio.warp import transform

        xs, ys = transform(own.crs, other.crs, *world[:2])
        world = np.array([xs, ys])
    return _applied(np.asarray(np.linalg.inv(other.matrix), np.float64), world)


def _applied(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply one value at a time: libraries for matrices add up in an order of their own."""
    rows = []
    for row in matrix[:-1]:
        total = np.full(points.shape[1], row[-1])
        for factor, values in zip(row[:-1], points, strict=True):
            total += factor * values
        rows.append(total)
    return np.array(rows)
