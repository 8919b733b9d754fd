"""Stored predictions become probabilities: scaled integers, half precision, logits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.softmin import exp_nonpositive
from dask_labelqc.kernels.tiles import TILE
from dask_labelqc.typing import AnyArray, Floats

__all__ = [
    "as_indices",
    "decoded_runs",
    "decoding_table",
    "largest",
    "probability_dtype",
    "without_masked",
]

RUN = 16 * TILE
"""Pixels that are decoded at a time: their probabilities stay in the cache for the scan."""


def probability_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.floating]:
    """Return the dtype of probabilities that are stored as `dtype`: float64 or else float32."""
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)


def largest(dtype: np.dtype[np.generic]) -> int:
    """Return the largest value of an unsigned integer dtype."""
    return int(np.iinfo(dtype.str).max)


def decoding_table(dtype: np.dtype[np.generic], scale: float | None) -> Floats | None:
    """Return the float32 probability that each stored code means; None for float32 and float64.

    Parameters
    ----------
    dtype
        uint8, uint16 or float16 (whose codes are its bits).
    scale
        Of the integers; by default the largest one means 1.

    Examples
    --------
    >>> float(decoding_table(np.dtype("uint8"), None)[255])
    1.0
    """
    if dtype.itemsize > 2:
        return None
    codes = np.arange(2 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}")
    if dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            return codes.view(np.float16).astype(np.float32)
    values = codes / largest(dtype) if scale is None else codes * np.float64(scale)
    return values.astype(np.float32)


def as_indices(stored: AnyArray) -> AnyArray:
    """See half-precision numbers as the integers that index a decoding table."""
    return stored.view(np.uint16) if stored.dtype == np.float16 else stored


def without_masked(labels: AnyArray, stored: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Mask the labels (n, *spatial) of pixels that a class is masked of in `stored` (n, K, ...).

    Examples
    --------
    >>> stored = np.ma.MaskedArray([[[0.4, 0.9], [0.6, 0.1]]], [[[False, False], [True, False]]])
    >>> without_masked(np.array([[1, 0]]), stored)[0].mask
    array([[ True, False]])
    """
    if isinstance(stored, np.ma.MaskedArray):
        lost = np.ma.getmaskarray(labels) | np.ma.getmaskarray(stored).any(axis=1)
        labels = np.ma.MaskedArray(np.ma.getdata(labels), lost)
        stored = stored.filled(0)  # something that the kernels can read
    return labels, stored


@compiled
def _decode(stored, start, table, planes):  # type: ignore[no-untyped-def]
    for k in range(planes.shape[0]):
        row = stored[k, start : start + planes.shape[1]]
        target = planes[k]
        for i in range(target.size):
            target[i] = table[row[i]]


@compiled
def _copy(stored, start, planes):  # type: ignore[no-untyped-def]
    planes[:] = stored[:, start : start + planes.shape[1]]


@compiled
def _softmax(planes):  # type: ignore[no-untyped-def]
    """Replace logits (K, L) by their softmax over the classes, in float64 inside."""
    num_classes, size = planes.shape
    weights = np.empty((num_classes, TILE))
    highest, total = np.empty(TILE), np.empty(TILE)
    exponents, helper = np.empty(TILE), np.empty(TILE)
    for base in range(0, size, TILE):
        length = min(TILE, size - base)
        highest[:] = -np.inf
        total[:] = 0.0
        for k in range(num_classes):
            row = planes[k, base : base + length]
            for i in range(length):
                value = np.float64(row[i])
                highest[i] = highest[i] if highest[i] > value else value  # NaN stays
        for k in range(num_classes):
            row = planes[k, base : base + length]
            for i in range(length):
                exponents[i] = np.float64(row[i]) - highest[i]
            exp_nonpositive(exponents[:length], weights[k, :length], helper[:length])
            for i in range(length):
                total[i] += weights[k, i]
        for k in range(num_classes):
            row = planes[k, base : base + length]
            for i in range(length):
                row[i] = weights[k, i] / total[i]


def decoded_runs(
    stored: AnyArray, unit: int, from_logits: bool, table: Floats | None
) -> Iterator[tuple[int, int, Floats]]:
    """Yield (image, first pixel, probabilities (1, K, L)) over all pixels of a block (n, K, S).

    L is a multiple of `unit` pixels except at the end. The array is reused: it holds one run.
    """
    num_images, num_classes, size = stored.shape
    longest = min(size, max(RUN // unit, 1) * unit)
    buffer = np.empty(num_classes * longest, stored.dtype if table is None else table.dtype)
    for image in range(num_images):
        for start in range(0, size, longest):
            length = min(longest, size - start)
            planes = buffer[: num_classes * length].reshape(num_classes, length)
            if table is None:
                _copy(stored[image], start, planes)
            else:
                _decode(stored[image], start, table, planes)
            if from_logits:
                _softmax(planes)
            yield image, start, planes[None]
