"""The compiled kernels for boxes against the same rules in slow, obvious NumPy."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_labelqc.kernels.boxes import (
    PROBLEMS,
    BoxBlock,
    find_problem,
    minimum_similarity,
    pair_matrices,
    pool_softmin,
)
from dask_labelqc.kernels.boxes_matches import (
    IOU_THRESHOLDS,
    LEFT_OUT,
    average_precision,
    match_block,
    true_positives,
)
from dask_labelqc.kernels.boxes_scores import score_block

# The first call loads compiled code from disk.
unhurried = settings(deadline=None)

K = 3
ALPHAS = st.sampled_from([0.0, 0.3, 0.9, 1.0])
LOW, HIGH = 0.5, 0.95


def reference_iou(a: Any, b: Any) -> Any:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / max(union, 1e-6)


def reference_matrices(given_boxes: Any, predicted_boxes: Any, alpha: Any) -> Any:
    shape = (len(given_boxes), len(predicted_boxes))
    iou, similarity = np.zeros(shape), np.zeros(shape)
    for i, a in enumerate(given_boxes):
        for j, b in enumerate(predicted_boxes):
            dx, dy = (a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2
            distance = np.sqrt(dx * dx + dy * dy)  # hypot rounds otherwise, and breaks ties
            iou[i, j] = reference_iou(a, b)
            closeness = 1 - (1 - np.exp(-0.1 * distance))
            similarity[i, j] = alpha * iou[i, j] + (1 - alpha) * closeness
    return iou, similarity


def images_of(block: Any) -> Iterator[Any]:
    for i in range(len(block.given_offsets) - 1):
        given = slice(*block.given_offsets[i : i + 2])
        predicted = slice(*block.predicted_offsets[i : i + 2])
        yield given, predicted


def reference_minimum(block: Any, alpha: Any) -> Any:
    smallest = 1.0
    for g, p in images_of(block):
        _, similarity = reference_matrices(block.given_boxes[g], block.predicted_boxes[p], alpha)
        smallest = min([smallest, *similarity[similarity > 0]])
    return smallest


def reference_scores(block: Any, alpha: Any, check_overlap: Any, smallest: Any) -> Any:
    overlooked = np.full(len(block.predicted_classes), np.nan)
    badloc, swap, spurious = (np.full(len(block.given_classes), np.nan) for _ in range(3))
    for g, p in images_of(block):
        boxes, classes, crowd = block.given_boxes[g], block.given_classes[g], block.given_crowd[g]
        predicted, probs = block.predicted_classes[p], block.predicted_scores[p]
        iou, similarity = reference_matrices(boxes, block.predicted_boxes[p], alpha)
        for j in range(len(predicted)):
            if probs[j] >= HIGH and not (iou[:, j] > 0).any():
                near = similarity[classes == predicted[j], j]
                overlooked[p.start + j] = near.max() if near.size else smallest * (1 - probs[j])
        for i in np.flatnonzero(~crowd):
            fits = (predicted == classes[i]) & (probs > LOW) & (iou[i] > 0)
            badloc[g.start + i] = similarity[i, fits].max() if fits.any() else 1.0
            twice = [
                reference_iou(boxes[i], boxes[o]) >= 0.95
                for o in range(len(boxes))
                if classes[o] != classes[i] and not crowd[o]
            ]
            other = (predicted != classes[i]) & (probs > HIGH)
            if check_overlap and any(twice):
                swap[g.start + i] = smallest
            elif other.any():
                swap[g.start + i] = max(smallest, 1 - similarity[i, other].max())
            else:
                swap[g.start + i] = 1.0
        spurious[g] = reference_spurious(iou, similarity, classes, crowd, predicted, probs)
    return overlooked, badloc, swap, spurious


def reference_spurious(
    iou: Any, similarity: Any, given_classes: Any, crowd: Any, classes: Any, probs: Any
) -> Any:
    """The best pair that is left is matched, again and again; in a tie one of the same class."""
    scores = np.where(crowd, np.nan, 0.0)
    pairs = {(i, j) for i, j in np.argwhere(iou > 0).tolist() if not crowd[i]}
    while pairs:
        support = {(i, j): similarity[i, j] * probs[j] for i, j in pairs}
        best = max(support.values())
        equal = [pair for pair in sorted(pairs) if support[pair] == best]
        same_class = [(i, j) for i, j in equal if given_classes[i] == classes[j]]
        i, j = (same_class or equal)[0]
        scores[i] = best
        pairs = {(a, b) for a, b in pairs if a != i and b != j}
    return scores


def reference_hits(block: Any, threshold: Any) -> Any:
    """True positives of one threshold by greedy assignment, without crowds."""
    hits = np.zeros(len(block.predicted_classes), bool)
    for g, p in images_of(block):
        for k in range(K):
            given_boxes = block.given_boxes[g][block.given_classes[g] == k]
            mine = p.start + np.flatnonzero(block.predicted_classes[p] == k)
            taken = np.zeros(len(given_boxes), bool)
            for j in mine[np.argsort(-block.predicted_scores[mine], kind="stable")]:
                ious = [reference_iou(block.predicted_boxes[j], box) for box in given_boxes]
                if ious and max(ious) >= threshold and not taken[np.argmax(ious)]:
                    taken[np.argmax(ious)] = hits[j] = True
    return hits


def reference_precision(scores: Any, hits: Any, num_given: Any) -> Any:
    """The area under the precision envelope, over every distinct recall."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    precision = right / np.arange(1, len(right) + 1)
    area = 0.0
    for count in range(1, right.max(initial=0) + 1):
        area += precision[right >= count].max() / num_given
    return area


