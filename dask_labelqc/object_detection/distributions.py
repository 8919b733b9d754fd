"""How many boxes there are in each image and of each class, and how large they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, overload

import dask
import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes import BoxBlock
from dask_labelqc.object_detection.answers import ClassName, ClassNames, names_by_id
from dask_labelqc.object_detection.auxiliary import boxes_of_auxiliary
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, Boxes, Span, open_boxes, read_block
from dask_labelqc.object_detection.dataset import Columnar
from dask_labelqc.object_detection.lists import LabelLists, PredictionLists
from dask_labelqc.typing import Floats, Ints

__all__ = [
    "bounding_box_size_distribution",
    "class_label_distribution",
    "get_sorted_bbox_count_idxs",
    "object_counts_per_image",
]

Auxiliary: TypeAlias = Sequence[Mapping[str, Any]]
Areas: TypeAlias = dict[ClassName, list[float]] | dict[ClassName, Floats]


def object_counts_per_image(
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    *,
    auxiliary_inputs: Auxiliary | None = None,
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
    labels: LabelLists | Columnar, predictions: PredictionLists | None = None
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


@overload
def bounding_box_size_distribution(
    labels: LabelLists | None = None,
    predictions: PredictionLists | None = None,
    *,
    auxiliary_inputs: Auxiliary | None = None,
    class_names: ClassNames | None = None,
    sort: bool = False,
) -> tuple[dict[ClassName, list[float]], dict[ClassName, list[float]]]: ...


@overload
def bounding_box_size_distribution(
    labels: Columnar,
    predictions: None = None,
    *,
    auxiliary_inputs: None = None,
    class_names: ClassNames | None = None,
    sort: bool = False,
) -> tuple[dict[ClassName, Floats], dict[ClassName, Floats]]: ...


@overload
def bounding_box_size_distribution(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    *,
    auxiliary_inputs: None = None,
    class_names: ClassNames | None = None,
    sort: bool = False,
) -> tuple[Areas, Areas]: ...


def bounding_box_size_distribution(
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    *,
    auxiliary_inputs: Auxiliary | None = None,
    class_names: ClassNames | None = None,
    sort: bool = False,
) -> tuple[Areas, Areas]:
    """Collect the areas of the given and the predicted boxes by class.

    Parameters
    ----------
    labels, predictions, auxiliary_inputs
        As in `object_counts_per_image`.
    class_names
        ``{"0": name, ...}``, or K names: the keys of the answer; classes that are not there are
        left out. By default the dataset's own, class ids if it has none.
    sort
        Classes with the most boxes first, ties by class id.

    Returns
    -------
    given, predicted
        Areas in square pixels by class, in the order of the images: lists, or for a columnar
        dataset float64 arrays (8 bytes a box). A class without boxes is not there.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 5]]), "labels": np.array([0])}]
    >>> bounding_box_size_distribution(labels, [[np.zeros((0, 5))]], class_names={"0": "car"})
    ({'car': [45.0]}, {})
    """
    boxes = _boxes(labels, predictions, auxiliary_inputs)
    names = boxes.names(names_by_id(class_names))
    sides = [list(parts) for parts in zip(*_of_blocks(boxes, _block_areas), strict=True)]
    found: list[dict[Any, Any]] = [_by_class(parts, names) for parts in sides]
    if boxes.coords is None:
        found = [{name: areas.tolist() for name, areas in side.items()} for side in found]
    if sort:
        found = [dict(sorted(side.items(), key=lambda item: -len(item[1]))) for side in found]
    return found[0], found[1]


def class_label_distribution(
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    *,
    auxiliary_inputs: Auxiliary | None = None,
    class_names: ClassNames | None = None,
) -> tuple[dict[ClassName, float], dict[ClassName, float]]:
    """Return the share of each class among the given and among the predicted boxes.

    Parameters
    ----------
    labels, predictions, auxiliary_inputs
        As in `object_counts_per_image`.
    class_names
        ``{"0": name, ...}``, or K names: the keys of the answer; by default the dataset's own,
        class ids if it has none.

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
    names = boxes.names(names_by_id(class_names))
    given, predicted = np.sum(_of_blocks(boxes, _block_counts), axis=0)
    return _shares(given, names), _shares(predicted, names)


def _boxes(labels: Any, predictions: Any, auxiliary_inputs: Auxiliary | None) -> Boxes:
    if auxiliary_inputs is not None:
        return boxes_of_auxiliary(auxiliary_inputs)
    return open_boxes(labels, predictions)


def _of_blocks(boxes: Boxes, function: Callable[[BoxBlock, int], Any]) -> list[Any]:
    step = boxes.call(_read_and)
    parts = [
        step(function, columns, span, boxes.num_classes)
        for columns, span in boxes.pieces(BLOCK_BOXES, stage="count")
    ]
    return list(dask.compute(*parts)) if boxes.lazy else parts


def _read_and(
    function: Callable[[BoxBlock, int], Any], columns: Any, span: Span, num_classes: int
) -> Any:
    return function(read_block(columns, span, num_classes), num_classes)


def _block_areas(block: BoxBlock, num_classes: int) -> tuple[tuple[Ints, Floats], ...]:
    return (
        _sorted_areas(block.given_classes, block.given_boxes, num_classes),
        _sorted_areas(block.predicted_classes, block.predicted_boxes, num_classes),
    )


def _block_counts(block: BoxBlock, num_classes: int) -> list[Ints]:
    sides = (block.given_classes, block.predicted_classes)
    return [np.bincount(classes, minlength=num_classes) for classes in sides]


def _sorted_areas(classes: Ints, boxes: Floats, num_classes: int) -> tuple[Ints, Floats]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(classes, kind="stable")
    return np.bincount(classes, minlength=num_classes), areas[order]


def _by_class(
    parts: list[tuple[Ints, Floats]], class_names: Mapping[Any, Any] | None
) -> dict[Any, Floats]:
    """Gather the areas of each class, a part of one array; `parts` is emptied on the way."""
    counts = np.sum([part[0] for part in parts], axis=0)
    ends = np.cumsum(counts)
    areas, filled = np.empty(ends[-1]), ends - counts
    for _ in range(len(parts)):
        mine, part = parts.pop(0)
        for k, piece in zip(*_pieces(mine, part), strict=True):
            areas[filled[k] : filled[k] + len(piece)] = piece
            filled[k] += len(piece)
    found: dict[Any, Floats] = {}
    for k, piece in zip(*_pieces(counts, areas), strict=True):
        if class_names is None:
            found[k] = piece
        elif str(k) in class_names:
            name = class_names[str(k)]
            found[name] = np.concatenate([found[name], piece]) if name in found else piece
    return found


def _pieces(counts: Ints, areas: Floats) -> tuple[list[int], list[Floats]]:
    """Return the classes that are there, and the areas of each, from areas sorted by class."""
    present = np.flatnonzero(counts)
    return present.tolist(), np.split(areas, np.cumsum(counts[present]))[:-1]


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
