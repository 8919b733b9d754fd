"""Boxes of some images as a loop that predicts has them: an entry for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dask_labelqc.devices.arrays import on_host
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes import BoxBlock
from dask_labelqc.object_detection.blocks import check_block
from dask_labelqc.object_detection.lists import numbers, whole_numbers
from dask_labelqc.typing import AnyArray

__all__ = ["GivenBoxes", "PredictedBoxes", "block_of"]

GivenBoxes: TypeAlias = Sequence[Any]
"""Of each image a dictionary ``{"boxes": (L, 4), "labels": (L,)}``, or an array (L, 5)."""
PredictedBoxes: TypeAlias = Sequence[Any]
"""The same with ``"scores": (M,)``; or an array (M, 6), or K arrays (M, 5)."""

BOXES = ("boxes", "bboxes")
GIVEN_FORMS = (
    'a dictionary with "boxes" (L, 4) and "labels" (L,), or an array (L, 5): x1, y1, x2, y2, label'
)
PREDICTED_FORMS = (
    'a dictionary with "boxes" (M, 4), "labels" (M,) and "scores" (M,), an array (M, 6): x1, y1, '
    "x2, y2, score, label, or a list of {} arrays (M, 5), one a class"
)


def block_of(
    ids: Sequence[str], given: GivenBoxes, predicted: PredictedBoxes, num_classes: int
) -> BoxBlock:
    """Return the boxes of images side by side, checked.

    Parameters
    ----------
    ids
        n ids of images, for messages.
    given, predicted
        n entries, arrays of any framework in them.
    num_classes
        K.

    Raises
    ------
    InputError
        Naming the image, what cannot be used of it, and what it may be.

    Examples
    --------
    >>> given = [{"boxes": [[0, 0, 9, 9]], "labels": [1]}]
    >>> block_of(["a"], given, [np.array([[0, 0, 9, 8, 0.75, 1]])], 2).predicted_scores
    array([0.75])
    """
    for name, entries in (("given", given), ("predicted", predicted)):
        if not isinstance(entries, Sequence) and not hasattr(entries, "__len__"):
            raise InputError(
                f"{name}: got {type(entries).__name__}, it must have an entry for each image"
            )
        if isinstance(entries, Mapping | str) or len(entries) != len(ids):
            raise InputError(
                f"{name}: got {type(entries).__name__} of {len(entries)} entries, it must have one "
                f"for each of the {len(ids)} ids"
            )
    labels = [_given(entry, _at("given", image)) for entry, image in zip(given, ids, strict=True)]
    found = [
        _predicted(entry, num_classes, _at("predicted", image))
        for entry, image in zip(predicted, ids, strict=True)
    ]
    scores = np.concatenate([np.zeros(0), *(part[2] for part in found)])
    crowds = np.concatenate([np.zeros(0, bool), *(part[2] for part in labels)])
    block = BoxBlock.of(
        (*_joined(labels), crowds, _offsets(labels)), (*_joined(found), scores, _offsets(found))
    )
    check_block(block, num_classes, lambda image: f"image {ids[image]!r}")
    return block


def _at(name: str, image: str) -> str:
    return f"{name}: image {image!r}"


def _joined(parts: Sequence[tuple[AnyArray, AnyArray, AnyArray]]) -> tuple[AnyArray, AnyArray]:
    boxes = [np.zeros((0, 4)), *(part[0] for part in parts)]
    classes = [np.zeros(0, np.int64), *(part[1] for part in parts)]
    return np.concatenate(boxes), np.concatenate(classes)


def _offsets(parts: Sequence[tuple[AnyArray, AnyArray, AnyArray]]) -> AnyArray:
    return np.cumsum([0, *(len(part[1]) for part in parts)])


def _given(entry: Any, where: str) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return boxes (L, 4), classes (L,) and which are crowds (L,)."""
    if not isinstance(entry, Mapping):
        rows = _rows(on_host(entry), 5, where, GIVEN_FORMS)
        return rows[:, :4], whole_numbers(rows[:, 4], f"{where}: labels"), np.zeros(len(rows), bool)
    boxes, classes = _boxes_and_labels(entry, where, GIVEN_FORMS)
    crowd = entry.get("iscrowd")
    flags = np.zeros(len(classes)) if crowd is None else _each(entry, "iscrowd", classes, where)
    return boxes, classes, flags.astype(bool)


def _predicted(entry: Any, num_classes: int, where: str) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return boxes (M, 4), classes (M,) and scores (M,)."""
    forms = PREDICTED_FORMS.format(num_classes)
    if isinstance(entry, Mapping):
        boxes, classes = _boxes_and_labels(entry, where, forms)
        if "scores" not in entry:
            raise InputError(f"{where}: got a dictionary without 'scores', it must be {forms}")
        return boxes, classes, _each(entry, "scores", classes, where)
    if isinstance(entry, list | tuple) and len(entry) == num_classes:
        by_class = [
            _rows(on_host(part), 5, f"{where}, class {k}", forms) for k, part in enumerate(entry)
        ]
        rows = np.concatenate(by_class)
        classes = np.repeat(np.arange(num_classes), [len(part) for part in by_class])
        return rows[:, :4], classes, rows[:, 4]
    rows = _rows(on_host(entry), 6, where, forms)
    return rows[:, :4], whole_numbers(rows[:, 5], f"{where}: labels"), rows[:, 4]


def _boxes_and_labels(
    entry: Mapping[str, Any], where: str, forms: str
) -> tuple[AnyArray, AnyArray]:
    name = next((name for name in BOXES if name in entry), None)
    if name is None or "labels" not in entry:
        raise InputError(f"{where}: got a dictionary with {list(entry)}, it must be {forms}")
    boxes = _rows(on_host(entry[name]), 4, f"{where}: {name!r}", "x1, y1, x2, y2 of each box")
    classes = whole_numbers(
        numbers(on_host(entry["labels"]), f"{where}: 'labels'"), f"{where}: 'labels'"
    )
    if len(classes) != len(boxes):
        raise InputError(f"{where}: there are {len(boxes)} boxes and {len(classes)} labels")
    return boxes, classes


def _each(entry: Mapping[str, Any], name: str, classes: AnyArray, where: str) -> AnyArray:
    """Return a number for each box."""
    values = numbers(on_host(entry[name]), f"{where}: {name!r}").reshape(-1)
    if len(values) != len(classes):
        raise InputError(f"{where}: there are {len(classes)} boxes and {len(values)} {name}")
    return values


def _rows(values: Any, length: int, where: str, forms: str) -> AnyArray:
    """Return an array (n, length); of no boxes, whatever its shape is."""
    array = numbers(values, where)
    if array.size == 0:
        return np.zeros((0, length))
    if array.ndim != 2 or array.shape[1] != length:
        raise InputError(f"{where}: got shape {array.shape}, it must be {forms}")
    return array