@st.composite
def boxes(draw: st.DrawFn, count: Any) -> Any:
    corner = st.one_of(st.integers(0, 6), st.sampled_from([0.5, 300.0, 372.5, 2000.0]))
    size = st.one_of(st.integers(0, 5), st.sampled_from([2.5, 0.0]))
    rows = [
        (x := draw(corner), y := draw(corner), x + draw(size), y + draw(size)) for _ in range(count)
    ]
    return np.array(rows, np.float64).reshape(-1, 4)


@st.composite
def blocks(draw: st.DrawFn, crowds: bool = True) -> Any:
    given_counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    predicted_counts = [draw(st.integers(0, 5)) for _ in given_counts]
    num_given, num_predicted = sum(given_counts), sum(predicted_counts)

    def each(strategy: Any, count: Any) -> Any:
        return [draw(strategy) for _ in range(count)]

    classes = st.integers(0, K - 1)
    probs = st.sampled_from([0.0, 0.2, 0.5, 0.51, 0.949, 0.95, 0.951, 1.0])
    crowd = each(st.booleans(), num_given) if crowds else None
    return BoxBlock.of(
        (
            draw(boxes(num_given)),
            np.array(each(classes, num_given)),
            None if crowd is None else np.array(crowd, bool),
            np.cumsum([0, *given_counts]),
        ),
        (
            draw(boxes(num_predicted)),
            np.array(each(classes, num_predicted)),
            np.array(each(probs, num_predicted)),
            np.cumsum([0, *predicted_counts]),
        ),
    )


@given(blocks(), ALPHAS)
@unhurried
def test_pair_matrices(block: Any, alpha: Any) -> None:
    everything = np.ones(len(block.predicted_classes), bool)
    found = pair_matrices(block.given_boxes, block.predicted_boxes, alpha, everything)
    expected = reference_matrices(block.given_boxes, block.predicted_boxes, alpha)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=2.3e-17)


@given(blocks(), ALPHAS)
@unhurried
def test_minimum_similarity(block: Any, alpha: Any) -> None:
    np.testing.assert_allclose(
        minimum_similarity(block, alpha), reference_minimum(block, alpha), rtol=1e-9, atol=2.3e-17
    )


def test_minimum_similarity_sees_the_smallest_pair_wherever_it_stands() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = rng.uniform(0, 600, (40, 2))
        all_boxes = np.hstack([corners, corners + rng.uniform(0, 200, (40, 2))])
        half, edges = np.zeros(20, int), np.array([0, 7, 20])
        block = BoxBlock.of(
            (all_boxes[:20], half, None, edges), (all_boxes[20:], half, half + 0.5, edges)
        )
        assert minimum_similarity(block, 0.9) == pytest.approx(
            reference_minimum(block, 0.9), abs=1e-17
        )


@given(blocks(), ALPHAS, st.booleans())
@unhurried
def test_score_block(block: Any, alpha: Any, check_overlap: Any) -> None:
    smallest = reference_minimum(block, alpha)
    found = score_block(block, alpha, LOW, HIGH, check_overlap, smallest, True)
    expected = reference_scores(block, alpha, check_overlap, smallest)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-15)


