from __future__ import annotations

import numpy as np
import pytest

from dask_labelqc.classification.facts import Confidences, FoundIssues, LeftOut


def test_issues_are_ranked_by_score_and_place() -> None:
    issues = FoundIssues(np.array([4, 9]), np.array([0.5, 0.25])) + FoundIssues(
        np.array([2, 7]), np.array([0.5, 0.125])
    )
    assert issues.ranked().tolist() == [7, 9, 2, 4]


def test_confidences_are_kept_class_by_class() -> None:
    parts = [
        Confidences.of(np.array([0.9, 0.2, 0.6]), np.array([2, 0, 2]), 3),
        Confidences.of(np.array([0.4, 0.8]), np.array([0, 2]), 3),
    ]
    joined = Confidences.joined(parts)
    assert joined.value.tolist() == [0.2, 0.4, 0.9, 0.6, 0.8]
    counts = joined.counts(np.array([0.3, 0.5, 0.7]))
    assert counts.total.tolist() == [2, 0, 3]
    assert counts.confident.tolist() == [1, 0, 2]
    assert counts.off_diagonal.tolist() == [0, 0, 0]


def test_the_lowest_score_of_what_was_left_out() -> None:
    one = LeftOut(3, np.array([0.5, np.inf]), 1.0)
    both = one + LeftOut(2, np.array([0.75, 0.25]), 1.5)
    assert (both.kept, both.lowest.tolist(), both.largest_total) == (5, [0.5, 0.25], 1.5)
    assert both.lowest_score(None) == 0.25
    # s less its threshold, plus the highest one, over the largest sum after as much
    expected = [(0.5 - 0.2 + 0.6) / 1.9, (0.25 - 0.6 + 0.6) / 1.9]
    assert both.lowest_score(np.array([0.2, 0.6])) == pytest.approx(min(expected))
