"""One pass over a block of predictions: everything that the audit will ever need of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dask_labelqc.kernels.cells import Geometry, cell_scratch, geometry, scan_unit
from dask_labelqc.kernels.compiled import bits_of, compiled, compiled_within
from dask_labelqc.kernels.fixed_point import fixed_point
from dask_labelqc.kernels.labels import smallest_unsigned
from dask_labelqc.kernels.predictions import decoded_runs
from dask_labelqc.kernels.softmin import accumulate_softmin, empty_softmin
from dask_labelqc.kernels.tiles import (
    PROBABILITY_TOLERANCE,
    TILE,
    first_bad,
    gather,
    scan,
)
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

__all__ = [
    "BAD_PIXEL",
    "BAD_REASON",
    "WORST_SUM_PIXEL",
    "BlockScan",
    "ScanOptions",
    "empty_outputs",
    "finish_pixels",
    "scan_block",
    "tally",
    "trimmed",
]

# Slots of `BlockScan.facts`.
BAD_PIXEL, BAD_REASON, WORST_SUM_PIXEL, CANDIDATES, PIXELS, AGREEING = range(6)


@dataclass(frozen=True)
class ScanOptions:
    """What `scan_block` computes.

    Attributes
    ----------
    bound
        Pixels that agree with the prediction are candidates up to this score; those that
        disagree always are.
    temperature
        Of the softmin; infinity leaves the image scores out.
    from_logits
        The predictions are logits, to be put through a softmax.
    check
        Look for probabilities that are not finite, outside [0, 1], or all zero.
    scores, predicted
        Write the dense self-confidence, the dense predicted class.
    factors
        Of the downsampling, one for each spatial axis.
    majority
        Downsample labels by the most frequent class instead of the mean of the class ids.
    candidates
        Find candidates and sum up classes; otherwise only scores, image scores and checks.
    """

    bound: float
    temperature: float = 0.1
    from_logits: bool = False
    check: bool = True
    scores: bool = False
    predicted: bool = False
    factors: Shape = ()
    majority: bool = False
    candidates: bool = True


class BlockScan(NamedTuple):
    """What `scan_block` found; the buffers that the compiled code fills.

    Attributes
    ----------
    class_sum, class_count
        int64 (K,): the self-confidence of the cells labelled k, in units of 1 / `FIXED_POINT`,
        and their number. A cell is a pixel unless the block is downsampled.
    pixel_count
        int64 (K,): full-size pixels labelled k.
    softmin
        The state of `kernels.softmin`: int64 (n, 4), or float64 (n, 3) of low temperatures.
    image_count
        int64 (n,): full-size pixels of each image that take part.
    position, score, confidence, given, predicted
        (C,): the candidates that disagree, flat position in the block's grid of cells; of a
        downsampled block all candidates.
    agreeing
        (A,): the scores of the candidates that agree, of a block that is not downsampled: they
        are never issues, and only take up ranks.
    pixel_cell, pixel_position, pixel_given, pixel_predicted
        (D,): when downsampling, the full-size pixels of the candidates that disagree with their
        prediction; `pixel_cell` is the ordinal of the candidate.
    dense_score, dense_predicted
        (n, S), or of size zero if not asked for.
    facts
        int64: the first unusable pixel (-1 if there is none), the reason, the pixel whose
        probabilities' sum is farthest from one, and C, D and A.
    worst_sum
        float64: how far that sum is from one, and the sum.
    """

    class_sum: Ints
    class_count: Ints
    pixel_count: Ints
    softmin: AnyArray
    image_count: Ints
    position: Ints
    score: Floats
    confidence: Floats
    given: Ints
    predicted: Ints
    agreeing: Floats
    pixel_cell: Ints
    pixel_position: Ints
    pixel_given: Ints
    pixel_predicted: Ints
    dense_score: Floats
    dense_predicted: Ints
    facts: Ints
    worst_sum: Floats

    @property
    def unusable(self) -> tuple[int, int]:
        """The first unusable pixel, -1 if there is none, and the reason."""
        return int(self.facts[BAD_PIXEL]), int(self.facts[BAD_REASON])

    @property
    def worst_sum_pixel(self) -> int:
        """Flat position in the block; see `worst_sum`."""
        return int(self.facts[WORST_SUM_PIXEL])


class Tile(NamedTuple):
    """Scratch space for one tile of at most P pixels."""

    best: Floats  # (P,)
    arg: Ints  # (P,)
    total: Floats  # (P,)
    score: Floats  # (P,)
    limits: Ints  # the bits of 1, of the highest probability allowed, of infinity
    seen: Ints  # the bits of the lowest and the highest sum of a block so far


PIXELWISE = Geometry(TILE, TILE, TILE, 1, np.zeros(0, np.int64), np.zeros(0, np.bool_))


@compiled_within
def _check(planes, base, length, codes, tile, signs, position, out):  # type: ignore[no-untyped-def]
    """Note the first unusable pixel and the worst sum of a tile.

    Positive numbers are in the order of their bits, and integers have SIMD minima: only a tile
    with a sum beyond those seen, or with something unusable, is looked at pixel by pixel.
    """
    one, above_one, infinity = tile.limits[0], tile.limits[1], tile.limits[2]
    low, high, top = one, one, one
    for i in range(length):
        total = bits_of(tile.total[i]) if codes[i] >= 0 else one
        best = bits_of(tile.best[i]) if codes[i] >= 0 else one
        low = total if total < low else low
        high = total if total > high else high
        top = best if best > top else top
    if signs < 0 or low <= 0 or high >= infinity or top > above_one:
        place, reason = first_bad(planes, base, length, codes)
        if reason != 0 and out.facts[BAD_REASON] == 0:
            out.facts[BAD_PIXEL] = position + place
            out.facts[BAD_REASON] = reason
    if low < tile.seen[0] or high > tile.seen[1]:
        tile.seen[0] = low if low < tile.seen[0] else tile.seen[0]
        tile.seen[1] = high if high > tile.seen[1] else tile.seen[1]
        for i in range(length):
            deviation = abs(np.float64(tile.total[i]) - 1.0)
            if codes[i] >= 0 and deviation > out.worst_sum[0]:
                out.worst_sum[0] = deviation
                out.worst_sum[1] = tile.total[i]
                out.facts[WORST_SUM_PIXEL] = position + i


@compiled_within
def tally(length, first, codes, best, arg, score, bound, out):  # type: ignore[no-untyped-def]
    """Add the cells of a tile to the class sums, and append the candidates.

    Where `out` has a list for those that agree they go there, by their scores alone.
    """
    count, agreeing = out.facts[CANDIDATES], out.facts[AGREEING]
    listed = out.agreeing.size > 0
    for i in range(length):
        code = codes[i]
        if code < 0:
            continue
        s = np.float64(score[i])
        out.class_sum[code] += fixed_point(s)
        out.class_count[code] += 1
        agrees = arg[i] == code
        if agrees and not s <= bound:
            continue
        if agrees and listed:
            out.agreeing[agreeing] = s + 0.0  # -0.0 becomes 0.0
            agreeing += 1
            continue
        out.position[count] = first + i
        out.score[count] = s
        out.confidence[count] = best[i]
        out.given[count] = code
        out.predicted[count] = arg[i]
        count += 1
    out.facts[CANDIDATES], out.facts[AGREEING] = count, agreeing


@compiled_within
def finish_pixels(image, start, length, codes, arg, out):  # type: ignore[no-untyped-def]
    """Count the pixels of a tile that take part, and write their predicted classes."""
    taking_part = 0
    for i in range(length):
        taking_part += codes[i] >= 0
    out.image_count[image] += taking_part
    if out.dense_predicted.size:
        for i in range(length):
            out.dense_predicted[image, start + i] = arg[i]


@compiled
def _scan_run(  # type: ignore[no-untyped-def]
    planes, codes, images, offset, length, size, options, shape, tile, cells, out
):
    """Scan columns `offset` to `offset + length` of the images, whose first is image `images`."""
    bound, tallied, check = options
    for n in range(planes.shape[0]):
        image = images + n
        for base in range(0, length, shape.pixels):
            count = min(shape.pixels, length - base)
            start = offset + base
            position = image * size + start
            here = codes[image, start : start + count]
            best, arg, total = tile.best, tile.arg, tile.total
            if cells is None:
                signs = scan(planes[n], 0, planes.shape[1], base, count, best, arg, total)
            else:
                signs = scan_unit(planes[n], base, here, shape, best, arg, total, cells)
            if check:
                _check(planes[n], base, count, here, tile, signs, position, out)
            dense = out.dense_score.size > 0
            score = out.dense_score[image, start : start + count] if dense else tile.score
            if cells is None or dense:
                gather(planes[n], base, count, here, score)
            if cells is not None:
                first_cell = position // shape.pixels * shape.cells
                _scan_cells(here, first_cell, position, bound, shape, arg, cells, out)
            elif tallied:
                tally(count, position, here, best, arg, score, bound, out)
            finish_pixels(image, start, count, here, arg, out)


@compiled_within
def _scan_cells(codes, first_cell, first_pixel, bound, shape, arg, cells, out):  # type: ignore[no-untyped-def]
    """Tally the cells of a unit and list the disagreeing pixels of those that are candidates."""
    scan(cells.planes, 0, cells.planes.shape[0], 0, shape.cells, cells.best, cells.arg, cells.total)
    gather(cells.planes, 0, shape.cells, cells.codes, cells.score)
    ordinal = out.facts[CANDIDATES]
    tally(shape.cells, first_cell, cells.codes, cells.best, cells.arg, cells.score, bound, out)
    cells.place[:] = -1
    for candidate in range(ordinal, out.facts[CANDIDATES]):
        cells.place[out.position[candidate] - first_cell] = candidate
    _count_labels(codes, out.pixel_count)
    row_cells = shape.width // shape.factor
    for row in range(shape.cell_row.size):
        for column in range(row_cells):
            candidate = cells.place[shape.cell_row[row] * row_cells + column]
            if candidate >= 0:
                start = row * shape.width + column * shape.factor
                _list_pixels(start, shape.factor, candidate, first_pixel, codes, arg, out)


@compiled_within
def _count_labels(codes, count):  # type: ignore[no-untyped-def]
    """Count the labels; images have long runs of one label, which are added at once."""
    label, run = codes[0], 0
    for i in range(codes.size):
        if codes[i] != label:
            if label >= 0:
                count[label] += run
            label, run = codes[i], 0
        run += 1
    if label >= 0:
        count[label] += run


@compiled_within
def _list_pixels(start, length, candidate, first_pixel, codes, arg, out):  # type: ignore[no-untyped-def]
    """List those of a row of a candidate's pixels that disagree with their prediction."""
    count = out.facts[PIXELS]
    for i in range(start, start + length):
        if codes[i] >= 0 and arg[i] != codes[i]:
            out.pixel_cell[count] = candidate
            out.pixel_position[count] = first_pixel + i
            out.pixel_given[count] = codes[i]
            out.pixel_predicted[count] = arg[i]
            count += 1
    out.facts[PIXELS] = count


