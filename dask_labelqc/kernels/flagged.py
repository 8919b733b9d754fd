"""What the flagged pixels of a block are: given and predicted class, looked up only for them."""

from __future__ import annotations

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.predictions import as_indices, decoding_table
from dask_labelqc.typing import AnyArray, BoolArray, Ints

__all__ = ["count_pairs", "select_class"]


EIGHT = 8
TILE = 512 * EIGHT
"""Pixels whose flags are looked through at a time."""


@compiled
def _places(flags, words, start, filled, places):  # type: ignore[no-untyped-def]
    """Write the places of the flagged pixels of a tile; return their number.

    `words` are the flags eight at a time. Both loops are without branches: flags are as good as
    random, and a wrong guess of the processor costs more than a useless store.
    """
    end = min(start // EIGHT + filled.size, words.size)
    num_filled = 0
    for word in range(start // EIGHT, end):
        filled[num_filled] = word
        num_filled += words[word] != 0
    count = 0
    for i in range(num_filled):
        first = filled[i] * EIGHT
        for pixel in range(first, first + EIGHT):
            places[count] = pixel
            count += flags[pixel]
    if end == words.size:
        for pixel in range(end * EIGHT, flags.size):
            places[count] = pixel
            count += flags[pixel]
    return count


@compiled
def _predicted(planes, pixel, table):  # type: ignore[no-untyped-def]
    """Return the lowest class of the highest prediction of a pixel, -1 if one is not finite."""
    best = 0
    highest = planes[0, pixel] if table is None else table[planes[0, pixel]]
    total = highest - highest
    for k in range(1, planes.shape[0]):
        value = planes[k, pixel] if table is None else table[planes[k, pixel]]
        total += value - value
        best = k if value > highest else best
        highest = value if value > highest else highest
    return best if total == 0 else -1


@compiled
def _count(flags, words, labels, stored, table, matrix):  # type: ignore[no-untyped-def]
    """Count pairs of classes; return the place of the first pixel that cannot be used, or -1."""
    _, num_classes, size = stored.shape
    filled, places = np.empty(TILE // EIGHT, np.int64), np.empty(TILE + EIGHT, np.int64)
    image, planes = 0, stored[0]
    for start in range(0, flags.size, TILE):
        for i in range(_places(flags, words, start, filled, places)):
            if places[i] >= (image + 1) * size:
                image = places[i] // size
                planes = stored[image]
            label = np.int64(labels[places[i]])
            if label < 0 or label >= num_classes:
                continue
            predicted = _predicted(planes, places[i] - image * size, table)
            if predicted < 0:
                return places[i]
            matrix[label, predicted] += 1
    return -1


@compiled
def _select(flags, words, labels, stored, table, wanted, selected):  # type: ignore[no-untyped-def]
    """Select by class; return the place of the first pixel that cannot be used, or -1."""
    _, num_classes, size = stored.shape
    filled, places = np.empty(TILE // EIGHT, np.int64), np.empty(TILE + EIGHT, np.int64)
    image, planes = 0, stored[0]
    for start in range(0, flags.size, TILE):
        for i in range(_places(flags, words, start, filled, places)):
            if places[i] >= (image + 1) * size:
                image = places[i] // size
                planes = stored[image]
            label = np.int64(labels[places[i]])
            if 0 <= label < num_classes and wanted[label]:
                selected[places[i]] = True
                continue
            predicted = _predicted(planes, places[i] - image * size, table)
            if predicted < 0:
                return places[i]
            selected[places[i]] = wanted[predicted]
    return -1


def count_pairs(issues: BoolArray, labels: Ints, stored: AnyArray) -> tuple[Ints, int]:
    """Count the flagged pixels of each pair of given and predicted class.

    Parameters
    ----------
    issues, labels
        Flags and given labels (n, *spatial); labels that are no class are left out.
    stored
        Predictions (n, K, *spatial), of any kind that orders as probabilities do.

    Returns
    -------
    matrix
        int64 (K, K).
    place
        Flat position of the first flagged pixel with a prediction that is not finite, or -1.

    Examples
    --------
    >>> issues, labels = np.array([[True, True]]), np.array([[0, 1]])
    >>> count_pairs(issues, labels, np.array([[[0.2, 0.9], [0.8, 0.1]]]))[0]
    array([[0, 1],
           [1, 0]])
    """
    matrix = np.zeros((stored.shape[1],) * 2, np.int64)
    place = _count(*_flat(issues, labels, stored), matrix)
    return matrix, place


def select_class(
    issues: BoolArray, labels: Ints, stored: AnyArray, wanted: BoolArray
) -> tuple[BoolArray, int]:
    """Return the flagged pixels whose given or predicted class is wanted.

    Parameters
    ----------
    issues, labels, stored
        As for `count_pairs`.
    wanted
        (K,).

    Returns
    -------
    selected
        bool (n, *spatial).
    place
        As for `count_pairs`.
    """
    flat = _flat(issues, labels, stored)
    selected = np.zeros(issues.size, np.bool_)
    place = _select(*flat, wanted, selected)
    return selected.reshape(issues.shape), place


def _flat(
    issues: BoolArray, labels: Ints, stored: AnyArray
) -> tuple[Ints, Ints, Ints, AnyArray, AnyArray | None]:
    """Return flags of 0 and 1, the same eight at a time, labels, predictions and their table.

    All are flat, but for the predictions (n, K, S).
    """
    num_images, num_classes = stored.shape[:2]
    stored = _native(stored)
    half = stored.dtype == np.float16
    flags = _native(issues).view(np.uint8).reshape(-1)
    whole = flags[: flags.size // EIGHT * EIGHT]
    flat = (
        flags,
        (whole if whole.ctypes.data % EIGHT == 0 else whole.copy()).view(np.uint64),
        _native(labels).reshape(-1),
        as_indices(stored).reshape(num_images, num_classes, -1),
    )
    for array in flat:
        array.flags.writeable = False  # the same code for memory maps as for all other arrays
    return (*flat, decoding_table(stored.dtype, None) if half else None)


def _native(array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
