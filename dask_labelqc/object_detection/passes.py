"""The two passes over the boxes: survey the dataset, then score its images.

The survey learns what the scores of an image need to know about all the others: the smallest
similarity that is not zero and, for the issues, the average precision of each class. Both are
reductions over the blocks. The second pass scores each block by itself. On plain arrays the
passes run at once; otherwise each step is a task, and a task reads its own block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

from dask_labelqc.kernels.boxes import BoxBlock, minimum_similarity, pool_softmin
from dask_labelqc.kernels.boxes_matches import (
    IOU_THRESHOLDS,
    LEFT_OUT,
    average_precision,
    match_block,
    true_positives,
)
from dask_labelqc.kernels.boxes_scores import score_block
from dask_labelqc.object_detection.blocks import Boxes, Span, read_block
from dask_labelqc.object_detection.options import (
    ISSUE_FACTOR,
    KINDS,
    PRECISION_FACTOR,
    BoxScoreOptions,
)
from dask_labelqc.typing import AnyArray, BoolArray, Floats, Ints

__all__ = [
    "OUTPUTS",
    "Survey",
    "num_class_groups",
    "output_dtype",
    "precision_by_class",
    "precision_of_group",
    "score",
    "score_images",
    "survey",
    "survey_images",
]

OUTPUTS: Mapping[str, str] = {
    "image_score": "image",
    "label_issues": "image",
    **{f"{kind}_score": "image" for kind in KINDS},
    "overlooked_box_score": "predicted_box",
    "badloc_box_score": "given_box",
    "swap_box_score": "given_box",
    "spurious_box_score": "given_box",
}
"""What the second pass can give, and the dimension of each."""

FAN_IN = 32
TINY = 1e-100
MATCHES_AT_ONCE = 2**21
"""Predictions whose match lists, 9 bytes each, one task takes to find the average precision."""
MAX_GROUPS = 32
"""Groups of classes, each its own task a block: beyond 67 million predictions the lists grow."""


@dataclass(frozen=True)
class Survey:
    """What is known of a part of the dataset; parts add up.

    Attributes
    ----------
    smallest_similarity
        The smallest similarity of a given and a predicted box that is not zero, at most 1.
    given_count, predicted_count
        int64 (K,): boxes of each class, without crowds and the predictions in them.
    true_positives
        int64 (K,): predictions that are right, summed over the ten IoU thresholds.
    """

    smallest_similarity: float
    given_count: Ints
    predicted_count: Ints
    true_positives: Ints

    def __add__(self, other: Survey) -> Survey:
        return Survey.combine([self, other])

    @staticmethod
    def combine(parts: Sequence[Survey]) -> Survey:
        return Survey(
            min(part.smallest_similarity for part in parts),
            np.sum([part.given_count for part in parts], axis=0),
            np.sum([part.predicted_count for part in parts], axis=0),
            np.sum([part.true_positives for part in parts], axis=0),
        )


def survey(
    boxes: Boxes, alpha: float, block_boxes: int, *, matches: bool = False
) -> tuple[Any, list[list[Any]]]:
    """Run the first pass.

    Returns
    -------
    survey
        `Survey` of the dataset, or the task that gives it.
    matched
        With `matches`, for each group of classes the match lists of all blocks, in order:
        what `precision_by_class` takes. A group holds about `MATCHES_AT_ONCE` predictions.
    """
    num_predicted = int(boxes.predicted_offsets[-1])
    groups = num_class_groups(num_predicted, boxes.num_classes) if matches else 0
    step = boxes.call(_survey_block, nout=1 + groups)
    parts = [
        step(columns, span, boxes.num_classes, alpha, groups)
        for columns, span in boxes.pieces(block_boxes, stage="survey")
    ]
    total = _tree(boxes, Survey.combine, [part[0] for part in parts])
    return total, [[part[1 + group] for part in parts] for group in range(groups)]


def num_class_groups(num_predicted: int, num_classes: int) -> int:
    """Return in how many groups of classes the average precision is found.

    Examples
    --------
    >>> num_class_groups(1000, 80), num_class_groups(10**7, 80), num_class_groups(10**7, 2)
    (1, 5, 2)
    """
    return max(1, min(-(-num_predicted // MATCHES_AT_ONCE), num_classes, MAX_GROUPS))


def precision_by_class(boxes: Boxes, total: Any, matched: Sequence[Sequence[Any]]) -> Any:
    """Return the average precision of each class, float32 (K,), mean over the IoU thresholds."""
    step = boxes.call(precision_of_group)
    groups = len(matched)
    return boxes.call(_sum)([step(total, i, groups, parts) for i, parts in enumerate(matched)])


def score(
    boxes: Boxes,
    names: Iterable[str],
    options: BoxScoreOptions,
    total: Any,
    precision: Any = None,
    *,
    block_boxes: int,
) -> dict[str, Any]:
    """Run the second pass and return the outputs `names`: arrays, or lazy Dask arrays.

    `label_issues` needs the `precision` of `precision_by_class`.
    """
    names = tuple(names)
    step = boxes.call(_score_block, nout=len(names))
    after = total if precision is None else [total, precision]
    parts = [
        (span, step(columns, span, boxes.num_classes, names, options, total, precision))
        for columns, span in boxes.pieces(block_boxes, after)
    ]
    if not boxes.lazy:
        return {
            name: np.concatenate([part[i] for _, part in parts]) for i, name in enumerate(names)
        }
    sizes = {name: [span.size(OUTPUTS[name]) for span, _ in parts] for name in names}
    return {
        name: _evenly_chunked([part[i] for _, part in parts], sizes[name], output_dtype(name))
        for i, name in enumerate(names)
    }


def _evenly_chunked(parts: Sequence[Any], sizes: Sequence[int], dtype: type[np.generic]) -> Any:
    """Return the parts as one Dask array, in chunks of one size, as Zarr stores them."""
    pieces = zip(parts, sizes, strict=True)
    array = da.concatenate([da.from_delayed(part, (size,), dtype) for part, size in pieces])
    return array.rechunk(-(-sum(sizes) // len(sizes))) if sum(sizes) else array


def output_dtype(name: str) -> type[np.generic]:
    """Return the dtype of one of the `OUTPUTS`."""
    return np.bool_ if name == "label_issues" else np.float64


def _tree(boxes: Boxes, combine: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
        parts = [boxes.call(combine)(group) for group in groups]
    return parts[0]


def _sum(parts: Sequence[Floats]) -> Floats:
    total: Floats = np.sum(parts, axis=0, dtype=np.float32)
    return total


def _survey_block(
    columns: Any, span: Span, num_classes: int, alpha: float, groups: int
) -> tuple[Any, ...]:
    return survey_images(read_block(columns, span, num_classes), num_classes, alpha, groups)


def survey_images(block: BoxBlock, num_classes: int, alpha: float, groups: int) -> tuple[Any, ...]:
    """Return the `Survey` of a block and, for each group of classes, what was matched.

    That is int64 counts of its predictions class by class, their probabilities, and for each the
    IoU thresholds at which it is right.
    """
    smallest = minimum_similarity(block, alpha)
    given_count = np.bincount(block.given_classes[~block.given_crowd], minlength=num_classes)
    none = np.zeros(num_classes, np.int64)
    if not groups:
        return (Survey(smallest, given_count, none, none),)
    all_matches = match_block(block, IOU_THRESHOLDS)
    counted = all_matches != LEFT_OUT
    matches, classes = all_matches[counted], block.predicted_classes[counted]
    predicted_count = np.bincount(classes, minlength=num_classes)
    hits = np.bincount(classes, true_positives(matches), minlength=num_classes).astype(np.int64)
    # Sorted by class, 9 bytes a prediction are enough; the groups' classes are interleaved.
    order = np.lexsort((classes, classes % groups))
    cuts = np.cumsum(np.bincount(classes % groups, minlength=groups))[:-1]
    scores = np.split(block.predicted_scores[counted][order], cuts)
    by_group = [
        (predicted_count[group::groups], scores[group], part)
        for group, part in enumerate(np.split(matches[order], cuts))
    ]
    return (Survey(smallest, given_count, predicted_count, hits), *by_group)


def precision_of_group(
    total: Survey, group: int, groups: int, parts: Sequence[tuple[Ints, Floats, AnyArray]]
) -> Floats:
    """Return the average precision of a group's classes, 0 for the others, float32 (K,)."""
    precision = np.zeros(len(total.given_count), np.float32)
    ends = [np.cumsum(counts) for counts, _, _ in parts]
    for i, k in enumerate(range(group, len(precision), groups)):
        mine = [slice(e[i] - part[0][i], e[i]) for e, part in zip(ends, parts, strict=True)]
        scores = np.concatenate([part[1][cut] for cut, part in zip(mine, parts, strict=True)])
        matches = np.concatenate([part[2][cut] for cut, part in zip(mine, parts, strict=True)])
        precision[k] = average_precision(scores, matches, int(total.given_count[k])).mean()
    return precision