def scan_block(
    stored: AnyArray,
    codes: Ints,
    options: ScanOptions,
    table: Floats | None = None,
    edges: Ints | None = None,
) -> BlockScan:
    """Scan a block of predictions once.

    Parameters
    ----------
    stored
        C-contiguous (n, K, *spatial): float32, float64, or indices of `table`.
    codes
        int32 (n, *spatial) from `encode_labels`.
    options
        What to compute.
    table
        float32: the probability that each integer (or float16, seen as uint16) means.
    edges
        Of a block (1, K, S) of several images: where each begins, and S.

    See Also
    --------
    dask_labelqc.kernels.labels.encode_labels, dask_labelqc.kernels.predictions.decoding_table
    """
    num_images, num_classes, *spatial = stored.shape
    size = math.prod(spatial)
    dtype = stored.dtype if table is None else table.dtype
    downsampling = options.candidates and any(f > 1 for f in options.factors)
    shape = geometry(tuple(spatial), options.factors) if downsampling else PIXELWISE
    cells = cell_scratch(shape, num_classes, dtype, options.majority) if downsampling else None
    tile = _tile(shape.pixels, dtype)
    out = empty_outputs(num_images, num_classes, size, dtype, options, downsampling)
    plain = (options.bound, options.candidates, options.check)
    flat, flat_codes = (
        stored.reshape(num_images, num_classes, size),
        codes.reshape(num_images, size),
    )
    if table is None and not options.from_logits:
        _scan_run(flat, flat_codes, 0, 0, size, size, plain, shape, tile, cells, out)
    else:
        for image, start, planes in decoded_runs(flat, shape.pixels, options.from_logits, table):
            run = (image, start, planes.shape[2])
            _scan_run(planes, flat_codes, *run, size, plain, shape, tile, cells, out)
    if edges is not None:
        out = out._replace(
            image_count=_taking_part(flat_codes[0], edges),
            softmin=empty_softmin(len(edges) - 1, options.temperature),
        )
    if options.temperature < math.inf:
        for images, scores in _scores_by_size(out.dense_score, edges):
            accumulate_softmin(scores, options.temperature, out.softmin[images], shape.pixels)
    return trimmed(out, downsampling)


