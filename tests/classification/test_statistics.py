from __future__ import annotations

import numpy as np
import pytest

from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from dask_labelqc.kernels.examples import SELF_CONFIDENCE, ExampleScanOptions, scan_examples

PROBS = np.array([[0.75, 0.25], [0.5, 0.75], [0.125, 0.875]])
CODES = np.array([0, 0, 1], np.int32)


def statistics(start: int = 10) -> ExampleStatistics:
    return ExampleStatistics.of(
        scan_examples(PROBS, CODES, ExampleScanOptions(SELF_CONFIDENCE, 1.0)), start
    )


def test_of_a_scan() -> None:
    found = statistics()
    assert found.class_sum.tolist() == [5 * 2**30, 7 * 2**29]
    assert found.class_count.tolist() == [2, 1]
    assert found.worst_sum == (0.25, (11,), 1.25)
    assert found.num_examples == 3


def test_they_add_up_with_what_was_absent() -> None:
    nothing = ExampleStatistics.nothing(2)
    one = ExampleStatistics(nothing.class_sum, nothing.class_count, absent_labels=frozenset({3}))
    total = statistics() + one + nothing
    assert total.thresholds().tolist() == statistics().thresholds().tolist()
    assert (set(total.absent_labels), set(total.absent_pred_probs)) == ({3}, set())
    assert total.worst_sum.place == (11,)


def test_what_is_to_be_added_to_what_was_known() -> None:
    known = statistics()
    beyond = (known + known).beyond(known)
    assert beyond.class_sum.tolist() == known.class_sum.tolist()
    assert beyond.class_count.tolist() == known.class_count.tolist()


@pytest.mark.parametrize(("calibrated", "number"), [(False, 2), (True, 4)])
def test_counts_of_issues(calibrated: bool, number: int) -> None:
    given = np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([1, 1, 0, 0, 1, 1])
    confidence = np.array([0.9, 0.9, 0.2, 0.2, 0.9, 0.1])
    counts = IssueCounts.of(given, predicted, confidence, np.array([0.5, 0.5]))
    assert counts.total.tolist() == [4, 2]
    assert counts.confident.tolist() == [2, 1]
    assert counts.off_diagonal.tolist() == [2, 0]
    assert counts.num_issues(calibrated) == number
    assert (counts + IssueCounts.nothing(2)).num_issues(calibrated) == number
