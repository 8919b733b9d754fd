"""Labels of any type that holds whole numbers become class codes that are safe to index with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["INVALID", "VOID", "EncodedLabels", "encode_labels", "smallest_unsigned"]

VOID = -1
"""The code of a pixel that takes part in nothing."""
INVALID = -2
"""The code of a pixel whose label is neither a class nor ignored."""


@dataclass(frozen=True)
class EncodedLabels:
    """Class codes of a block, and what was wrong with its labels.

    Attributes
    ----------
    codes
        int32, the shape of the labels: 0..K-1, `VOID` or `INVALID`.
    invalid_count
        How many labels are neither a class nor ignored.
    first_invalid, first_fraction
        Flat position of the first of them, and of the first that is no whole number; -1 if there
        is none.
    """

    codes: Ints
    invalid_count: int
    first_invalid: int
    first_fraction: int = -1


@compiled(error_model="python")
def _encode(labels, code_of, ignored, codes):  # type: ignore[no-untyped-def]
    num_classes = code_of.size
    invalid_count = 0
    first_invalid = -1
    for i in range(labels.size):
        label = np.int64(labels[i])
        if 0 <= label < num_classes:
            codes[i] = code_of[label]
            continue
        codes[i] = INVALID
        for value in ignored:
            if label == value:
                codes[i] = VOID
        if codes[i] == INVALID:
            if invalid_count == 0:
                first_invalid = i
            invalid_count += 1
    return invalid_count, first_invalid


@compiled(error_model="python")
def _encode_floats(labels, code_of, ignored, codes):  # type: ignore[no-untyped-def]
    num_classes = code_of.size
    invalid_count = 0
    first_invalid = first_fraction = -1
    for i in range(labels.size):
        label = labels[i]
        if np.isnan(label):
            codes[i] = VOID
            continue
        whole = np.isfinite(label) and label == np.floor(label)
        if whole and 0 <= label < num_classes:
            codes[i] = code_of[np.int64(label)]
            continue
        codes[i] = INVALID
        for value in ignored:
            if label == value:
                codes[i] = VOID
        if codes[i] == INVALID:
            if invalid_count == 0:
                first_invalid = i
            if first_fraction < 0 and not whole:
                first_fraction = i
            invalid_count += 1
    return invalid_count, first_invalid, first_fraction


def encode_labels(
    labels: AnyArray, num_classes: int, ignore_index: Sequence[int] = ()
) -> EncodedLabels:
    """Translate labels of any integer or floating dtype to int32 class codes.

    An ignored value becomes `VOID`, also when it is one of the classes; so does what a masked
    array masks, and NaN, which stands for it where labels were decoded to float.

    Examples
    --------
    >>> encode_labels(np.array([0, 2, 255], np.uint8), 3, ignore_index=(255,)).codes
    array([ 0,  2, -1], dtype=int32)
    >>> encode_labels(np.array([0, 2, np.nan]), 3).codes
    array([ 0,  2, -1], dtype=int32)
    """
    if isinstance(labels, np.ma.MaskedArray):
        encoded = encode_labels(labels.filled(0), num_classes, ignore_index)  # 0 is valid
        encoded.codes[np.ma.getmaskarray(labels)] = VOID
        return encoded
    if labels.dtype.kind == "f":
        return _encoded_floats(labels, num_classes, ignore_index)
    if labels.dtype == np.bool_:
        labels = labels.view(np.uint8)
    native = np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))
    limits = np.iinfo(native.dtype)
    occurring = [v for v in ignore_index if limits.min <= v <= limits.max]
    ignored = np.array(occurring, native.dtype).astype(np.int64)  # uint64 wraps, as labels do
    code_of = np.arange(num_classes, dtype=np.int32)
    code_of[ignored[(ignored >= 0) & (ignored < num_classes)]] = VOID
    codes = np.empty(labels.shape, np.int32)
    flat = native.reshape(-1)
    flat.flags.writeable = False  # the same code for memory maps as for all other arrays
    invalid_count, first_invalid = _encode(flat, code_of, ignored, codes.reshape(-1))
    return EncodedLabels(codes, invalid_count, first_invalid)


def _encoded_floats(labels: Floats, num_classes: int, ignore_index: Sequence[int]) -> EncodedLabels:
    wide = np.float64 if labels.dtype.itemsize == 8 else np.float32  # of half precision too
    ignored = np.array(ignore_index, np.float64)
    code_of = np.arange(num_classes, dtype=np.int32)
    code_of[ignored[(ignored >= 0) & (ignored < num_classes)].astype(np.int64)] = VOID
    codes = np.empty(labels.shape, np.int32)
    flat = np.ascontiguousarray(labels, wide).reshape(-1)
    flat.flags.writeable = False
    return EncodedLabels(codes, *_encode_floats(flat, code_of, ignored, codes.reshape(-1)))


def smallest_unsigned(num_classes: int) -> np.dtype[np.unsignedinteger]:
    """Return the narrowest unsigned dtype that holds 0..K-1.

    Examples
    --------
    >>> smallest_unsigned(256), smallest_unsigned(257)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(num_classes - 1)