def _taking_part(codes: Ints, edges: Ints) -> Ints:
    """Count the pixels of each image that take part; as a rule nearly all of them do."""
    void = np.flatnonzero(codes < 0)
    image = np.searchsorted(edges, void, side="right") - 1
    return np.diff(edges) - np.bincount(image, minlength=len(edges) - 1)


def _scores_by_size(scores: Floats, edges: Ints | None) -> Iterator[tuple[slice, Floats]]:
    """Yield runs of images of one size, and their scores (n, S)."""
    if edges is None:
        yield slice(None), scores
        return
    sizes = np.diff(edges)
    cuts = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    for first, stop in pairwise(cuts):
        of_run = scores[0, edges[first] : edges[stop]]
        yield slice(first, stop), of_run.reshape(stop - first, sizes[first])


def _tile(pixels: int, dtype: np.dtype[np.generic]) -> Tile:
    bits = f"i{dtype.itemsize}"
    return Tile(
        best=np.empty(pixels, dtype),
        arg=np.empty(pixels, np.int32),
        total=np.empty(pixels, dtype),
        score=np.empty(pixels, dtype),
        limits=np.array([1.0, 1.0 + PROBABILITY_TOLERANCE, np.inf], dtype).view(bits),
        seen=np.array([1.0, 1.0], dtype).view(bits),
    )


