"""How many boxes there are in each image and of each class, and how large they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dask
import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes import BoxBlock
from dask_labelqc.object_detection.auxiliary import boxes_of_auxiliary
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, Boxes, Span, open_boxes, read_block
from dask_labelqc.typing import Floats, Ints

__all__ = [
    "bounding_box_size_distribution",
    "class_label_distribution",
    "get_sorted_bbox_count_idxs",
    "object_counts_per_image",
]

Auxiliary = Sequence[Mapping[str, Any]]


def object_counts_per_image(
    labels: Any = None, predictions: Any = None, *, auxiliary_inputs: Auxiliary | None = None
) -> tuple[list[int], list[int]]:
    """Count the given and the predicted boxes of each image.

    Parameters
    ----------
    labels, predictions
        As in `dask_labelqc.object_detection.rank.get_label_quality_scores`.
    auxiliary_inputs
        What `rank.get_auxiliary_inputs` made of them, instead.

    Returns
    -------
    given, predicted
        N counts each.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    >>> object_counts_per_image(labels, [[np.zeros((0, 5))]])
    ([1], [0])
    """
    boxes = _boxes(labels, predictions, auxiliary_inputs)
    return np.diff(boxes.given_offsets).tolist(), np.diff(boxes.predicted_offsets).tolist()


def get_sorted_bbox_count_idxs(
    labels: Any, predictions: Any = None
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (image, number of boxes) for all images, most boxes first.

    Parameters
    ----------
    labels, predictions
        As in `dask_labelqc.object_detection.rank.get_label_quality_scores`.

    Returns
    -------
    given, predicted
        N pairs each; ties by image.

    Examples
    --------
    >>> labels = [{"bboxes": np.zeros((n, 4)), "labels": np.zeros(n, int)} for n in (1, 3)]
    >>> get_sorted_bbox_count_idxs(labels, [[np.zeros((0, 5))]] * 2)[0]
    [(1, 3), (0, 1)]
    """
    given, predicted = object_counts_per_image(labels, predictions)
    return _most_first(given), _most_first(predicted)


def bounding_box_size_distribution(
    labels: Any = None,
    predictions: Any = None,
    *,
    auxiliary_inputs: Auxiliary | None = None,
    class_names: Mapping[Any, Any] | None = None,
    sort: bool = False,
) -> tuple[dict[Any, list[float]], dict[Any, list[float]]]:
    """Collect the areas of the given and the predicted boxes by class.

    Parameters
    ----------
    labels, predictions, auxiliary_inputs
        As in `object_counts_per_image`.
    class_names
        ``{"0": name, ...}``: the keys of the answer; classes that are not there are left out. By
        default the dataset's own, class ids if it has none.
    sort
        Classes with the most boxes first, ties by class id.

    Returns
    -------
    given, predicted
        Areas in square pixels, in the order of the images. A class without boxes is not there.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 5]]), "labels": np.array([0])}]
    >>> bounding_box_size_distribution(labels, [[np.zeros((0, 5))]], class_names={"0": "car"})
    ({'car': [45.0]}, {})
    """
    boxes = _boxes(labels, predictions, auxiliary_inputs)
    class_names = boxes.names(class_names)
    parts = _of_blocks(boxes, _block_areas)
    sides = []
    for side in range(2):
        classes = np.concatenate([part[side][0] for part in parts])
        areas = np.concatenate([part[side][1] for part in parts])
        sides.append(_by_class(classes, areas, class_names))
    if sort:
        sides = [dict(sorted(side.items(), key=lambda item: -len(item[1]))) for side in sides]
    return sides[0], sides[1]


def class_label_distribution(
    labels: Any = None,
    predictions: Any = None,
    *,
    auxiliary_inputs: Auxiliary | None = None,
    class_names: Mapping[Any, Any] | None = None,
) -> tuple[dict[Any, float], dict[Any, float]]:
    """Return the share of each class among the given and among the predicted boxes.

    Parameters
    ----------
    labels, predictions, auxiliary_inputs
        As in `object_counts_per_image`.
    class_names
        ``{"0": name, ...}``: the keys of the answer; by default the dataset's own, class ids if it
        has none.

    Returns
    -------
    given, predicted
        Shares between 0 and 1, rounded to two digits. A class without boxes is not there.

    Raises
    ------
    InputError
        A class has no name.

    Examples
    --------
    >>> labels = [{"bboxes": np.zeros((3, 4)), "labels": np.array([0, 0, 1])}]
    >>> class_label_distribution(labels, [[np.zeros((0, 5))] * 2])
    ({0: 0.67, 1: 0.33}, {})
    """
    boxes = _boxes(labels, predictions, auxiliary_inputs)
    class_names = boxes.names(class_names)
    given, predicted = np.sum(_of_blocks(boxes, _block_counts), axis=0)
    return _shares(given, class_names), _shares(predicted, class_names)


def _boxes(labels: Any, predictions: Any, auxiliary_inputs: Auxiliary | None) -> Boxes:
    if auxiliary_inputs is not None:
        return boxes_of_auxiliary(auxiliary_inputs)
    return open_boxes(labels, predictions)


def _of_blocks(boxes: Boxes, function: Callable[[BoxBlock, int], Any]) -> list[Any]:
    step = boxes.call(_read_and)
    parts = [
        step(function, columns, span, boxes.num_classes)
        for columns, span in boxes.pieces(BLOCK_BOXES)
    ]
    return list(dask.compute(*parts)) if boxes.lazy else parts


def _read_and(
    function: Callable[[BoxBlock, int], Any], columns: Any, span: Span, num_classes: int
) -> Any:
    return function(read_block(columns, span, num_classes), num_classes)


def _block_areas(block: BoxBlock, num_classes: int) -> tuple[tuple[Ints, Floats], ...]:
    return (
        (block.given_classes, _areas(block.given_boxes)),
        (block.predicted_classes, _areas(block.predicted_boxes)),
    )


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _block_counts(block: BoxBlock, num_classes: int) -> list[Ints]:
    sides = (block.given_classes, block.predicted_classes)
    return [np.bincount(classes, minlength=num_classes) for classes in sides]


def _by_class(
    classes: Ints, areas: Floats, class_names: Mapping[Any, Any] | None
) -> dict[Any, list[float]]:
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    found: dict[Any, list[float]] = {}
    for k, part in zip(present.tolist(), np.split(areas[order], starts[1:]), strict=False):
        if class_names is None:
            found[k] = part.tolist()
        elif str(k) in class_names:
            found.setdefault(class_names[str(k)], []).extend(part.tolist())
    return found


def _shares(counts: Ints, class_names: Mapping[Any, Any] | None) -> dict[Any, float]:
    by_name: dict[Any, int] = {}
    for k in np.flatnonzero(counts).tolist():
        if class_names is not None and str(k) not in class_names:
            raise InputError(f"class_names has no name for class {k}; it has {list(class_names)}")
        name = k if class_names is None else class_names[str(k)]
        by_name[name] = by_name.get(name, 0) + int(counts[k])
    # cleanlab divides by the total plus 1e-6, which can decide how a share is rounded.
    total = sum(by_name.values()) + 1e-6
    return {name: round(count / total, 2) for name, count in by_name.items()}


def _most_first(counts: list[int]) -> list[tuple[int, int]]:
    return sorted(enumerate(counts), key=lambda item: -item[1])
