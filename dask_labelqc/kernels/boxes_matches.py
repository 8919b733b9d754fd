"""Which predictions match a given box, and the average precision of each class.

In an image the predictions of a class, most probable first, each claim the given box of that
class with the largest IoU; the claim holds at an IoU threshold that is not above the IoU, if no
earlier prediction claimed the same box at that threshold. The box does not depend on the
threshold, so the thresholds at which a prediction is a true positive are one run
``first..last - 1``, and a match is one byte, ``16 * first + last``.
"""

from __future__ import annotations

import numpy as np

from dask_labelqc.kernels.boxes import intersection_over_union
from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["IOU_THRESHOLDS", "LEFT_OUT", "average_precision", "match_block", "true_positives"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
LEFT_OUT = np.uint8(255)
"""The match of a prediction that stands in a crowd: neither right nor wrong."""
CROWD_SHARE = 0.5


@compiled
def _share_inside(box, crowd_box):  # type: ignore[no-untyped-def]
    width = min(box[2], crowd_box[2]) - max(box[0], crowd_box[0])
    height = min(box[3], crowd_box[3]) - max(box[1], crowd_box[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((box[2] - box[0]) * (box[3] - box[1]))


@compiled
def _match(j, g0, g1, block, claimed, thresholds):  # type: ignore[no-untyped-def]
    best, match_with, in_crowd = -1.0, -1, False
    for i in range(g0, g1):
        if block.given_classes[i] != block.predicted_classes[j]:
            continue
        if block.given_crowd[i]:
            share = _share_inside(block.predicted_boxes[j], block.given_boxes[i])
            in_crowd = in_crowd or share >= CROWD_SHARE
            continue
        iou = intersection_over_union(block.predicted_boxes[j], block.given_boxes[i])
        if iou > best:
            best, match_with = iou, i
    last = np.searchsorted(thresholds, best, side="right")
    if last == 0:
        return LEFT_OUT if in_crowd else np.uint8(0)
    first = min(claimed[match_with], last)
    claimed[match_with] = max(claimed[match_with], last)
    return np.uint8(16 * first + last)


@compiled
def match_block(block, thresholds):  # type: ignore[no-untyped-def]
    """Return the match of every predicted box, uint8 (P,). Ties in score: the first box first."""
    matches = np.zeros(len(block.predicted_classes), np.uint8)
    claimed = np.zeros(len(block.given_classes), np.int64)
    for image in range(len(block.given_offsets) - 1):
        g0, g1 = block.given_offsets[image], block.given_offsets[image + 1]
        p0, p1 = block.predicted_offsets[image], block.predicted_offsets[image + 1]
        if p0 == p1:
            continue
        by_score = np.argsort(-block.predicted_scores[p0:p1], kind="mergesort")
        for k in range(p1 - p0):
            j = p0 + by_score[k]
            matches[j] = _match(j, g0, g1, block, claimed, thresholds)
    return matches


def true_positives(matches: AnyArray) -> Ints:
    """Return at how many IoU thresholds each match is a true positive, int64.

    Examples
    --------
    >>> true_positives(np.array([16 * 2 + 5, 0, 255], np.uint8))
    array([3, 0, 0])
    """
    runs = (matches & 15).astype(np.int64) - (matches >> 4)
    return np.where(matches == LEFT_OUT, 0, runs)


@compiled
def _areas(matches, num_given, areas):  # type: ignore[no-untyped-def]
    for t in range(len(areas)):
        positives = 0
        for match in matches:
            positives += (match >> 4) <= t < (match & 15)
        area, best = 0.0, 0.0
        for i in range(len(matches) - 1, -1, -1):
            if (matches[i] >> 4) <= t < (matches[i] & 15):
                best = max(best, np.float64(np.float32(positives) / np.float32(i + 1)))
                area += (positives / num_given - (positives - 1) / num_given) * best
                positives -= 1
        areas[t] = area


def average_precision(scores: Floats, matches: AnyArray, num_given: int) -> Floats:
    """Return the average precision of one class at each IoU threshold, float32 (T,).

    The area under the precision envelope over recall; float32 where cleanlab has float32
    (`cleanlab.object_detection.filter`). Ties in score keep the order of the arguments.

    Parameters
    ----------
    scores, matches
        Of the predictions of the class in the order of the images, without those left out.
    num_given
        How many boxes of the class were given, crowds not counted.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.3]), np.array([3, 0], np.uint8), 2)[:4]
    array([0.5, 0.5, 0.5, 0. ], dtype=float32)
    """
    areas = np.zeros(len(IOU_THRESHOLDS), np.float32)
    _areas(matches[np.argsort(-scores, kind="stable")], num_given, areas)
    return areas
