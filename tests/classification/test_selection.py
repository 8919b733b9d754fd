"""What the stages do with examples, between those that read and gather them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc.classification.facts import FoundIssues, Learned, LeftOut
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.classification.selection import ExampleMethod
from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts

FORM = ExampleFormat((100,), 2, np.dtype("f4"))
THRESHOLDS = np.array([0.5, 0.75])


def method(**scores: Any) -> ExampleMethod:
    return ExampleMethod(FORM, ScoreOptions.of(scores, None))


def learned(kept: int = 7, lowest: float = 0.5) -> Learned:
    statistics = ExampleStatistics(np.array([2**32, 3 * 2**31], object), np.array([2, 2]))
    return Learned(statistics, LeftOut(kept, np.full(2, lowest), 1.0))


def issues(*scores: float) -> FoundIssues:
    return FoundIssues(np.arange(len(scores)), np.array(scores))


def test_thresholds_and_number() -> None:
    assert method().thresholds(learned()).tolist() == THRESHOLDS.tolist()
    assert method().number(IssueCounts(*np.array([[9, 9], [5, 5], [2, 1]]))) == 3


def test_no_more_are_selected_than_were_kept() -> None:
    assert method().start(learned(kept=7), 20).rank == 7
    assert method().start(learned(kept=7), 3).rank == 3


def test_only_the_margin_of_adjusted_probabilities_is_read_twice() -> None:
    adjusted = method(method="normalized_margin", adjust_pred_probs=True)
    assert adjusted.first.bound == -np.inf
    again = adjusted.again(learned(), THRESHOLDS, 3)
    assert again is not None
    assert again.thresholds is THRESHOLDS
    for scores in ({}, {"adjust_pred_probs": True}, {"method": "normalized_margin"}):
        assert method(**scores).again(learned(), THRESHOLDS, 3) is None


@pytest.mark.parametrize(("last", "again"), [(0.25, False), (0.5, True), (0.75, True)])
def test_read_again_if_what_was_left_out_may_rank_before_the_last(last: Any, again: bool) -> None:
    how = method().missed(learned(lowest=0.5), THRESHOLDS, issues(0.125, last))
    assert (how is not None) == again
    if how is not None:
        assert (how.bound, how.lowest, how.confidences) == (last, False, False)


def test_nothing_is_missed_where_nothing_was_found() -> None:
    assert method().missed(learned(), THRESHOLDS, issues()) is None


def test_totals_add_up() -> None:
    total = learned(3, 0.5) + learned(4, 0.25)
    assert (total.left_out.kept, total.left_out.lowest.tolist()) == (7, [0.25, 0.25])
    assert total.statistics.num_examples == 8
