"""cleanlab's `auxiliary_inputs`: the parts of each image, taken apart once for several scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes import pair_matrices
from dask_labelqc.kernels.boxes_scores import badloc, overlooked, spurious, swap
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, Boxes, open_boxes, read_block
from dask_labelqc.object_detection.lists import (
    LabelLists,
    PredictionLists,
    flatten_labels,
    separate_prediction,
)
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.passes import survey
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["AuxiliaryInput", "boxes_of_auxiliary", "get_auxiliary_inputs", "score_auxiliary"]


class AuxiliaryInput(TypedDict):
    """The parts of an image."""

    pred_labels: Ints
    pred_label_probs: Floats
    pred_bboxes: Floats
    lab_labels: Ints
    lab_bboxes: Floats
    similarity_matrix: Floats
    iou_matrix: Floats
    min_possible_similarity: float


def get_auxiliary_inputs(
    alpha: float, labels: LabelLists, predictions: PredictionLists
) -> list[AuxiliaryInput]:
    """Take labels and predictions apart, once for several calls of ``compute_*_box_scores``.

    The matrices take 16 bytes for each pair of a given and a predicted box of an image: for
    datasets that fit in memory. On others leave them out, they are then never kept.

    Parameters
    ----------
    alpha
        Weight of the IoU in the similarity, 0.9 by default elsewhere.
    labels, predictions
        cleanlab's lists.

    Returns
    -------
    list of dict
        N dictionaries: ``pred_labels`` (M,), ``pred_label_probs`` (M,), ``pred_bboxes`` (M, 4),
        ``lab_labels`` (L,), ``lab_bboxes`` (L, 4), ``similarity_matrix`` (L, M), ``iou_matrix``
        (L, M) and, the same for all images, ``min_possible_similarity``.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 10, 10]]), "labels": np.array([0])}]
    >>> get_auxiliary_inputs(0.9, labels, [[[[0, 0, 10, 5, 0.9]]]])[0]["iou_matrix"]
    array([[0.5]])
    """
    alpha = BoxScoreOptions.given(alpha=alpha).alpha
    boxes = open_boxes(labels, predictions)
    smallest = survey(boxes, alpha, BLOCK_BOXES)[0].smallest_similarity
    inputs: list[AuxiliaryInput] = []
    for span in boxes.spans(block_boxes=1):  # one image each
        image = read_block(boxes.columns, span, boxes.num_classes)
        iou, similarity = pair_matrices(
            image.given_boxes,
            image.predicted_boxes,
            alpha,
            np.ones(len(image.predicted_classes), np.bool_),
        )
        inputs.append(
            {
                "pred_labels": image.predicted_classes,
                "pred_label_probs": image.predicted_scores,
                "pred_bboxes": image.predicted_boxes,
                "lab_labels": image.given_classes,
                "lab_bboxes": image.given_boxes,
                "similarity_matrix": similarity,
                "iou_matrix": iou,
                "min_possible_similarity": smallest,
            }
        )
    return inputs


def boxes_of_auxiliary(inputs: Sequence[Mapping[str, Any]]) -> Boxes:
    """Return the boxes of auxiliary inputs as if they had come as lists."""
    if not len(inputs):
        raise InputError("auxiliary_inputs is empty; at least one image is needed")
    given = [_given(image, i) for i, image in enumerate(inputs)]
    labels = [{"bboxes": boxes, "labels": classes} for boxes, classes in given]
    predicted = [_predicted(image, i) for i, image in enumerate(inputs)]
    columns = flatten_labels(labels, len(inputs)) | {
        "predicted_boxes": np.concatenate([boxes for boxes, _, _ in predicted]),
        "predicted_classes": np.concatenate([classes for _, classes, _ in predicted]),
        "predicted_scores": np.concatenate([probs for _, _, probs in predicted]),
        "predicted_offsets": np.cumsum([0, *(len(classes) for _, classes, _ in predicted)]),
    }
    classes = np.concatenate([columns["given_classes"], columns["predicted_classes"]])
    offsets = columns["given_offsets"], columns["predicted_offsets"]
    return Boxes(columns, *offsets, int(classes.max(initial=0)) + 1, "numpy", None)


def score_auxiliary(
    kind: str, inputs: Sequence[Mapping[str, Any]], options: BoxScoreOptions
) -> list[Floats]:
    """Return the box scores of one kind for each image of the auxiliary inputs."""
    return [_score_image(kind, image, options, i) for i, image in enumerate(inputs)]


def _score_image(
    kind: str, image: Mapping[str, Any], options: BoxScoreOptions, position: int
) -> Floats:
    given, given_classes = _given(image, position)
    predicted, classes, probs = _predicted(image, position)
    crowd = np.zeros(len(given_classes), np.bool_)
    iou, similarity = pair_matrices(
        given, predicted, options.alpha, np.ones(len(classes), np.bool_)
    )
    if image.get("iou_matrix") is not None:
        iou = np.require(image["iou_matrix"], np.float64, ["C", "W"])
    if image.get("similarity_matrix") is not None:
        similarity = np.require(image["similarity_matrix"], np.float64, ["C", "W"])
    smallest = image.get("min_possible_similarity")
    if smallest is None:
        smallest = np.min(similarity, initial=1.0, where=similarity != 0)
    smallest = float(smallest)
    low, high = options.low_probability_threshold, options.high_probability_threshold
    scores: Floats
    if kind == "overlooked":
        scores = overlooked(iou, similarity, given_classes, classes, probs, high, smallest)
    elif kind == "badloc":
        scores = badloc(iou, similarity, given_classes, crowd, classes, probs, low)
    elif kind == "swap":
        check = options.overlapping_label_check
        scores = swap(
            similarity, given, given_classes, crowd, classes, probs, high, check, smallest
        )
    else:
        scores = spurious(iou, similarity, given_classes, crowd, classes, probs)
    return scores


def _given(image: Mapping[str, Any], position: int) -> tuple[AnyArray, AnyArray]:
    label = image.get("label")
    if image.get("lab_labels") is not None and image.get("lab_bboxes") is not None:
        label = {"bboxes": image["lab_bboxes"], "labels": image["lab_labels"]}
    if label is None:
        raise InputError(
            f"auxiliary_inputs[{position}] has {list(image)}; it needs 'lab_labels' and "
            "'lab_bboxes', or 'label'"
        )
    columns = flatten_labels([label], 1)
    return np.require(columns["given_boxes"], np.float64, ["C", "W"]), columns["given_classes"]


def _predicted(image: Mapping[str, Any], position: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    names = ("pred_bboxes", "pred_labels", "pred_label_probs")
    if all(image.get(name) is not None for name in names):
        boxes, classes, probs = (np.asarray(image[name]) for name in names)
    elif image.get("prediction") is not None:
        boxes, classes, probs = separate_prediction(image["prediction"])
    else:
        raise InputError(
            f"auxiliary_inputs[{position}] has {list(image)}; it needs {list(names)}, or "
            "'prediction'"
        )
    return (
        np.require(boxes, np.float64, ["C", "W"]).reshape(-1, 4),
        np.require(classes, np.int64, ["C", "W"]),
        np.require(probs, np.float64, ["C", "W"]),
    )
