"""What is on record of images with boxes: the boxes themselves, in few bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dask_labelqc.kernels.boxes import BoxBlock
from dask_labelqc.kernels.labels import smallest_unsigned
from dask_labelqc.object_detection.dataset import COLUMNS
from dask_labelqc.storage.columns import Columns, hashes_of
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["recorded_boxes"]


def recorded_boxes(ids: Sequence[str], block: BoxBlock, num_classes: int) -> Columns:
    """Return the boxes of images as columns of the dataset; numbers are narrow where that is exact.

    Examples
    --------
    >>> none = np.zeros((0, 4)), np.zeros(0), None, np.zeros(2)
    >>> one = np.array([[0, 0, 9, 9]]), np.array([2]), np.array([0.75]), np.array([0, 1])
    >>> recorded_boxes(["a"], BoxBlock.of(none, one), 3).values["predicted_boxes"].dtype
    dtype('float32')
    """
    classes = smallest_unsigned(num_classes)
    values: dict[str, AnyArray] = {
        "given_boxes": _narrow(block.given_boxes),
        "given_classes": block.given_classes.astype(classes),
        "given_crowd": block.given_crowd,
        "predicted_boxes": _narrow(block.predicted_boxes),
        "predicted_classes": block.predicted_classes.astype(classes),
        "predicted_scores": _narrow(block.predicted_scores),
    }
    counts = {
        "given_box": np.diff(block.given_offsets),
        "predicted_box": np.diff(block.predicted_offsets),
    }
    axes = {name: COLUMNS[name][0] for name in values}
    return Columns(ids, hashes_of(counts, axes, values), counts, axes, values)


def _narrow(numbers: Floats) -> Floats:
    """Return numbers as float32 if none of them changes."""
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    return narrow if np.array_equal(narrow, numbers) else numbers
