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
def _supporting_pairs(iou, similarity, given_classes, crowd, classes, probs):  # type: ignore[no-untyped-def]
    """Return the pairs that overlap, and their support; those of one class come first."""
    count = 0
    for i in range(len(given_classes)):
        for j in range(len(classes)):
            count += (not crowd[i]) & (iou[i, j] > 0)
    rows, columns, support = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count)
    n = 0
    for same in (True, False):
        for i in range(len(given_classes)):
            for j in range(len(classes)):
                kept = (not crowd[i]) & (iou[i, j] > 0)
                if kept and (given_classes[i] == classes[j]) == same:
                    rows[n], columns[n], support[n] = i, j, similarity[i, j] * probs[j]
                    n += 1
    return rows, columns, support


@compiled(error_model="python")
def spurious(iou, similarity, given_classes, crowd, classes, probs):  # type: ignore[no-untyped-def]
    """Score given boxes (L,): low when no prediction of any class supports the box.

    The support of an overlapping pair is its similarity times the probability. Boxes and
    predictions are matched one to one, the best supported pair first; of equal ones a pair of one
    class, then the first given, then the first predicted box. The score is the support of the
    box's match, 0 without one.
    """
    rows, columns, support = _supporting_pairs(
        iou, similarity, given_classes, crowd, classes, probs
    )
    scores = np.where(crowd, np.nan, 0.0)
    matched, taken = crowd.copy(), np.zeros(len(classes), np.bool_)
    for pair in np.argsort(-support, kind="mergesort"):
        i, j = rows[pair], columns[pair]
        if not matched[i] and not taken[j]:
            matched[i] = taken[j] = True
            scores[i] = support[pair]
    return scores


@compiled
def score_block(block, alpha, low, high, check_overlap, smallest, with_spurious):  # type: ignore[no-untyped-def]
    """Return the overlooked (P,), badloc (B,), swap (B,) and spurious (B,) scores of a block.

    Matching takes a quarter of the time: spurious scores are 0 unless asked for.
    """
    all_overlooked = np.empty(len(block.predicted_classes))
    all_badloc = np.empty(len(block.given_classes))
    all_swap = np.empty(len(block.given_classes))
    all_spurious = np.zeros(len(block.given_classes))
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
        if with_spurious:
            all_spurious[g0:g1] = spurious(iou, similarity, given, crowd, classes, probs)
    return all_overlooked, all_badloc, all_swap, all_spurious
