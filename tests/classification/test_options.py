from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc import InputError
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions, check_format


@pytest.mark.parametrize(
    ("scores", "bound", "rescored", "twice"),
    [
        ({}, 0.505, False, False),
        ({"method": "normalized_margin"}, 0.5, False, False),
        ({"method": "confidence_weighted_entropy"}, np.inf, False, False),
        ({"adjust_pred_probs": True}, np.inf, True, False),
        ({"method": "normalized_margin", "adjust_pred_probs": True}, np.inf, True, True),
    ],
)
def test_what_follows_from_the_score(scores: Any, bound: Any, rescored: Any, twice: Any) -> None:
    options = ScoreOptions.of(scores, None)
    assert options.bound(0.01) == pytest.approx(bound)
    assert (options.rescored, options.reads_twice) == (rescored, twice)
    assert options.scores_apart == ("method" in scores)


@pytest.mark.parametrize(
    ("scores", "counts", "message"),
    [
        ({"methods": "x"}, None, "quality_score_kwargs: got the unknown keyword 'methods'"),
        ([], None, r"quality_score_kwargs: got \[\], it must be a dictionary"),
        ({"method": "margin"}, None, "quality_score_kwargs: method: got 'margin'"),
        ({"adjust_pred_probs": "no"}, None, "quality_score_kwargs: adjust_pred_probs: got 'no'"),
        (None, {"estimation_method": 3}, "num_issue_kwargs: estimation_method: got 3"),
        (
            {"method": "confidence_weighted_entropy", "adjust_pred_probs": True},
            None,
            "adjust_pred_probs, method: both were given",
        ),
    ],
)
def test_options_that_cannot_be_used(scores: Any, counts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScoreOptions.of(scores, counts)


def test_keys_of_scores_that_are_not_those_of_a_class_have_64_bits() -> None:
    form = ExampleFormat((1000,), 3, np.dtype("f4"))
    assert form.key_space(ScoreOptions()).score_bits == 32
    assert form.key_space(ScoreOptions(adjust_pred_probs=True)).score_bits == 64
    assert form.key_space(ScoreOptions()).index_bits == 10


@pytest.mark.parametrize(
    ("labels", "probs", "message"),
    [
        ((4,), (4,), r"pred_probs: got shape \(4,\), it must be \(N, K\)"),
        ((4, 1), (4, 3), r"labels: got shape \(4, 1\), it must be \(N,\)"),
        ((3,), (4, 3), "labels: there are 3 of them, but pred_probs have shape"),
        ((0,), (0, 3), r"labels: got shape \(0,\), the dataset is empty"),
        ((4,), (4, 1), "K = 1 classes; it must be 2 up"),
    ],
)
def test_shapes_that_cannot_be_used(labels: Any, probs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_format(labels, np.dtype("i8"), probs, np.dtype("f4"))


def test_a_format() -> None:
    form = check_format((4,), np.dtype("f8"), (4, 3), np.dtype(">u2"), 0.5)
    assert form == ExampleFormat((4,), 3, np.dtype("u2"), 0.5)
    assert (form.num_examples, form.item_bytes) == (4, 6)
