"""Boxes of a block of images, how alike two boxes are, and what makes a box unusable.

Boxes are ``x1, y1, x2, y2`` in pixels. The similarity of a given and a predicted box is
``alpha * IoU + (1 - alpha) * exp(-0.1 d)``, d the distance of their centres in pixels, computed
with cleanlab's roundings: ``1 - (1 - exp(-0.1 d))`` is zero for boxes some 370 pixels apart, and
the smallest similarity that is not zero enters every score.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.typing import AnyArray, BoolArray, Floats, Ints

__all__ = [
    "PROBLEMS",
    "BoxBlock",
    "find_problem",
    "intersection_over_union",
    "minimum_similarity",
    "pair_matrices",
    "pool_softmin",
]

DISTANCE_DECAY = 0.1
SMALLEST_UNION = 1e-6
LOWEST_TEMPERATURE = 1e-6
VANISHING_DISTANCE = 374.5
"""Beyond this distance of the centres, in pixels, the similarity is exactly alpha * IoU."""

PROBLEMS = (
    "given_boxes",
    "given_classes",
    "predicted_boxes",
    "predicted_classes",
    "predicted_scores",
)


class BoxBlock(NamedTuple):
    """The boxes of n images side by side; those of image i are ``offsets[i]:offsets[i + 1]``.

    A named tuple, because Numba takes it as one argument.

    Attributes
    ----------
    given_boxes, predicted_boxes
        float64 (B, 4) and (P, 4): x1, y1, x2, y2 in pixels.
    given_classes, predicted_classes
        int64 (B,) and (P,): 0..K-1.
    given_crowd
        bool (B,): boxes around a crowd of objects, which are not scored and excuse predictions.
    predicted_scores
        float64 (P,): the probability of the predicted class.
    given_offsets, predicted_offsets
        int64 (n + 1,), starting at 0.
    """

    given_boxes: Floats
    given_classes: Ints
    given_crowd: BoolArray
    given_offsets: Ints
    predicted_boxes: Floats
    predicted_classes: Ints
    predicted_scores: Floats
    predicted_offsets: Ints

    @classmethod
    def of(
        cls,
        given: tuple[AnyArray, AnyArray, AnyArray | None, AnyArray],
        predicted: tuple[AnyArray, AnyArray, AnyArray, AnyArray],
    ) -> BoxBlock:
        """Bring arrays of any dtype to the one memory layout that the kernels are compiled for."""
        boxes, classes, crowd, offsets = given
        if crowd is None:
            crowd = np.zeros(len(classes), np.bool_)
        predicted_boxes, predicted_classes, scores, predicted_offsets = predicted
        return cls(
            _plain(boxes, np.float64).reshape(-1, 4),
            _plain(classes, np.int64),
            _plain(crowd, np.bool_),
            _plain(offsets, np.int64),
            _plain(predicted_boxes, np.float64).reshape(-1, 4),
            _plain(predicted_classes, np.int64),
            _plain(scores, np.float64),
            _plain(predicted_offsets, np.int64),
        )


def _plain(array: AnyArray, dtype: type[np.generic]) -> AnyArray:
    return np.require(array, dtype, ["C", "W", "A", "E"])


# Selections rather than branches, and no rule for NaN: loops over them become SIMD.
@compiled(error_model="python")
def _lower(a, b):  # type: ignore[no-untyped-def]
    return a if a < b else b


@compiled(error_model="python")
def _higher(a, b):  # type: ignore[no-untyped-def]
    return a if a > b else b


@compiled
def intersection_over_union(a, b):  # type: ignore[no-untyped-def]
    """Return the IoU of two boxes, 0 for boxes that do not overlap."""
    width = _higher(_lower(a[2], b[2]) - _higher(a[0], b[0]), 0.0)
    height = _higher(_lower(a[3], b[3]) - _higher(a[1], b[1]), 0.0)
    intersection = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return intersection / _higher(areas - intersection, SMALLEST_UNION)


@compiled
def _squared_distance(a, b):  # type: ignore[no-untyped-def]
    dx = (a[0] + a[2]) / 2 - (b[0] + b[2]) / 2
    dy = (a[1] + a[3]) / 2 - (b[1] + b[3]) / 2
    return dx * dx + dy * dy


@compiled
def _similarity(iou, squared_distance, alpha):  # type: ignore[no-untyped-def]
    closeness = 0.0
    if squared_distance < VANISHING_DISTANCE * VANISHING_DISTANCE:
        farness = 1 - math.exp(-math.sqrt(squared_distance) * DISTANCE_DECAY)
        closeness = 1 - farness
    return iou * alpha + (1 - alpha) * closeness


@compiled
def pair_matrices(given, predicted, alpha, confident):  # type: ignore[no-untyped-def]
    """Return the IoU and the similarity of every given (row) with every predicted box (column).

    A similarity that no score reads is left at 0: the boxes do not overlap and the prediction is
    not `confident`, bool (M,).
    """
    iou = np.empty((len(given), len(predicted)))
    similarity = np.zeros((len(given), len(predicted)))
    for i in range(len(given)):
        for j in range(len(predicted)):
            iou[i, j] = intersection_over_union(given[i], predicted[j])
        for j in range(len(predicted)):
            if confident[j] | (iou[i, j] > 0):
                squared = _squared_distance(given[i], predicted[j])
                similarity[i, j] = _similarity(iou[i, j], squared, alpha)
    return iou, similarity


@compiled
def _extremes(given, predicted):  # type: ignore[no-untyped-def]
    """Return the largest squared distance without, and the smallest IoU with overlap."""
    farthest, smallest_iou = -1.0, 1.0
    for j in range(len(predicted)):
        iou = intersection_over_union(given, predicted[j])
        squared = _squared_distance(given, predicted[j])
        near = (iou == 0) & (squared < VANISHING_DISTANCE * VANISHING_DISTANCE)
        farthest = _higher(farthest, squared if near else -1.0)
        smallest_iou = _lower(smallest_iou, iou if iou > 0 else 1.0)
    return farthest, smallest_iou


@compiled
def minimum_similarity(block, alpha):  # type: ignore[no-untyped-def]
    """Return the smallest similarity in a block that is not zero, at most 1.

    Few pairs need an exponential: without overlap the similarity falls with the distance, with
    overlap it is at least alpha * IoU. So the pairs of a given box are looked at one by one only
    if one of them is farther apart, or overlaps less, than all before could have.
    """
    smallest, farthest = 1.0, -1.0
    for image in range(len(block.given_offsets) - 1):
        p0, p1 = block.predicted_offsets[image], block.predicted_offsets[image + 1]
        predicted = block.predicted_boxes[p0:p1]
        for i in range(block.given_offsets[image], block.given_offsets[image + 1]):
            given = block.given_boxes[i]
            far, smallest_iou = _extremes(given, predicted)
            if far <= farthest and smallest_iou * alpha >= smallest:
                continue
            for j in range(len(predicted)):
                iou = intersection_over_union(given, predicted[j])
                squared = _squared_distance(given, predicted[j])
                similarity = _similarity(iou, squared, alpha)
                if similarity > 0:
                    smallest = min(smallest, similarity)
                    if iou == 0:
                        farthest = max(farthest, squared)
    return smallest


@compiled
def pool_softmin(scores, offsets, temperature):  # type: ignore[no-untyped-def]
    """Return the softmin of the scores of each image; NaN takes no part, 1 when none is left."""
    temperature = max(temperature, LOWEST_TEMPERATURE)
    pooled = np.ones(len(offsets) - 1)
    for image in range(len(pooled)):
        lowest = np.inf
        for i in range(offsets[image], offsets[image + 1]):
            if scores[i] < lowest:
                lowest = scores[i]
        if lowest == np.inf:
            continue
        total, weighted = 0.0, 0.0
        for i in range(offsets[image], offsets[image + 1]):
            if scores[i] == scores[i]:
                weight = math.exp((lowest - scores[i]) / temperature)
                total += weight
                weighted += weight * scores[i]
        pooled[image] = weighted / total
    return pooled


@compiled(error_model="python")
def _unusable(box):  # type: ignore[no-untyped-def]
    finite = np.isfinite(box[0]) and np.isfinite(box[1])
    finite = finite and np.isfinite(box[2]) and np.isfinite(box[3])
    return not finite or box[2] < box[0] or box[3] < box[1]


@compiled(error_model="python")
def find_problem(block, num_classes):  # type: ignore[no-untyped-def]
    """Return (problem, image, box) of the first unusable value, problem -1 when there is none.

    `problem` indexes `PROBLEMS`, `image` and `box` count from the start of the block.
    """
    for image in range(len(block.given_offsets) - 1):
        for i in range(block.given_offsets[image], block.given_offsets[image + 1]):
            if _unusable(block.given_boxes[i]):
                return 0, image, i
            if block.given_classes[i] < 0 or block.given_classes[i] >= num_classes:
                return 1, image, i
        for j in range(block.predicted_offsets[image], block.predicted_offsets[image + 1]):
            if _unusable(block.predicted_boxes[j]):
                return 2, image, j
            if block.predicted_classes[j] < 0 or block.predicted_classes[j] >= num_classes:
                return 3, image, j
            if not (0 <= block.predicted_scores[j] <= 1):
                return 4, image, j
    return -1, -1, -1
