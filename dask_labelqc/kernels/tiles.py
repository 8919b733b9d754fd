"""The compiled steps over one tile: a run of pixels small enough to stay in the cache.

Planes are C-contiguous (K, S); a tile is the columns `base` to `base + length`. Every step is a
plain loop over the tile's pixels, class by class where the classes are involved, so that the
compiler can turn it into SIMD instructions.
"""

from __future__ import annotations

import math

import numpy as np

from dask_labelqc.kernels.compiled import bits_of, compiled_within

__all__ = [
    "ABOVE_ONE",
    "NEGATIVE",
    "NOT_FINITE",
    "PROBABILITY_TOLERANCE",
    "TILE",
    "ZERO_SUM",
    "first_bad",
    "gather",
    "scan",
]

TILE = 2048
"""Pixels of a tile: its planes fit the second-level cache (172 kB for 21 classes in float32)."""

PROBABILITY_TOLERANCE = 1e-6
"""How far above one a probability may lie: the rounding of a softmax in float32."""


# Why a pixel's probabilities cannot be used.
NOT_FINITE, NEGATIVE, ABOVE_ONE, ZERO_SUM = 1, 2, 3, 4


@compiled_within
def scan(planes, first, stop, base, length, best, arg, total):  # type: ignore[no-untyped-def]
    """Write each pixel's highest probability, its lowest class, and the sum over classes.

    Of the classes `first` to `stop`, in going on from those before. Returns a negative number if
    any sign bit was set.

    Four planes at a time: the running values are loaded and stored a fourth as often. Integers
    stay as narrow as the probabilities: SIMD is as wide as the widest type in a loop allows.
    """
    # ns a pixel of 21 classes in float32, within the cache and from memory: one plane at a time
    # 3.4 and 11.3, two 2.7 and 8.4, four 2.2 and 6.1, eight 2.5 and 6.3, twenty 7.9 and 7.4.
    end = base + length
    signs = bits_of(planes[first, base])
    k = first
    if first == 0:
        row = planes[0, base:end]
        for i in range(length):
            best[i] = row[i]
            arg[i] = 0
            total[i] = row[i]
            signs |= bits_of(row[i])
        k = 1
    while k + 4 <= stop:
        p0, p1 = planes[k, base:end], planes[k + 1, base:end]
        p2, p3 = planes[k + 2, base:end], planes[k + 3, base:end]
        k0, k1, k2, k3 = np.int32(k), np.int32(k + 1), np.int32(k + 2), np.int32(k + 3)
        for i in range(length):
            v0, v1, v2, v3 = p0[i], p1[i], p2[i], p3[i]
            highest, winner = best[i], arg[i]
            winner = k0 if v0 > highest else winner
            highest = v0 if v0 > highest else highest
            winner = k1 if v1 > highest else winner
            highest = v1 if v1 > highest else highest
            winner = k2 if v2 > highest else winner
            highest = v2 if v2 > highest else highest
            winner = k3 if v3 > highest else winner
            highest = v3 if v3 > highest else highest
            best[i], arg[i] = highest, winner
            total[i] += (v0 + v1) + (v2 + v3)
            signs |= (bits_of(v0) | bits_of(v1)) | (bits_of(v2) | bits_of(v3))
        k += 4
    for last in range(k, stop):
        row = planes[last, base:end]
        k0 = np.int32(last)
        for i in range(length):
            value = row[i]
            arg[i] = k0 if value > best[i] else arg[i]
            best[i] = value if value > best[i] else best[i]
            total[i] += value
            signs |= bits_of(value)
    return signs


@compiled_within
def gather(planes, base, length, codes, scores):  # type: ignore[no-untyped-def]
    """Write each pixel's self-confidence p[y]; NaN at pixels that take part in nothing."""
    for i in range(length):
        code = codes[i]
        scores[i] = planes[code, base + i] if code >= 0 else np.nan


@compiled_within
def first_bad(planes, base, length, codes):  # type: ignore[no-untyped-def]
    """Return (place in the tile, reason) of the first unusable pixel, or (-1, 0)."""
    for i in range(length):
        if codes[i] < 0:
            continue
        total = 0.0
        reason = 0
        for k in range(planes.shape[0]):
            value = np.float64(planes[k, base + i])
            total += value
            if not math.isfinite(value):
                reason = NOT_FINITE
                break
            if value < 0 and reason == 0:
                reason = NEGATIVE
            elif value > 1 + PROBABILITY_TOLERANCE and reason == 0:
                reason = ABOVE_ONE
        if reason == 0 and total == 0:
            reason = ZERO_SUM
        if reason != 0:
            return i, reason
    return -1, 0
