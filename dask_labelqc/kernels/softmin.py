"""The softmin score of an image as a streaming (lowest, sum, weighted sum).

``softmin(s) = sum_i s_i w_i`` with ``w = softmax((1 - s) / T)``. Relative to the lowest score
seen so far the weight of a pixel is ``exp((lowest - s_i) / T)``, so two parts of an image
combine by rescaling the one with the higher minimum.
"""

from __future__ import annotations

import math

import numpy as np

from dask_labelqc.kernels.compiled import compiled, compiled_within
from dask_labelqc.typing import Floats

__all__ = [
    "LANES",
    "accumulate_softmin",
    "combine_softmin",
    "empty_softmin",
    "exp_nonpositive",
    "finalize_softmin",
]

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
ROUND_TO_INTEGER = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the integer in the low bits
LOWEST_EXPONENT = -700.0  # exp of anything lower is zero for every purpose here


LANES = 32
"""Partial sums, in a fixed order: the same bits on every machine, and SIMD from 32 on."""


@compiled_within
def exp_nonpositive(x, result, scratch):  # type: ignore[no-untyped-def]
    """Write exp(x) to `result` for x <= 0, to 1e-15; loops that the compiler turns into SIMD."""
    bits = scratch.view(np.int64)
    for i in range(x.size):
        value = LOWEST_EXPONENT if x[i] < LOWEST_EXPONENT else x[i]  # NaN stays
        shifted = value * LOG2_E + ROUND_TO_INTEGER
        power = shifted - ROUND_TO_INTEGER
        r = value - power * LN2_HIGH - power * LN2_LOW
        # Taylor series to r**12, |r| <= ln(2) / 2; in pairs, so that few steps wait for another.
        r2 = r * r
        r4 = r2 * r2
        low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6.0))
        middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
        high = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * (
            1.0 / 3628800.0 + r * (1.0 / 39916800.0) + r2 * (1.0 / 479001600.0)
        )
        scratch[i] = shifted
        result[i] = low + r4 * (middle + r4 * high)
    for i in range(x.size):
        bits[i] = (bits[i] << 52) + (1023 << 52)
    for i in range(x.size):
        result[i] *= scratch[i]


@compiled_within
def _accumulate(scores, scale, state, exponents, weights, helper, lanes):  # type: ignore[no-untyped-def]
    """Add pixels to `state`, the (lowest, sum, weighted sum) of their image.

    `scores` is float64 with +inf at pixels that take part in nothing, and at the padding to a
    multiple of `LANES`. Plain loops: what NumPy has for them takes a second to compile.
    """
    lows, totals, weighted = lanes[0], lanes[1], lanes[2]
    for lane in range(LANES):
        lows[lane], totals[lane], weighted[lane] = state[0], 0.0, 0.0
    for start in range(0, scores.size, LANES):
        part = scores[start : start + LANES]
        for lane in range(LANES):
            lows[lane] = part[lane] if part[lane] < lows[lane] else lows[lane]
    lowest = state[0]
    for lane in range(LANES):
        lowest = min(lowest, lows[lane])
    if lowest == np.inf:
        return
    for i in range(scores.size):
        exponents[i] = (lowest - scores[i]) * scale
    exp_nonpositive(exponents, weights, helper)
    for start in range(0, scores.size, LANES):
        part, part_weights = scores[start : start + LANES], weights[start : start + LANES]
        for lane in range(LANES):
            takes_part = part[lane] < np.inf
            weight = part_weights[lane] if takes_part else 0.0
            totals[lane] += weight
            weighted[lane] += weight * (part[lane] if takes_part else 0.0)
    total, weighted_total = 0.0, 0.0
    for lane in range(LANES):
        total += totals[lane]
        weighted_total += weighted[lane]
    rescale = math.exp((lowest - state[0]) * scale) if state[1] > 0 else 0.0
    state[0] = lowest
    state[1] = state[1] * rescale + total
    state[2] = state[2] * rescale + weighted_total


@compiled
def _accumulate_images(scores, temperature, states, wide, lanes):  # type: ignore[no-untyped-def]
    length = wide.shape[1] - LANES
    for image in range(scores.shape[0]):
        row = scores[image]
        for start in range(0, row.size, length):
            count = min(length, row.size - start)
            padded = (count + LANES - 1) // LANES * LANES
            values = wide[0, :padded]
            for i in range(count):
                value = row[start + i]
                values[i] = value if value == value else np.inf
            for i in range(count, padded):
                values[i] = np.inf
            parts = wide[1, :padded], wide[2, :padded], wide[3, :padded]
            _accumulate(values, 1.0 / temperature, states[image], *parts, lanes)


def accumulate_softmin(scores: Floats, temperature: float, states: Floats, tile: int) -> None:
    """Add the scores (n, S) of images to their states (n, 3), `tile` pixels at a time.

    NaN takes no part. The sums are those of tiles, whose length is so a part of the answer's last
    bits.
    """
    wide = np.empty((4, tile + LANES))
    _accumulate_images(scores, temperature, states, wide, np.empty((3, LANES)))


def empty_softmin(num_images: int) -> Floats:
    """Return the state of images that no pixel was added to, float64 (N, 3)."""
    return np.tile(np.array([np.inf, 0.0, 0.0]), (num_images, 1))


def combine_softmin(a: Floats, b: Floats, temperature: float) -> Floats:
    """Combine the states (..., 3) of two parts of the same images.

    Examples
    --------
    >>> state = np.array([[0.25, 1.0, 0.25]])
    >>> combine_softmin(state, empty_softmin(1), 0.1)
    array([[0.25, 1.  , 0.25]])
    """
    lowest = np.minimum(a[..., 0], b[..., 0])
    combined = np.zeros_like(a)
    combined[..., 0] = lowest
    for part in (a, b):
        seen = part[..., 1] > 0
        gap = np.subtract(lowest, part[..., 0], where=seen, out=np.zeros_like(lowest))
        combined[..., 1:] += part[..., 1:] * np.exp(gap / temperature)[..., None]
    return combined


def finalize_softmin(state: Floats) -> Floats:
    """Return the scores (...,) of finished states; NaN where every pixel of an image is void."""
    total = state[..., 1]
    scores = np.full(total.shape, np.nan)
    np.divide(state[..., 2], total, where=total > 0, out=scores)
    return scores
