"""The softmin score of an image as a state to which its pixels are added, in any order.

``softmin(s) = sum_i s_i w_i / sum_i w_i`` with the weights ``w_i = exp(-s_i / T)``.

For temperatures from `LOWEST_EXACT` on both sums are kept as integers, and combining two parts of
an image adds these: the bits are the same for any order, any chunks and any machine. An integer of
64 bits does not hold the sum over an image of weights as different as 1 and exp(-20) to nine
digits; so each weight, and each weighted score, is written with two of them, as
``high / HIGH + low / LOW``. Each is off by 1 / (2 LOW) at most, and so a score by exp(1 / T) / LOW:
4e-10 at T = 0.05, 2e-14 at 0.1, whatever the image. No sum overflows below `MOST_PIXELS` pixels.

For lower temperatures the state is (lowest, sum, weighted sum) in float64: relative to the lowest
score seen so far the weight of a pixel is ``exp((lowest - s_i) / T)``, so two parts of an image
combine by rescaling the one with the higher minimum. Scores then agree to 1e-12.
"""

from __future__ import annotations

import math

import numpy as np

from dask_labelqc.kernels.compiled import compiled, compiled_within
from dask_labelqc.kernels.tiles import TILE
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = [
    "LOWEST_EXACT",
    "accumulate_softmin",
    "combine_softmin",
    "empty_softmin",
    "exp_nonpositive",
    "finalize_softmin",
]

LOWEST_EXACT = 0.05
"""From this temperature on the sums are exact."""
HIGH, LOW = 2.0**29, 2.0**60
"""The coarse and the fine part of a number are multiples of 1 / HIGH and of 1 / LOW."""
MOST_PIXELS = 2**33
"""Of an image: parts are at most 2**30, as scores of 2 or less have weights of 1 or less."""
HIGHEST_SCORE = 2.0

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
def _add_exactly(exponents, scores, weights, helper, lanes, state):  # type: ignore[no-untyped-def]
    """Add the pixels of a tile to the integers of `state`.

    The parts are whole numbers in float64, and so are their sums over a tile, without rounding: the
    compiler has SIMD for these, for integers of 64 bits not everywhere.
    """
    exp_nonpositive(exponents, weights, helper)
    for lane in range(LANES):
        lanes[0, lane] = lanes[1, lane] = lanes[2, lane] = lanes[3, lane] = 0.0
    for start in range(0, scores.size, LANES):
        part, part_weights = scores[start : start + LANES], weights[start : start + LANES]
        for lane in range(LANES):
            weight = part_weights[lane] * HIGH
            high = (weight + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
            low = ((weight - high) * (LOW / HIGH) + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
            lanes[0, lane] += high
            lanes[1, lane] += low
            product = weight * part[lane]
            coarse = (product + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
            fine = ((product - coarse) * (LOW / HIGH) + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
            lanes[2, lane] += coarse
            lanes[3, lane] += fine
    for sum_of in range(4):
        total = 0.0
        for lane in range(LANES):
            total += lanes[sum_of, lane]
        state[sum_of] += np.int64(total)


@compiled
def _accumulate_exactly(scores, temperature, states, wide, lanes):  # type: ignore[no-untyped-def]
    scale = -1.0 / temperature
    for image in range(scores.shape[0]):
        row = scores[image]
        for start in range(0, row.size, TILE):
            count = min(TILE, row.size - start)
            padded = (count + LANES - 1) // LANES * LANES
            exponents, values = wide[0, :padded], wide[1, :padded]
            tile = row[start : start + count]
            for i in range(count):
                score = np.float64(tile[i])
                value = score if score > 0.0 else 0.0
                value = value if value < HIGHEST_SCORE else HIGHEST_SCORE
                values[i] = value
                # The weight of a pixel that takes part in nothing is rounded to zero.
                exponents[i] = value * scale if score == score else LOWEST_EXPONENT
            for i in range(count, padded):
                values[i], exponents[i] = 0.0, LOWEST_EXPONENT
            parts = wide[2, :padded], wide[3, :padded]
            _add_exactly(exponents, values, parts[0], parts[1], lanes, states[image])


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


def accumulate_softmin(scores: Floats, temperature: float, states: AnyArray, tile: int) -> None:
    """Add the scores (n, S) of images to their states, from `empty_softmin`.

    NaN takes no part. The sums of low temperatures are those of tiles of `tile` pixels, whose
    length is so a part of the answer's last bits. Those of others take scores below 0 or above
    2, which are no probabilities, for 0 or 2.
    """
    if states.dtype.kind == "i":
        wide = np.empty((4, TILE))
        _accumulate_exactly(scores, temperature, states, wide, np.empty((4, LANES)))
        return
    wide = np.empty((4, tile + LANES))
    _accumulate_images(scores, temperature, states, wide, np.empty((3, LANES)))


def empty_softmin(num_images: int, temperature: float) -> AnyArray:
    """Return the state of images that no pixel was added to.

    int64 (N, 4): the coarse and the fine part of the sum of the weights, and of the weighted
    scores; float64 (N, 3) for temperatures below `LOWEST_EXACT`.

    Examples
    --------
    >>> empty_softmin(1, 0.1), empty_softmin(1, 0.01)
    (array([[0, 0, 0, 0]]), array([[inf,  0.,  0.]]))
    """
    if temperature >= LOWEST_EXACT:
        return np.zeros((num_images, 4), np.int64)
    return np.tile(np.array([np.inf, 0.0, 0.0]), (num_images, 1))


def combine_softmin(a: AnyArray, b: AnyArray, temperature: float) -> AnyArray:
    """Combine the states of two parts of the same images.

    Examples
    --------
    >>> state = np.array([[2, 0, 1, 0]])
    >>> combine_softmin(state, state, 0.1)
    array([[4, 0, 2, 0]])
    """
    if a.dtype.kind == "i":
        return a + b
    lowest = np.minimum(a[..., 0], b[..., 0])
    combined = np.zeros_like(a)
    combined[..., 0] = lowest
    for part in (a, b):
        seen = part[..., 1] > 0
        gap = np.subtract(lowest, part[..., 0], where=seen, out=np.zeros_like(lowest))
        combined[..., 1:] += part[..., 1:] * np.exp(gap / temperature)[..., None]
    return combined


def finalize_softmin(state: AnyArray) -> Floats:
    """Return the scores (...,) of finished states; NaN where every pixel of an image is void."""
    if state.dtype.kind == "i":
        total, weighted = (_in_low(state[..., i], state[..., i + 1]) for i in (0, 2))
    else:
        total, weighted = state[..., 1], state[..., 2]
    scores = np.full(total.shape, np.nan)
    np.divide(weighted, total, where=total > 0, out=scores)
    return scores


def _in_low(high: Ints, low: Ints) -> Floats:
    """Return what a coarse and a fine part are together, in multiples of 1 / LOW."""
    return high * (LOW / HIGH) + low
