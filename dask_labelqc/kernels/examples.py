"""One pass over a block of predictions of examples, (N, K) in rows: scores, counts, candidates.

The highest probability of a row is looked for among its bit patterns: those of numbers that are
not negative order as the numbers do, NaN lies above all of them, and the compiler turns a maximum
of integers into SIMD instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.fixed_point import fixed_point
from dask_labelqc.kernels.labels import smallest_unsigned
from dask_labelqc.kernels.predictions import as_indices
from dask_labelqc.kernels.tiles import PROBABILITY_TOLERANCE, first_bad
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = [
    "CONFIDENCE_WEIGHTED_ENTROPY",
    "NORMALIZED_MARGIN",
    "SELF_CONFIDENCE",
    "ExampleScan",
    "ExampleScanOptions",
    "adjusted_self_confidence",
    "scan_examples",
]

SELF_CONFIDENCE, NORMALIZED_MARGIN, CONFIDENCE_WEIGHTED_ENTROPY = range(3)
LOWEST_DIVISOR = 1e-6
"""What cleanlab divides by at the least in the entropy score."""

RUN_BYTES = 2**21
"""Predictions that are decoded at a time: they stay in the cache for the scan."""

# Slots of `ExampleScan.facts`.
BAD_ROW, BAD_REASON, WORST_SUM_ROW, CANDIDATES = range(4)


@dataclass(frozen=True)
class ExampleScanOptions:
    """What `scan_examples` computes.

    Attributes
    ----------
    method
        `SELF_CONFIDENCE`, `NORMALIZED_MARGIN` or `CONFIDENCE_WEIGHTED_ENTROPY`.
    bound
        Examples that agree with the prediction are candidates up to this score; those that
        disagree always are.
    thresholds
        float64 (K,) that are subtracted from the probabilities before scoring by the margin.
    totals
        Also note the sum of each candidate's probabilities, the same to the bit everywhere.
    """

    method: int
    bound: float
    thresholds: Floats | None = None
    totals: bool = False


class ExampleScan(NamedTuple):
    """What `scan_examples` found; the buffers that the compiled code fills.

    Attributes
    ----------
    class_sum, class_count
        int64 (K,): the self-confidence of the examples labelled k, in units of 1 /
        `FIXED_POINT`, and their number.
    position, score, self_confidence, confidence, given, predicted, total
        (C,): the candidates, their row, score, s, m, y, a, and the sum of the row (or nothing).
    facts
        int64: the first unusable row (-1 if there is none), the reason, the row whose sum is
        farthest from one, and C.
    worst_sum
        float64: how far that sum is from one, and the sum.
    """

    class_sum: Ints
    class_count: Ints
    position: Ints
    score: Floats
    self_confidence: Floats
    confidence: Floats
    given: Ints
    predicted: Ints
    total: Floats
    facts: Ints
    worst_sum: Floats


# Rows are passed as (array, index): a view of each would cost more than the arithmetic of a row.


@compiled(fastmath={"reassoc", "nsz"})
def _sweep(rows, bits, i):  # type: ignore[no-untyped-def]
    """Return the bits of the highest probability of a row, all sign bits, and the sum.

    The order of the additions depends on the processor: the sum is to be checked, not used.
    """
    top, signs, total = bits[i, 0], bits[i, 0], rows.dtype.type(0)
    for k in range(rows.shape[1]):
        value = bits[i, k]
        top = value if value > top else top
        signs |= value
        total += rows[i, k]
    return top, signs, total


@compiled
def _lowest(bits, i, top):  # type: ignore[no-untyped-def]
    """Return the lowest class that has these bits."""
    last = np.int32(bits.shape[1])
    first = last
    for k in range(bits.shape[1]):
        here = np.int32(k) if bits[i, k] == top else last
        first = here if here < first else first
    return first


@compiled
def _total(rows, i):  # type: ignore[no-untyped-def]
    """Return the sum of a row in float64, in partial sums of a fixed order."""
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0.0
    whole = rows.shape[1] // 8 * 8
    for k in range(0, whole, 8):
        t0 += rows[i, k]
        t1 += rows[i, k + 1]
        t2 += rows[i, k + 2]
        t3 += rows[i, k + 3]
        t4 += rows[i, k + 4]
        t5 += rows[i, k + 5]
        t6 += rows[i, k + 6]
        t7 += rows[i, k + 7]
    total = ((t0 + t4) + (t1 + t5)) + ((t2 + t6) + (t3 + t7))
    for k in range(whole, rows.shape[1]):
        total += rows[i, k]
    return total


@compiled
def _margin(rows, bits, i, code, predicted):  # type: ignore[no-untyped-def]
    """Return (s - max of the others + 1) / 2 in the precision of the row."""
    other = rows[i, predicted]
    if predicted == code:
        top = bits[i, 0] if code > 0 else bits[i, 1]
        for k in range(code):
            top = bits[i, k] if bits[i, k] > top else top
        for k in range(code + 1, rows.shape[1]):
            top = bits[i, k] if bits[i, k] > top else top
        other = rows[i, _lowest(bits, i, top)]
    one = rows.dtype.type(1)
    return (rows[i, code] - other + one) / rows.dtype.type(2)


@compiled
def _adjusted_margin(rows, i, code, thresholds, highest, total):  # type: ignore[no-untyped-def]
    """Return the margin after thresholds were subtracted and the row was normalised again."""
    other = -np.inf
    for k in range(rows.shape[1]):
        value = np.float64(rows[i, k]) - thresholds[k]
        if k != code and value > other:
            other = value
    own = np.float64(rows[i, code]) - thresholds[code]
    return ((own + highest) / total - (other + highest) / total + 1.0) / 2.0


@compiled
def _entropy_score(rows, i, code):  # type: ignore[no-untyped-def]
    """Return log(1 + e) / e, e the normalised entropy of a row divided by its self-confidence."""
    entropy = 0.0
    for k in range(rows.shape[1]):
        value = np.float64(rows[i, k])
        if 0 < value < 1:  # above one by a rounding error it would take from the entropy
            entropy -= value * math.log(value)
    confidence = max(np.float64(rows[i, code]), LOWEST_DIVISOR)
    ratio = entropy / math.log(rows.shape[1]) / confidence
    return math.log(ratio + 1.0) / max(ratio, LOWEST_DIVISOR)


@compiled
def _scan_rows(rows, bits, codes, start, method, bound, thresholds, out):  # type: ignore[no-untyped-def]
    """Scan rows of a block; `start` is the place of the first one in the block."""
    count = out.facts[CANDIDATES]
    adjusting = thresholds.size > 0
    exact = adjusting or out.total.size > 0
    highest = thresholds.max() if adjusting else 0.0
    shift = highest * rows.shape[1] - thresholds.sum()
    for i in range(rows.shape[0]):
        code = codes[i]
        if code < 0:
            continue
        top, signs, quick_total = _sweep(rows, bits, i)
        total = _total(rows, i) if exact else np.float64(quick_total)
        predicted = _lowest(bits, i, top)
        confidence, own = rows[i, predicted], rows[i, code]
        if signs < 0 or not confidence <= 1 + PROBABILITY_TOLERANCE or total == 0:
            place, reason = first_bad(rows[i : i + 1].T, 0, 1, codes[i : i + 1])
            if place == 0:
                out.facts[BAD_ROW] = start + i
                out.facts[BAD_REASON] = reason
                return
        deviation = abs(total - 1.0)
        if deviation > out.worst_sum[0]:
            out.worst_sum[0] = deviation
            out.worst_sum[1] = total
            out.facts[WORST_SUM_ROW] = start + i
        out.class_sum[code] += fixed_point(np.float64(own))
        out.class_count[code] += 1
        score = out.score.dtype.type(own)
        if method == NORMALIZED_MARGIN:
            if adjusting:
                score = _adjusted_margin(rows, i, code, thresholds, highest, total + shift)
            else:
                score = _margin(rows, bits, i, code, predicted)
        elif method == CONFIDENCE_WEIGHTED_ENTROPY:
            score = _entropy_score(rows, i, code)
        if predicted != code or score <= bound:
            out.position[count] = start + i
            out.score[count] = score
            out.self_confidence[count] = own
            out.confidence[count] = confidence
            out.given[count] = code
            out.predicted[count] = predicted
            if out.total.size > 0:
                out.total[count] = total
            count += 1
    out.facts[CANDIDATES] = count


def scan_examples(
    stored: AnyArray, codes: Ints, options: ExampleScanOptions, table: Floats | None = None
) -> ExampleScan:
    """Scan a block of predictions once, up to the first row that cannot be used.

    Parameters
    ----------
    stored
        (n, K) of any layout: float32, float64, or codes to look up in `table`.
    codes
        int32 (n,), from `encode_labels`: classes, or negative where a row takes part in nothing.
    options
        What to compute.
    table
        float32: the probability that each code of an integer (or float16) means.

    See Also
    --------
    dask_labelqc.kernels.summary.scan_block : the same for images.
    """
    num_rows, num_classes = stored.shape
    dtype = stored.dtype if table is None else table.dtype
    thresholds = np.zeros(0) if options.thresholds is None else options.thresholds
    out = _outputs(num_rows, num_classes, dtype, options)
    for start, found in _decoded(stored, table):
        rows = found.view()
        rows.flags.writeable = False  # the same code for memory maps as for all other arrays
        bits = rows.view(f"i{dtype.itemsize}")
        here = codes[start : start + rows.shape[0]]
        _scan_rows(rows, bits, here, start, options.method, options.bound, thresholds, out)
        if out.facts[BAD_REASON] != 0:
            break
    return _trimmed(out)


def adjusted_self_confidence(
    self_confidence: Floats, given: Ints, total: Floats, thresholds: Floats
) -> Floats:
    """Return s after thresholds were subtracted and the rows were normalised again.

    Parameters
    ----------
    self_confidence, given, total
        (n,): s, the class it belongs to, and the sum of the row.
    thresholds
        float64 (K,).

    Examples
    --------
    >>> adjusted_self_confidence(np.array([0.5]), np.array([1]), np.ones(1), np.array([0.8, 0.6]))
    array([0.58333333])
    """
    highest = thresholds.max()
    shift = highest * thresholds.size - thresholds.sum()
    adjusted: Floats = (self_confidence - thresholds[given] + highest) / (total + shift)
    return adjusted


def _decoded(stored: AnyArray, table: Floats | None) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, rows) of C-contiguous probabilities."""
    if table is None and stored.flags.c_contiguous:
        yield 0, stored
        return
    itemsize = stored.itemsize if table is None else table.itemsize
    step = max(RUN_BYTES // (itemsize * stored.shape[1]), 1)
    for start in range(0, stored.shape[0], step):
        rows = np.ascontiguousarray(stored[start : start + step])
        yield start, rows if table is None else table[as_indices(rows)]


def _outputs(
    num_rows: int, num_classes: int, dtype: np.dtype[np.generic], options: ExampleScanOptions
) -> ExampleScan:
    """Allocate for the worst case; memory that is never touched is never used."""
    class_dtype = smallest_unsigned(num_classes)
    plain = options.method != CONFIDENCE_WEIGHTED_ENTROPY and options.thresholds is None
    score_dtype = dtype if plain else np.float64
    return ExampleScan(
        class_sum=np.zeros(num_classes, np.int64),
        class_count=np.zeros(num_classes, np.int64),
        position=np.empty(num_rows, np.int64),
        score=np.empty(num_rows, score_dtype),
        self_confidence=np.empty(num_rows, dtype),
        confidence=np.empty(num_rows, dtype),
        given=np.empty(num_rows, class_dtype),
        predicted=np.empty(num_rows, class_dtype),
        total=np.empty(num_rows if options.totals else 0),
        facts=np.array([-1, 0, -1, 0]),
        worst_sum=np.array([0.0, 1.0]),
    )


CANDIDATE_ARRAYS = (
    "position",
    "score",
    "self_confidence",
    "confidence",
    "given",
    "predicted",
    "total",
)


def _trimmed(out: ExampleScan) -> ExampleScan:
    """Copy what was filled of the lists, so that the rest is given back."""
    count = out.facts[CANDIDATES]
    return out._replace(**{name: getattr(out, name)[:count].copy() for name in CANDIDATE_ARRAYS})
