"""The scan of a batch of predictions of any framework, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dask_labelqc.devices.arrays import in_memory
from dask_labelqc.devices.condense import condense
from dask_labelqc.kernels.condensed import Condensed, scan_condensed
from dask_labelqc.kernels.predictions import as_indices, decoding_table
from dask_labelqc.kernels.summary import BlockScan, ScanOptions, scan_block
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["scan_images", "scan_predictions"]


def scan_predictions(
    predictions: Any,
    codes: Ints,
    options: ScanOptions,
    table: Floats | None = None,
    *,
    class_axis: int = 1,
) -> BlockScan:
    r"""Scan a batch of predictions once, wherever it lies.

    What lies in the memory of this process, of whatever framework, is seen as a NumPy array and
    scanned by `scan_block`; what lies on a device is condensed there.

    Parameters
    ----------
    predictions
        (n, K, \*spatial), or with the classes along another axis than the first: NumPy, or what
        speaks the array API (torch, JAX, CuPy) or DLPack.
    codes
        int32 (n, \*spatial) from `encode_labels`.
    options
        What to compute.
    table
        Of `decoding_table` for integers and half precision; that of no scale by default.
    class_axis
        Which axis has the classes.

    Raises
    ------
    InputError
        The predictions are no array, or of integers on a device, or on a device and to be
        downsampled.

    See Also
    --------
    dask_labelqc.devices.condense.condense
    """
    stored = in_memory(predictions)
    if stored is None:
        return scan_condensed(_condensed(predictions, codes, options, class_axis), codes, options)
    return _scan_stored(stored, codes, options, _table(stored, table), class_axis)


def scan_images(
    predictions: Any,
    codes: Ints,
    options: ScanOptions,
    table: Floats | None = None,
    *,
    class_axis: int = 1,
) -> Iterator[BlockScan]:
    """Yield the scan of each image of a batch; with the arguments of `scan_predictions`.

    What lies on a device is condensed there at once.
    """
    stored = in_memory(predictions)
    images = [slice(i, i + 1) for i in range(len(codes))]
    if stored is None:
        condensed = _condensed(predictions, codes, options, class_axis)
        for one in images:
            yield scan_condensed(condensed.images(one), codes[one], options)
    else:
        table = _table(stored, table)
        for one in images:
            yield _scan_stored(stored[one], codes[one], options, table, class_axis)


def _condensed(predictions: Any, codes: Ints, options: ScanOptions, class_axis: int) -> Condensed:
    logits, check = options.from_logits, options.check
    return condense(predictions, codes, from_logits=logits, class_axis=class_axis, check=check)


def _table(stored: AnyArray, table: Floats | None) -> Floats | None:
    return decoding_table(stored.dtype, None) if table is None else table


def _scan_stored(
    stored: AnyArray, codes: Ints, options: ScanOptions, table: Floats | None, class_axis: int
) -> BlockScan:
    native = stored.dtype.newbyteorder("=")
    ordered = np.ascontiguousarray(np.moveaxis(stored, class_axis, 1), native)
    return scan_block(as_indices(ordered), np.ascontiguousarray(codes), options, table)
