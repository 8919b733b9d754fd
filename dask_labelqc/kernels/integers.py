"""Predictions that are stored as unsigned integers, scanned as such.

What integers mean ascends with them, so the highest of a pixel and its class are found among the
integers themselves, in SIMD of 8 or 16 bits. Only what is used of a pixel is decoded: two numbers
instead of one for each class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dask_labelqc.kernels.compiled import compiled_within
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = [
    "Integers",
    "decode_integers",
    "gather_integers",
    "integers_for",
    "scan_integers",
]


class Integers(NamedTuple):
    """What integers mean, and scratch space for one tile of at most P pixels.

    Attributes
    ----------
    table
        float32: what each integer means.
    unit
        float64 (1,): what an integer of one means.
    best, arg, total
        (P,): the highest integer of a pixel, its class, and the sum over classes; as narrow as they
        can be, which makes SIMD wide.
    """

    table: Floats
    unit: Floats
    best: Ints
    arg: Ints
    total: Ints


def integers_for(stored: AnyArray, table: Floats | None, pixels: int) -> Integers | None:
    """Return the space for tiles of stored predictions (n, K, ...); None if they must be decoded.

    Half precision must: its bits do not ascend with the numbers.
    """
    narrow, num_classes = stored.dtype, stored.shape[1]
    if table is None or num_classes > np.iinfo(narrow).max or not (table[1:] > table[:-1]).all():
        return None
    return Integers(
        table,
        np.array([np.float64(table[-1]) / (table.size - 1)]),
        np.empty(pixels, narrow),
        np.empty(pixels, narrow),
        np.empty(pixels, f"u{2 * narrow.itemsize}"),
    )


@compiled_within
def scan_integers(planes, base, length, integers, best, arg, total):  # type: ignore[no-untyped-def]
    """Do as `tiles.scan` does of all classes; the sum is exact before it is rounded once."""
    highest, winner, together = integers.best, integers.arg, integers.total
    for i in range(length):
        highest[i] = planes[0, base + i]
        winner[i] = 0
        together[i] = planes[0, base + i]
    for k in range(1, planes.shape[0]):
        row, here = planes[k, base : base + length], winner.dtype.type(k)
        for i in range(length):
            winner[i] = here if row[i] > highest[i] else winner[i]
            highest[i] = row[i] if row[i] > highest[i] else highest[i]
        for i in range(length):  # apart, for its numbers are wider
            together[i] += row[i]
    for i in range(length):
        best[i] = integers.table[highest[i]]
        arg[i] = winner[i]
        total[i] = together[i] * integers.unit[0]


@compiled_within
def gather_integers(planes, base, length, codes, table, scores):  # type: ignore[no-untyped-def]
    """Write each pixel's self-confidence p[y]; NaN at pixels that take part in nothing."""
    for i in range(length):
        code = codes[i]
        scores[i] = table[planes[code, base + i]] if code >= 0 else np.nan


@compiled_within
def decode_integers(planes, base, length, table):  # type: ignore[no-untyped-def]
    """Return what the integers of a tile mean, float32 (K, length)."""
    decoded = np.empty((planes.shape[0], length), np.float32)
    for k in range(planes.shape[0]):
        for i in range(length):
            decoded[k, i] = table[planes[k, base + i]]
    return decoded
