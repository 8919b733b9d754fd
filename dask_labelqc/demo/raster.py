"""Turn polygons and coarse fields into pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.kernels.compiled import compiled

__all__ = ["Polygon", "fill_polygon", "render", "resample"]

Polygon: TypeAlias = NDArray[np.float64]
"""Vertices as rows of (x, y): the image is the unit square, and y grows downwards."""


def render(objects: Sequence[Sequence[Polygon]], size: int) -> NDArray[np.int16]:
    """Paint objects back to front.

    Parameters
    ----------
    objects : sequence of sequences of (V, 2) float64 arrays
        The polygons of each object, in units of the image.
    size : int
        Height and width of the map in pixels.

    Returns
    -------
    (size, size) int16 array
        At each pixel the position in `objects` of the frontmost object, -1 where there is none.

    Examples
    --------
    >>> square = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    >>> render([[square]], 4)
    array([[-1, -1, -1, -1],
           [-1,  0,  0, -1],
           [-1,  0,  0, -1],
           [-1, -1, -1, -1]], dtype=int16)
    """
    canvas = np.full((size, size), -1, np.int16)
    for position, polygons in enumerate(objects):
        for polygon in polygons:
            fill_polygon(canvas, polygon * size, position)
    return canvas


@compiled(error_model="python")
def fill_polygon(canvas: NDArray[np.int16], vertices: Polygon, value: int) -> None:
    """Write `value` into the pixels whose centre is inside the polygon, by the even-odd rule.

    Parameters
    ----------
    canvas : (H, W) int16 array
        Changed in place.
    vertices : (V, 2) float64 array
        Rows of (x, y) in pixels; the last vertex is joined to the first.
    value : int
        What is written.
    """
    height, width = canvas.shape
    count = len(vertices)
    crossings = np.empty(count)
    top = max(0, int(np.floor(vertices[:, 1].min())))
    bottom = min(height, int(np.ceil(vertices[:, 1].max())) + 1)
    for row in range(top, bottom):
        y = row + 0.5
        found = 0
        for i in range(count):
            x0, y0 = vertices[i]
            x1, y1 = vertices[(i + 1) % count]
            if (y0 <= y) != (y1 <= y):
                crossings[found] = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                found += 1
        edges = np.sort(crossings[:found])
        for pair in range(0, found, 2):
            left = max(0, int(np.ceil(edges[pair] - 0.5)))
            right = min(width, int(np.ceil(edges[pair + 1] - 0.5)))
            if left < right:
                canvas[row, left:right] = value


def resample(fields: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Spread coarse fields over a finer grid with the cubic B-spline, which also blurs them.

    Parameters
    ----------
    fields : (F, h, w) float32 array
        Values at the centres of the coarse cells; the edge is repeated outwards.
    size : int
        Height and width of the fine grid.

    Returns
    -------
    (F, size, size) float32 array
        Weights that are positive and sum to one: no value leaves the range of the field.
    """
    count, height, width = fields.shape
    row_first, row_weights = _spline_taps(height, size)
    column_first, column_weights = _spline_taps(width, size)
    wide = np.empty((count, height, size), np.float32)
    _mix_columns(fields, column_first, column_weights, wide)
    fine = np.empty((count, size, size), np.float32)
    _mix_rows(wide, row_first, row_weights, fine)
    return fine


def _spline_taps(coarse: int, fine: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First of the four coarse cells under each fine cell, and the four weights."""
    position = (np.arange(fine) + 0.5) * coarse / fine - 0.5
    first = np.floor(position).astype(np.int64) - 1
    t = position - np.floor(position)
    weights = np.stack(
        [
            (1 - t) ** 3,
            3 * t**3 - 6 * t**2 + 4,
            -3 * t**3 + 3 * t**2 + 3 * t + 1,
            t**3,
        ],
        axis=1,
    )
    return first, (weights / 6).astype(np.float32)


@compiled(error_model="python")
def _mix_columns(
    fields: NDArray[np.float32],
    first: NDArray[np.int64],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    count, height, width = fields.shape
    for f in range(count):
        for row in range(height):
            for column in range(out.shape[2]):
                total = np.float32(0)
                for tap in range(4):
                    source = min(max(first[column] + tap, 0), width - 1)
                    total += weights[column, tap] * fields[f, row, source]
                out[f, row, column] = total


@compiled(error_model="python")
def _mix_rows(
    fields: NDArray[np.float32],
    first: NDArray[np.int64],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    count, height, width = fields.shape
    for f in range(count):
        for row in range(out.shape[1]):
            a = fields[f, min(max(first[row], 0), height - 1)]
            b = fields[f, min(max(first[row] + 1, 0), height - 1)]
            c = fields[f, min(max(first[row] + 2, 0), height - 1)]
            d = fields[f, min(max(first[row] + 3, 0), height - 1)]
            for column in range(width):
                out[f, row, column] = (
                    weights[row, 0] * a[column]
                    + weights[row, 1] * b[column]
                    + weights[row, 2] * c[column]
                    + weights[row, 3] * d[column]
                )
