"""The same answers as cleanlab, wherever its answer is well defined.

Three things are not: which of the examples with equal scores are selected (cleanlab's sort is
not stable); half precision, in which cleanlab rounds thresholds and sums (it is given the same
numbers in single precision); and thresholds from several batches, since cleanlab lifts the mean
of a class in each batch to 2e-6 (it is given one batch).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from cleanlab.experimental.label_issues_batched import LabelInspector as TheirInspector
from cleanlab.experimental.label_issues_batched import find_label_issues_batched as theirs
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.classification import LabelInspector, find_label_issues_batched
from tests.classification.examples import draw_examples
from tests.strategies import examples

METHODS = [
    *itertools.product(("self_confidence", "normalized_margin"), (False, True)),
    ("confidence_weighted_entropy", False),
]
ESTIMATIONS = ("off_diagonal", "off_diagonal_calibrated")


def arguments(method: Any, adjust: Any, estimation: Any) -> Any:
    return {
        "quality_score_kwargs": {"method": method, "adjust_pred_probs": adjust},
        "num_issue_kwargs": {"estimation_method": estimation},
        "verbose": False,
    }


def inspected(inspector: Any, labels: Any, pred_probs: Any, batch: int = 10_000) -> Any:
    batches = [slice(i, i + batch) for i in range(0, len(labels), batch)]
    for part in batches:
        inspector.update_confident_thresholds(labels[part], pred_probs[part])
    for part in batches:
        inspector.score_label_quality(labels[part], pred_probs[part])
    return inspector


def tolerance(dtype: Any) -> Any:
    return 1e-12 if dtype == np.float64 else 1e-6


@pytest.mark.parametrize("estimation", ESTIMATIONS)
@pytest.mark.parametrize(("method", "adjust"), METHODS)
@pytest.mark.parametrize("num_classes", [2, 3, 17, 300])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masks_scores_and_counts(
    dtype: Any, num_classes: int, method: Any, adjust: Any, estimation: Any
) -> None:
    labels, pred_probs = draw_examples(
        num_classes, 1500, num_classes, dtype, absent=(1,) if num_classes > 2 else ()
    )
    plain = pred_probs.astype(np.float32) if dtype == np.float16 else pred_probs
    kwargs = arguments(method, adjust, estimation)
    ours = inspected(LabelInspector(num_class=num_classes, **kwargs), labels, pred_probs, 700)
    other = inspected(TheirInspector(num_class=num_classes, **kwargs), labels, plain)

    np.testing.assert_allclose(
        ours.get_confident_thresholds(),
        other.get_confident_thresholds(),
        rtol=0,
        atol=2e-7 if dtype != np.float64 else 2**-33,
    )
    assert ours.get_num_issues() == other.get_num_issues()
    scores = ours.get_quality_scores()
    atol = max(tolerance(dtype), 2**-31 if adjust else 0)  # thresholds are in steps of 2**-32
    np.testing.assert_allclose(scores, other.get_quality_scores(), rtol=0, atol=atol)
    cut = assert_same_ranking(scores, ours.get_label_issues(), other.get_label_issues())

    mask = find_label_issues_batched(labels, pred_probs, return_mask=True, **kwargs)
    other_mask = theirs(labels, plain, return_mask=True, **kwargs)
    decided = scores != cut
    assert decided.sum() > len(scores) * 0.9
    np.testing.assert_array_equal(mask[decided], other_mask[decided])
    indices = find_label_issues_batched(labels, pred_probs, **kwargs)
    assert sorted(indices) == np.flatnonzero(mask).tolist()
    assert (np.diff(scores[indices]) >= 0).all()


def assert_same_ranking(scores: Any, ours: Any, other: Any) -> Any:
    """Hold the rankings equal up to the order of ties; return the score in which examples tie
    that were selected with others that were not, NaN if there is none."""
    np.testing.assert_array_equal(scores[ours], np.sort(scores)[: len(other)])
    if len(ours) in (0, len(scores)):
        return np.nan
    last, following = np.sort(scores)[len(ours) - 1 : len(ours) + 1]
    below = scores[ours] < (last if last == following else np.inf)
    assert set(ours[below]) == set(other[: below.sum()])
    if np.diff(scores[ours]).min(initial=1) > 0:
        assert ours.tolist() == other.tolist()
    return last if last == following else np.nan


@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_examples=st.integers(1, 200),
    num_classes=st.integers(2, 8),
    steps=st.sampled_from([2, 4, 10]),
    dtype=st.sampled_from([np.float32, np.float64]),
    method=st.sampled_from(["self_confidence", "normalized_margin"]),
    estimation=st.sampled_from(ESTIMATIONS),
)
def test_ties_differ_only_at_the_cut(
    seed: int,
    num_examples: int,
    num_classes: int,
    steps: Any,
    dtype: Any,
    method: Any,
    estimation: Any,
) -> None:
    labels, pred_probs = draw_examples(seed, num_examples, num_classes, dtype, steps, noise=0.5)
    kwargs = arguments(method, False, estimation)
    ours = inspected(LabelInspector(num_class=num_classes, **kwargs), labels, pred_probs)
    other = inspected(TheirInspector(num_class=num_classes, **kwargs), labels, pred_probs)
    scores, count = ours.get_quality_scores(), ours.get_num_issues()
    assert count == other.get_num_issues()
    np.testing.assert_array_equal(scores, other.get_quality_scores())

    ranking = np.argsort(scores, kind="stable")[:count]
    assert ours.get_label_issues().tolist() == ranking.tolist()
    own = pred_probs.copy()
    own[np.arange(num_examples), labels] += 1e-6
    expected = [i for i in ranking if own[i].argmax() != labels[i]]
    assert find_label_issues_batched(labels, pred_probs, **kwargs).tolist() == expected

    cut = scores[ranking[-1]] if count else -1
    mask = find_label_issues_batched(labels, pred_probs, return_mask=True, **kwargs)
    other_mask = theirs(labels, pred_probs, return_mask=True, **kwargs)
    assert not (mask != other_mask)[scores != cut].any()


def test_a_label_as_probable_as_the_prediction_is_no_issue() -> None:
    rows = [[0.5, 0.5], [0.5, 0.5], [0.5 + 4e-7, 0.5 - 4e-7], [0.6, 0.4]]
    pred_probs, labels = np.tile(rows, (5, 1)), np.array([0, 1, 1, 1] * 5)
    ours = find_label_issues_batched(labels, pred_probs, verbose=False)
    assert ours.tolist() == [3, 7, 11, 15, 19]
    assert ours.tolist() == theirs(labels, pred_probs, verbose=False).tolist()


def test_sums_above_one_and_a_cut_above_the_bound() -> None:
    """The one case of a second read for the self-confidence."""
    rows = [[0.9, 0.8, 0.1], [0.8, 0.9, 0.1], [0.1, 0.55, 0.1], [0.9, 0.0, 0.0]]
    pred_probs, labels = np.tile(rows, (3, 1)), np.array([1, 0, 1, 0] * 3)
    pred_probs -= np.linspace(0, 0.01, 36).reshape(12, 3) * (pred_probs > 0)
    with pytest.warns(
        UserWarning, match=r"should sum to 1 .*the worst sum is 1.79914 at example 0"
    ):
        ours = find_label_issues_batched(labels, pred_probs, verbose=False, return_mask=True)
    other = theirs(labels, pred_probs, verbose=False, return_mask=True)
    np.testing.assert_array_equal(ours, other)
    assert 0 < ours.sum() < 6


@pytest.mark.parametrize("estimation", ESTIMATIONS)
@pytest.mark.parametrize(("method", "adjust"), METHODS)
def test_scores_below_zero_are_the_lowest(method: Any, adjust: Any, estimation: Any) -> None:
    """Probabilities above one by a rounding error; the margin of the surest errors is negative."""
    labels, pred_probs = draw_examples(3, 600, 4, np.float32, noise=0.3)
    one_hot = np.eye(4, dtype=np.float32)[pred_probs.argmax(axis=1)] * np.float32(1 + 2e-7)
    pred_probs[::7] = one_hot[::7]
    kwargs = arguments(method, adjust, estimation)
    ours = inspected(LabelInspector(num_class=4, **kwargs), labels, pred_probs)
    ranked = ours.get_label_issues()
    scores = ours.get_quality_scores()
    assert not np.isnan(scores).any()
    if method == "normalized_margin" and not adjust:
        assert scores.min() < 0
    own = pred_probs.copy()
    own[np.arange(600), labels] += np.float32(1e-6)
    expected = [i for i in ranked if own[i].argmax() != labels[i]]
    found = find_label_issues_batched(labels, pred_probs, **kwargs)
    assert found.tolist() == expected
    assert found.size > 0


def test_indices_are_ranked_here_and_ascend_there() -> None:
    """What the docs say of the order; cleanlab's text promises the ranking, too."""
    labels, pred_probs = draw_examples(0, 400, 4)
    ours = find_label_issues_batched(labels, pred_probs, verbose=False)
    other = theirs(labels, pred_probs, verbose=False)
    own = pred_probs[np.arange(400), labels]
    assert ours.tolist() == sorted(other, key=lambda i: (own[i], i))
    assert other.tolist() == sorted(other)
    assert ours.tolist() != other.tolist()
