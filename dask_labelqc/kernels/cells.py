"""Downsampling: the pixels of a unit (whole rows of the image) averaged to cells.

A unit is the pixels that share one row of cells along the leading spatial axis: contiguous in
the flattened image, R rows of the last axis. `Geometry` says which cells they fall into.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dask_labelqc.kernels.compiled import compiled_within
from dask_labelqc.kernels.tiles import scan
from dask_labelqc.typing import BoolArray, Floats, Ints, Shape

__all__ = ["CellScratch", "Geometry", "cell_scratch", "geometry", "scan_unit"]


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
    sums: Floats  # float64 (K, cells)
    planes: Floats  # (K, cells), the dtype of the probabilities
    ones: Ints  # int32 (pixels,)
    valid: Floats  # float64 (cells,): pixels that take part
    label_sum: Floats  # float64 (cells,)
    sum_of_means: Floats  # float64 (cells,)
    votes: Ints  # (K, cells), or (K, 0) where labels are averaged
    codes: Ints  # int32 (cells,)
    place: Ints  # (cells,): the ordinal of the candidate, -1 for none
    best: Floats
    arg: Ints
    total: Floats
    score: Floats  # the dtype of the probabilities


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
        sums=np.empty((num_classes, cells)),
        planes=planes,
        ones=np.ones(geometry.pixels, np.int32),
        valid=np.empty(cells),
        label_sum=np.empty(cells),
        sum_of_means=np.empty(cells),
        votes=np.empty((num_classes, cells if majority else 0), np.int64),
        codes=np.empty(cells, np.int32),
        place=np.empty(cells, np.int64),
        best=np.empty(cells, dtype),
        arg=np.empty(cells, np.int32),
        total=np.empty(cells, dtype),
        score=np.empty(cells, dtype),
    )


@compiled_within
def _sum_plane(values, codes, all_valid, shape, columns, result):  # type: ignore[no-untyped-def]
    """Add up, in float64, the values of the pixels of each cell that take part.

    First the rows of pixels that share a row of cells, then neighbours pair by pair while their
    number is even. One function of plain loops: SIMD, and no arrays handed on for each few rows.
    """
    # Four rows at a time take 2.3 instead of 3.2 ns a pixel of 21 classes where eight share a
    # cell; where four do, 3.1 and 3.0, but rounded in the same order as eight.
    width = shape.width
    row, rows = 0, shape.cell_row.size
    while row < rows:
        target, begins = columns[shape.cell_row[row]], shape.begins[row]
        r0 = values[row * width : (row + 1) * width]
        if all_valid and shape.factor % 4 == 0 and row + 4 <= rows:
            r1 = values[(row + 1) * width : (row + 2) * width]
            r2 = values[(row + 2) * width : (row + 3) * width]
            r3 = values[(row + 3) * width : (row + 4) * width]
            if begins:
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
            continue
        if begins:
            target[:] = 0.0
        if all_valid:
            for i in range(width):
                target[i] += np.float64(r0[i])
        else:
            here = codes[row * width : (row + 1) * width]
            for i in range(width):
                target[i] += np.float64(r0[i]) if here[i] >= 0 else 0.0
        row += 1
    row_cells = width // shape.factor
    for cell_row in range(columns.shape[0]):
        sums, factor, length = columns[cell_row], shape.factor, width
        while factor % 2 == 0 and factor > 4:
            factor, length = factor // 2, length // 2
            for i in range(length):
                sums[i] = sums[2 * i] + sums[2 * i + 1]
        target = result[cell_row * row_cells : (cell_row + 1) * row_cells]
        if factor == 4:
            for i in range(row_cells):
                target[i] = (sums[4 * i] + sums[4 * i + 1]) + (sums[4 * i + 2] + sums[4 * i + 3])
        elif factor == 2:
            for i in range(row_cells):
                target[i] = sums[2 * i] + sums[2 * i + 1]
        else:
            for i in range(row_cells):
                target[i] = sums[i * factor]
                for j in range(1, factor):
                    target[i] += sums[i * factor + j]


@compiled_within
def _vote(codes, shape, votes):  # type: ignore[no-untyped-def]
    """Count the labels of each cell."""
    votes[:] = 0
    for pixel in range(codes.size):
        if codes[pixel] >= 0:
            votes[codes[pixel], cell_of(pixel, shape)] += 1


@compiled_within
def cell_of(pixel, shape):  # type: ignore[no-untyped-def]
    """Return the cell of a pixel of the unit."""
    row, column = divmod(pixel, shape.width)
    return shape.cell_row[row] * (shape.width // shape.factor) + column // shape.factor


@compiled_within
def scan_unit(planes, base, codes, shape, best, arg, total, cells):  # type: ignore[no-untyped-def]
    """Scan the pixels of a unit, and average its cells: their probabilities and label.

    A few planes at a time. Planes a power of two apart share the places of a cache, which has
    fewer of them than there are classes: after a scan of all the first ones would be gone.
    """
    all_valid = _begin_cells(codes, shape, cells)
    num_classes, length = planes.shape[0], codes.size
    first, signs = 0, np.int64(0)
    while first < num_classes:
        stop = min(first + (5 if first == 0 else 4), num_classes)  # four at a time, as there
        signs |= scan(planes, first, stop, base, length, best, arg, total)
        for k in range(first, stop):
            plane = planes[k, base : base + length]
            _sum_plane(plane, codes, all_valid, shape, cells.columns, cells.sums[k])
        first = stop
    _finish_cells(codes, shape, cells)
    return signs


@compiled_within
def _begin_cells(codes, shape, cells):  # type: ignore[no-untyped-def]
    """Count the pixels of each cell and add up their labels; return whether all take part."""
    lowest = codes[0]
    for i in range(codes.size):
        lowest = min(lowest, codes[i])
    all_valid = lowest >= 0
    if all_valid:
        cells.valid[:] = shape.pixels // shape.cells
    else:
        _sum_plane(cells.ones, codes, all_valid, shape, cells.columns, cells.valid)
    _sum_plane(codes, codes, all_valid, shape, cells.columns, cells.label_sum)
    return all_valid


@compiled_within
def _finish_cells(codes, shape, cells):  # type: ignore[no-untyped-def]
    """Write the unit's mean probabilities, renormalised, and the label of each cell.

    Pixels that take part in nothing are left out; a cell of nothing else is `VOID`.
    """
    num_classes, total = cells.sums.shape[0], cells.sum_of_means
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
