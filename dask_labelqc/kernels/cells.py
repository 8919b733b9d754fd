"""Downsampling: the pixels of a unit (whole rows of the image) averaged to cells.

A unit is the pixels that share one row of cells along the leading spatial axis: contiguous in
the flattened image, R rows of the last axis. `Geometry` says which cells they fall into.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from dask_labelqc.typing import BoolArray, Floats, Ints, Shape

__all__ = ["CellScratch", "Geometry", "cell_scratch", "geometry", "unit_cells"]


class Geometry(NamedTuple):
    """Where the pixels of one unit go.

    Attributes
    ----------
    pixels, cells
        Their number in a unit.
    width, factor
        Pixels of a row of the last axis; how many of them share a cell.
    cell_row
        int64 (R,): the row of cells of each row of pixels.
    begins
        bool (R,): whether a row of pixels is the first of its row of cells.
    """

    pixels: int
    cells: int
    width: int
    factor: int
    cell_row: Ints
    begins: BoolArray


class CellScratch(NamedTuple):
    """Scratch space for the cells of a unit."""

    columns: Floats  # float64 (rows of cells, width)
    halves: Floats  # float64 (2, width)
    sums: Floats  # float64 (K, cells)
    planes: Floats  # (K, cells), the dtype of the probabilities
    bits: Ints  # the same memory
    ones: Ints  # int32 (pixels,)
    valid: Floats  # float64 (cells,): pixels that take part
    label_sum: Floats  # float64 (cells,)
    votes: Ints  # (K, cells), or (K, 0) where labels are averaged
    codes: Ints  # int32 (cells,)
    place: Ints  # (cells,): the ordinal of the candidate, -1 for none
    best: Floats
    arg: Ints
    total: Floats
    score: Floats


def geometry(shape: Shape, factors: Shape) -> Geometry:
    """Describe the units of images of a spatial shape that the factors divide."""
    if len(shape) == 1:
        shape, factors = (1, *shape), (1, *factors)
    unit = (factors[0], *shape[1:])
    small = tuple(n // f for n, f in zip(unit, factors, strict=True))
    rows = np.indices(unit[:-1]).reshape(len(unit) - 1, -1)
    cell_row = np.ravel_multi_index(
        tuple(r // f for r, f in zip(rows, factors, strict=False)), small[:-1]
    )
    begins = np.zeros(cell_row.size, np.bool_)
    begins[np.unique(cell_row, return_index=True)[1]] = True
    return Geometry(
        pixels=math.prod(unit),
        cells=math.prod(small),
        width=unit[-1],
        factor=factors[-1],
        cell_row=cell_row.astype(np.int64),
        begins=begins,
    )


def cell_scratch(
    geometry: Geometry, num_classes: int, dtype: np.dtype[np.generic], majority: bool
) -> CellScratch:
    """Allocate the scratch space for units of this geometry."""
    cells = geometry.cells
    planes = np.empty((num_classes, cells), dtype)
    return CellScratch(
        columns=np.empty((cells * geometry.factor // geometry.width, geometry.width)),
        halves=np.empty((2, geometry.width)),
        sums=np.empty((num_classes, cells)),
        planes=planes,
        bits=planes.view(f"i{planes.itemsize}"),
        ones=np.ones(geometry.pixels, np.int32),
        valid=np.empty(cells),
        label_sum=np.empty(cells),
        votes=np.empty((num_classes, cells if majority else 0), np.int64),
        codes=np.empty(cells, np.int32),
        place=np.empty(cells, np.int64),
        best=np.empty(cells, dtype),
        arg=np.empty(cells, np.int32),
        total=np.empty(cells, dtype),
        score=np.empty(cells),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="never")
def _halve(values, sums, length):  # type: ignore[no-untyped-def]
    for i in range(length):
        sums[i] = values[2 * i] + values[2 * i + 1]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sum_plane(values, codes, all_valid, shape, columns, halves, result):  # type: ignore[no-untyped-def]
    """Add up, in float64, the values of the pixels of each cell that take part.

    First the rows of pixels that share a row of cells, then neighbours pair by pair while their
    number is even: loops that the compiler turns into SIMD.
    """
    width = shape.width
    row, rows = 0, shape.cell_row.size
    while row < rows:
        target = columns[shape.cell_row[row]]
        if shape.begins[row]:
            target[:] = 0.0
        r0 = values[row * width : (row + 1) * width]
        if not all_valid:
            here = codes[row * width : (row + 1) * width]
            for i in range(width):
                target[i] += np.float64(r0[i]) if here[i] >= 0 else 0.0
            row += 1
        elif shape.factor % 4 == 0 and row + 4 <= rows:
            r1 = values[(row + 1) * width : (row + 2) * width]
            r2 = values[(row + 2) * width : (row + 3) * width]
            r3 = values[(row + 3) * width : (row + 4) * width]
            if shape.begins[row]:  # twice as fast as adding to zeros
                for i in range(width):
                    target[i] = (np.float64(r0[i]) + np.float64(r1[i])) + (
                        np.float64(r2[i]) + np.float64(r3[i])
                    )
            else:
                for i in range(width):
                    target[i] += (np.float64(r0[i]) + np.float64(r1[i])) + (
                        np.float64(r2[i]) + np.float64(r3[i])
                    )
            row += 4
        else:
            for i in range(width):
                target[i] += np.float64(r0[i])
            row += 1
    row_cells = width // shape.factor
    for cell_row in range(columns.shape[0]):
        sums, other, spare = columns[cell_row], halves[0], halves[1]
        factor, length = shape.factor, width
        while factor % 2 == 0:
            factor, length = factor // 2, length // 2
            _halve(sums, other, length)
            sums, other, spare = other, spare, other
        target = result[cell_row * row_cells : (cell_row + 1) * row_cells]
        for i in range(row_cells):
            value = sums[i * factor]
            for j in range(1, factor):
                value += sums[i * factor + j]
            target[i] = value


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _vote(codes, shape, votes):  # type: ignore[no-untyped-def]
    """Count the labels of each cell."""
    votes[:] = 0
    for pixel in range(codes.size):
        if codes[pixel] >= 0:
            votes[codes[pixel], cell_of(pixel, shape)] += 1


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def cell_of(pixel, shape):  # type: ignore[no-untyped-def]
    """Return the cell of a pixel of the unit."""
    row, column = divmod(pixel, shape.width)
    return shape.cell_row[row] * (shape.width // shape.factor) + column // shape.factor


@numba.njit(nogil=True, cache=True, error_model="numpy")
def unit_cells(planes, base, codes, shape, cells):  # type: ignore[no-untyped-def]
    """Write the unit's mean probabilities, renormalised, and the label of each cell.

    Pixels that take part in nothing are left out; a cell of nothing else is `VOID`.
    """
    lowest = codes[0]
    for i in range(codes.size):
        lowest = min(lowest, codes[i])
    all_valid = lowest >= 0
    num_classes, end = planes.shape[0], base + codes.size
    columns, halves = cells.columns, cells.halves
    if all_valid:
        cells.valid[:] = shape.pixels // shape.cells
    else:
        _sum_plane(cells.ones, codes, all_valid, shape, columns, halves, cells.valid)
    _sum_plane(codes, codes, all_valid, shape, columns, halves, cells.label_sum)
    for k in range(num_classes):
        plane = planes[k, base:end]
        _sum_plane(plane, codes, all_valid, shape, columns, halves, cells.sums[k])
    total = cells.score
    total[:] = 0.0
    for k in range(num_classes):
        for cell in range(shape.cells):
            total[cell] += cells.sums[k, cell]
    for k in range(num_classes):
        for cell in range(shape.cells):
            cells.planes[k, cell] = cells.sums[k, cell] / total[cell]
    for cell in range(shape.cells):
        mean = np.rint(cells.label_sum[cell] / cells.valid[cell])
        cells.codes[cell] = np.int32(mean) if cells.valid[cell] > 0 else -1
    if cells.votes.size:
        _vote(codes, shape, cells.votes)
        for cell in range(shape.cells):
            if cells.valid[cell] > 0:
                cells.codes[cell] = np.argmax(cells.votes[:, cell])
