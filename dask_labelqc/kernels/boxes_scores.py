"""The label quality scores of the boxes of one image, and of a block of images.

Each rule reads the pair matrices of one image, (L, M): given boxes are rows, predicted boxes
columns. The rules are cleanlab's ObjectLab ones (`cleanlab.object_detection.rank`), but for
`spurious`, which cleanlab does not have.
"""

from __future__ import annotations

import numpy as np

from dask_labelqc.kernels.boxes import intersection_over_union, pair_matrices
from dask_labelqc.kernels.compiled import compiled

__all__ = ["badloc", "overlooked", "score_block", "spurious", "swap"]

COINCIDENCE = 0.95
"""Two given boxes with this IoU are one object that was annotated twice."""


@compiled(error_model="python")
def overlooked(iou, similarity, given_classes, classes, probs, high, smallest):  # type: ignore[no-untyped-def]
    """Score predicted boxes (M,): low for a confident one far from every given box of its class."""
    scores = np.full(len(classes), np.nan)
    for j in range(len(classes)):
        if probs[j] < high:
            continue
        overlaps, same_class, best = False, False, -np.inf
        for i in range(len(given_classes)):
            overlaps = overlaps or iou[i, j] > 0
            if given_classes[i] == classes[j]:
                same_class = True
                best = max(best, similarity[i, j])
        if not overlaps:
            scores[j] = best if same_class else smallest * (1 - probs[j])
    return scores


@compiled(error_model="python")
def badloc(iou, similarity, given_classes, crowd, classes, probs, low):  # type: ignore[no-untyped-def]
    """Score given boxes (L,): low when the predictions of its class overlap it badly."""
    scores = np.full(len(given_classes), np.nan)
    for i in range(len(given_classes)):
        if crowd[i]:
            continue
        best = -np.inf
        for j in range(len(classes)):
            if classes[j] == given_classes[i] and probs[j] > low and iou[i, j] > 0:
                best = max(best, similarity[i, j])
        scores[i] = 1.0 if best == -np.inf else best
    return scores


@compiled
def _annotated_twice(i, given_boxes, given_classes, crowd):  # type: ignore[no-untyped-def]
    highest = 0.0
    for other in range(len(given_classes)):
        iou = intersection_over_union(given_boxes[i], given_boxes[other])
        conflicting = (given_classes[other] != given_classes[i]) & (not crowd[other])
        highest = max(highest, iou if conflicting else 0.0)
    return highest >= COINCIDENCE


@compiled(error_model="python")
def swap(  # type: ignore[no-untyped-def]
    similarity, given_boxes, given_classes, crowd, classes, probs, high, check_overlap, smallest
):
    """Score given boxes (L,): low when a confident prediction of another class is in its place."""
    scores = np.full(len(given_classes), np.nan)
    for i in range(len(given_classes)):
        if crowd[i]:
            continue
        if check_overlap and _annotated_twice(i, given_boxes, given_classes, crowd):
            scores[i] = smallest
            continue
        best = -np.inf
        for j in range(len(classes)):
            if classes[j] != given_classes[i] and probs[j] > high:
                best = max(best, similarity[i, j])
        scores[i] = 1.0 if best == -np.inf else max(smallest, 1 - best)
    return scores


@compiled(error_model="python")
def spurious(iou, similarity, crowd, probs, smallest):  # type: ignore[no-untyped-def]
    """Score given boxes (L,): low when no confident prediction of any class overlaps it.

    The highest product of similarity and probability over the predictions that overlap the box,
    the smallest similarity of the dataset when there are none.
    """
    scores = np.full(len(crowd), np.nan)
    for i in range(len(crowd)):
        if crowd[i]:
            continue
        support = 0.0
        for j in range(len(probs)):
            if iou[i, j] > 0:
                support = max(support, similarity[i, j] * probs[j])
        scores[i] = support if support > 0 else smallest
    return scores


@compiled
def score_block(block, alpha, low, high, check_overlap, smallest):  # type: ignore[no-untyped-def]
    """Return the overlooked (P,), badloc (B,), swap (B,) and spurious (B,) scores of a block."""
    all_overlooked = np.empty(len(block.predicted_classes))
    all_badloc = np.empty(len(block.given_classes))
    all_swap = np.empty(len(block.given_classes))
    all_spurious = np.empty(len(block.given_classes))
    for image in range(len(block.given_offsets) - 1):
        g0, g1 = block.given_offsets[image], block.given_offsets[image + 1]
        p0, p1 = block.predicted_offsets[image], block.predicted_offsets[image + 1]
        boxes, given, crowd = (
            block.given_boxes[g0:g1],
            block.given_classes[g0:g1],
            block.given_crowd[g0:g1],
        )
        classes, probs = block.predicted_classes[p0:p1], block.predicted_scores[p0:p1]
        iou, similarity = pair_matrices(boxes, block.predicted_boxes[p0:p1], alpha, probs >= high)
        all_overlooked[p0:p1] = overlooked(iou, similarity, given, classes, probs, high, smallest)
        all_badloc[g0:g1] = badloc(iou, similarity, given, crowd, classes, probs, low)
        all_swap[g0:g1] = swap(
            similarity, boxes, given, crowd, classes, probs, high, check_overlap, smallest
        )
        all_spurious[g0:g1] = spurious(iou, similarity, crowd, probs, smallest)
    return all_overlooked, all_badloc, all_swap, all_spurious
