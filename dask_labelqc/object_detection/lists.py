"""cleanlab's lists of dictionaries and arrays, flattened to columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.typing import AnyArray, Ints

__all__ = [
    "LabelLists",
    "PredictionLists",
    "flatten_labels",
    "flatten_predictions",
    "numbers",
    "separate_prediction",
    "whole_numbers",
]

LabelLists: TypeAlias = Sequence[Mapping[str, Any]] | AnyArray
"""N dictionaries ``{"bboxes": (L, 4), "labels": (L,)}``."""
PredictionLists: TypeAlias = Sequence[Sequence[Any] | AnyArray] | AnyArray
"""N sequences of K arrays (M, 5)."""

PREDICTION_COLUMNS = 5
NUMERIC = "fiub"


def flatten_labels(labels: LabelLists, num_images: int) -> dict[str, AnyArray]:
    """Return ``given_boxes`` (B, 4), ``given_classes`` (B,) and ``given_offsets`` (N + 1,)."""
    _check_sequence("labels", labels)
    if len(labels) != num_images:
        raise InputError(
            f"labels and predictions must be of equal length; len(labels) is {len(labels)}, "
            f"len(predictions) is {num_images}"
        )
    boxes, classes = [], []
    for image, label in enumerate(labels):
        if not isinstance(label, Mapping) or "bboxes" not in label or "labels" not in label:
            raise InputError(
                f"labels[{image}] must be a dictionary with 'bboxes' and 'labels', got "
                f"{list(label) if isinstance(label, Mapping) else type(label).__name__}"
            )
        image_boxes = numbers(label["bboxes"], f"labels[{image}]: 'bboxes'")
        image_classes = np.asarray(label["labels"])
        if image_boxes.size == 0:
            image_boxes = image_boxes.reshape(0, 4)
        if image_boxes.shape != (image_classes.size, 4):
            raise InputError(
                f"labels[{image}]: 'bboxes' has shape {image_boxes.shape}, for "
                f"{image_classes.size} 'labels' it must be ({image_classes.size}, 4)"
            )
        boxes.append(image_boxes)
        classes.append(whole_numbers(image_classes, f"labels[{image}]: 'labels'"))
    return {
        "given_boxes": np.concatenate(boxes),
        "given_classes": np.concatenate(classes),
        "given_offsets": _offsets(np.array([len(c) for c in classes])),
    }


def flatten_predictions(predictions: PredictionLists) -> tuple[dict[str, AnyArray], int]:
    """Return the ``predicted_*`` columns and K, from N sequences of K arrays (M, 5)."""
    _check_sequence("predictions", predictions)
    if not len(predictions):
        raise InputError("predictions is empty; at least one image is needed")
    for image, prediction in enumerate(predictions):
        _check_sequence(f"predictions[{image}]", prediction)
    num_classes = len(predictions[0])
    if num_classes == 0:
        raise InputError("predictions[0] has no classes; one array (M, 5) a class is needed")
    for image, prediction in enumerate(predictions):
        if len(prediction) != num_classes:
            raise InputError(
                f"predictions[{image}] has {len(prediction)} classes, predictions[0] has "
                f"{num_classes}; every image needs one array (M, 5) a class"
            )
    arrays = list(chain.from_iterable(predictions))
    try:
        counts = np.fromiter(map(len, arrays), np.int64, len(arrays))
        filled = [arrays[i] for i in np.flatnonzero(counts).tolist()]
        rows = np.concatenate(filled) if filled else np.zeros((0, PREDICTION_COLUMNS))
        # Joined, masked arrays forget their masks.
        masked = any(map(np.ma.is_masked, filter(np.ma.isMaskedArray, filled)))
    except (TypeError, ValueError):
        rows, masked = np.zeros((0, 0)), False
    if masked or rows.dtype.kind not in NUMERIC:
        raise _misshapen(predictions)
    if rows.ndim != 2 or rows.shape[1] != PREDICTION_COLUMNS:
        raise _misshapen(predictions)
    classes = np.repeat(np.arange(len(arrays)) % num_classes, counts)
    return {
        "predicted_boxes": rows[:, :4],
        "predicted_classes": classes,
        "predicted_scores": rows[:, 4],
        "predicted_offsets": _offsets(counts.reshape(-1, num_classes).sum(axis=1)),
    }, num_classes


def separate_prediction(prediction: Any) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return boxes (M, 4), classes (M,) and probabilities (M,) of the prediction of one image.

    Also takes the other form that cleanlab draws, (boxes, classes, probabilities), with
    probabilities of shape (classes, boxes).
    """
    if len(prediction) == 3:
        boxes, classes, probs = map(np.asarray, prediction)
        if boxes.shape[1:] == (4,) and probs.shape == (len(classes), len(boxes)):
            return boxes, classes, probs
    columns, _ = flatten_predictions([prediction])
    return (
        columns["predicted_boxes"].astype(np.float64),
        columns["predicted_classes"],
        columns["predicted_scores"].astype(np.float64),
    )


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def whole_numbers(classes: AnyArray, what: str) -> AnyArray:
    """Return classes as int64 (n,).

    Raises
    ------
    InputError
        One is no whole number.
    """
    classes = classes.reshape(-1)
    if classes.dtype.kind in "iub" or classes.size == 0:
        return classes.astype(np.int64)
    if classes.dtype.kind == "f" and np.array_equal(classes, np.rint(classes)):
        return classes.astype(np.int64)
    raise InputError(f"{what} must be whole numbers, got {classes.tolist()}")


def _check_sequence(name: str, value: Any) -> None:
    if isinstance(value, Mapping | str | bytes) or not hasattr(value, "__len__"):
        raise InputError(f"{name} must be a list, got {type(value).__name__}")


def numbers(values: Any, what: str) -> AnyArray:
    """Return what must be an array of numbers, none of them masked.

    Raises
    ------
    InputError
        It is something else.
    """
    try:
        array = np.asanyarray(values)
    except ValueError as error:
        raise InputError(f"{what} is no array: {error}") from error
    if array.size and array.dtype.kind not in NUMERIC:
        raise InputError(f"{what} must be numbers, got dtype {array.dtype}")
    if np.ma.is_masked(array):
        raise InputError(f"{what} has masked values; leave out the boxes that do not count")
    return np.asarray(array)


def _misshapen(predictions: Iterable[Any]) -> InputError:
    for image, prediction in enumerate(predictions):
        for k, values in enumerate(prediction):
            array = numbers(values, f"predictions[{image}][{k}]")
            if array.shape[:1] != (0,) and array.shape[1:] != (PREDICTION_COLUMNS,):
                return InputError(
                    f"predictions[{image}][{k}] has shape {array.shape}; it must be (M, 5): x1, "
                    "y1, x2, y2, probability"
                )
    return InputError("predictions must be N sequences of K arrays (M, 5)")