def empty_outputs(
    num_images: int,
    num_classes: int,
    size: int,
    dtype: np.dtype[np.generic],
    options: ScanOptions,
    downsampling: bool,
) -> BlockScan:
    """Allocate for the worst case; memory that is never touched is never used."""
    pixels = num_images * size
    cells = pixels // math.prod(options.factors) if options.candidates else 0
    class_dtype = smallest_unsigned(num_classes)
    listed = pixels if downsampling else 0
    scores = options.scores or options.temperature < math.inf
    return BlockScan(
        class_sum=np.zeros(num_classes, np.int64),
        class_count=np.zeros(num_classes, np.int64),
        pixel_count=np.zeros(num_classes, np.int64),
        softmin=empty_softmin(num_images, options.temperature),
        image_count=np.zeros(num_images, np.int64),
        position=np.empty(cells, np.int64),
        score=np.empty(cells, dtype),
        confidence=np.empty(cells, dtype),
        given=np.empty(cells, class_dtype),
        predicted=np.empty(cells, class_dtype),
        agreeing=np.empty(0 if downsampling else cells + 1, dtype),
        pixel_cell=np.empty(listed, np.int64),
        pixel_position=np.empty(listed, np.int64),
        pixel_given=np.empty(listed, class_dtype),
        pixel_predicted=np.empty(listed, class_dtype),
        dense_score=np.empty((num_images, size if scores else 0), dtype),
        dense_predicted=np.empty((num_images, size if options.predicted else 0), class_dtype),
        facts=np.array([-1, 0, -1, 0, 0, 0]),
        worst_sum=np.array([0.0, 1.0]),
    )


def trimmed(out: BlockScan, downsampling: bool) -> BlockScan:
    """Copy what was filled of the lists, so that the rest is given back."""
    names = ("position", "score", "confidence", "given", "predicted")
    pixel_names = ("pixel_cell", "pixel_position", "pixel_given", "pixel_predicted")
    lists = {name: getattr(out, name)[: out.facts[CANDIDATES]].copy() for name in names}
    lists |= {name: getattr(out, name)[: out.facts[PIXELS]].copy() for name in pixel_names}
    lists["agreeing"] = out.agreeing[: out.facts[AGREEING]].copy()
    if not downsampling:
        lists["pixel_count"] = out.class_count
    return out._replace(**lists)