def _score_block(
    columns: Any,
    span: Span,
    num_classes: int,
    names: tuple[str, ...],
    options: BoxScoreOptions,
    total: Survey,
    precision: Floats | None,
) -> tuple[AnyArray, ...]:
    block = read_block(columns, span, num_classes)
    return score_images(block, names, options, total.smallest_similarity, precision)


def score_images(
    block: BoxBlock,
    names: Sequence[str],
    options: BoxScoreOptions,
    smallest_similarity: float,
    precision: Floats | None,
) -> tuple[AnyArray, ...]:
    """Return the outputs `names` of a block of images, given what is known of all of them."""
    with_spurious = options.weights.get("spurious", 0) > 0
    by_box = dict(
        zip(
            KINDS,
            score_block(
                block,
                options.alpha,
                options.low_probability_threshold,
                options.high_probability_threshold,
                options.overlapping_label_check,
                smallest_similarity,
                with_spurious or any(name.startswith("spurious") for name in names),
            ),
            strict=True,
        )
    )
    found: dict[str, AnyArray] = {f"{kind}_box_score": by_box[kind] for kind in KINDS}
    if any(name in names for name in ("image_score", *(f"{kind}_score" for kind in KINDS))):
        pooled = {
            kind: pool_softmin(
                by_box[kind],
                block.predicted_offsets if kind == "overlooked" else block.given_offsets,
                options.temperature,
            )
            for kind in KINDS
        }
        found |= {f"{kind}_score": pooled[kind] for kind in KINDS}
        found["image_score"] = aggregate(pooled, options.weights)
    if precision is not None:
        found["label_issues"] = _images_with_issues(block, by_box, precision, with_spurious)
    return tuple(found[name] for name in names)


def aggregate(pooled: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """Return the weighted geometric mean of the scores of each image, float64 (n,)."""
    logs = [weights[kind] * np.log(TINY + pooled[kind]) for kind in KINDS if kind in weights]
    score: Floats = np.exp(np.sum(logs, axis=0))
    return score


def _images_with_issues(
    block: Any, by_box: Mapping[str, Floats], precision: Floats, with_spurious: bool
) -> BoolArray:
    limits = precision * np.float32(PRECISION_FACTOR) * np.float32(ISSUE_FACTOR)
    predicted_limits = limits[block.predicted_classes]
    given_limits = limits[block.given_classes]
    given = (by_box["badloc"] <= given_limits) | (by_box["swap"] <= given_limits)
    if with_spurious:
        # Below, not at: predictions that never find a class (a limit of 0) say nothing about it.
        given |= by_box["spurious"] < given_limits
    return _any_box(by_box["overlooked"] <= predicted_limits, block.predicted_offsets) | _any_box(
        given, block.given_offsets
    )


def _any_box(flags: BoolArray, offsets: Ints) -> BoolArray:
    before = np.concatenate([[0], np.cumsum(flags)])
    return before[offsets[1:]] > before[offsets[:-1]]