@given(blocks(crowds=False))
@unhurried
def test_matches_and_average_precision(block: Any) -> None:
    matches = match_block(block, IOU_THRESHOLDS)
    hits = np.array([reference_hits(block, threshold) for threshold in IOU_THRESHOLDS])
    np.testing.assert_array_equal(true_positives(matches), hits.sum(axis=0))
    num_given = np.bincount(block.given_classes, minlength=K)
    for k in range(K):
        mine = block.predicted_classes == k
        found = average_precision(block.predicted_scores[mine], matches[mine], num_given[k])
        for t in range(len(IOU_THRESHOLDS)):
            expected = reference_precision(
                block.predicted_scores[mine], hits[t, mine], num_given[k]
            )
            assert found[t] == pytest.approx(expected, abs=1e-6)


def test_crowds_excuse_predictions_and_are_not_scored() -> None:
    crowd_box, inside, outside = [0, 0, 100, 100], [10, 10, 20, 20], [150, 0, 160, 10]
    block = BoxBlock.of(
        (np.array([crowd_box]), np.array([0]), np.array([True]), np.array([0, 1])),
        (np.array([inside, outside]), np.array([0, 0]), np.array([0.99, 0.99]), np.array([0, 2])),
    )
    overlooked, *of_given = score_block(block, 0.9, LOW, HIGH, True, 0.1, True)
    assert np.isnan(overlooked[0])
    assert overlooked[1] < 0.1
    assert all(np.isnan(scores).all() for scores in of_given)
    assert match_block(block, IOU_THRESHOLDS).tolist() == [LEFT_OUT, 0]


@given(st.lists(st.lists(st.sampled_from([np.nan, 0.0, 0.1, 0.5, 0.9, 1.0]), max_size=4)))
@unhurried
def test_pool_softmin(images: Any) -> None:
    offsets = np.cumsum([0, *map(len, images)])
    found = pool_softmin(np.array([*chain(*images)], np.float64), offsets, 0.1)
    for image, mine in zip(images, found, strict=True):
        scores = np.array([s for s in image if s == s])
        weights = np.exp(-scores / 0.1)
        assert mine == pytest.approx((scores * weights).sum() / weights.sum() if scores.size else 1)


GOOD = {
    "given_boxes": [0.0, 0.0, 1.0, 1.0],
    "given_classes": 0,
    "predicted_boxes": [0.0, 0.0, 1.0, 1.0],
    "predicted_classes": K - 1,
    "predicted_scores": 1.0,
}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (None, None),
        ("given_boxes", [1.0, 0.0, 0.0, 1.0]),
        ("given_boxes", [0.0, 0.0, np.inf, 1.0]),
        ("given_classes", -1),
        ("given_classes", K),
        ("predicted_boxes", [0.0, np.nan, 1.0, 1.0]),
        ("predicted_classes", K),
        ("predicted_scores", np.nan),
        ("predicted_scores", 1.5),
        ("predicted_scores", -0.1),
    ],
)
def test_find_problem(column: Any, value: Any) -> None:
    values = {name: [GOOD[name], GOOD[name]] for name in GOOD}
    if column is not None:
        values[column][1] = value
    edges = np.array([0, 0, 1, 2])
    arrays = {name: np.array(rows) for name, rows in values.items()}
    block = BoxBlock.of(
        (arrays["given_boxes"], arrays["given_classes"], None, edges),
        (
            arrays["predicted_boxes"],
            arrays["predicted_classes"],
            arrays["predicted_scores"],
            edges,
        ),
    )
    problem, image, box = find_problem(block, K)
    if column is None:
        assert problem == -1
    else:
        assert (PROBLEMS[problem], image, box) == (column, 2, 1)


def test_blocks_pickle_and_take_any_dtype() -> None:
    read_only = np.array([[0, 0, 5, 5]], np.int16)
    read_only.flags.writeable = False
    block = BoxBlock.of(
        (read_only, np.array([1], np.uint8), None, np.array([0, 1], np.int32)),
        (read_only, np.array([1], np.uint8), np.array([0.5], np.float16), np.array([0, 1])),
    )
    again = pickle.loads(pickle.dumps(block))
    assert minimum_similarity(again, 0.9) == 1.0
