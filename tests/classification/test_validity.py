from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc import InputError, LabelQCWarning
from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.classification.validity import warn_of_sum, whole_labels
from dask_labelqc.method.statistics import WorstSum


@pytest.mark.parametrize(
    ("labels", "values", "missing"),
    [
        (np.array([3, 0], np.uint8), [3, 0], [False, False]),
        (np.array([3.0, np.nan]), [3, 0], [False, True]),
        (np.ma.array([3, 1], mask=[True, False]), [0, 1], [True, False]),
        (np.ma.array([0.5, 1.0], mask=[True, False]), [0, 1], [True, False]),
    ],
)
def test_labels_that_are_whole_or_missing(labels: Any, values: Any, missing: Any) -> None:
    found, gone = whole_labels(labels, 0)
    assert found.dtype.kind in "iu"
    assert (found.tolist(), gone.tolist()) == (values, missing)


@pytest.mark.parametrize("value", [0.5, np.inf, 2.0**60])
def test_labels_that_are_no_whole_numbers(value: float) -> None:
    message = f"labels: 1 of the 2 labels of examples 40 to 41 are no whole numbers, .*{value}"
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        whole_labels(np.array([1.0, value]), 40)


def test_a_sum_is_warned_of_where_the_caller_stands() -> None:
    worst = WorstSum(0.5, (8,), 1.5)
    with pytest.warns(LabelQCWarning, match=r"the worst sum is 1\.5 at example 8") as said:
        assert warn_of_sum(worst, 0.01, stacklevel=2)
    assert said[0].filename == __file__
    assert not warn_of_sum(worst, 0.5)


def test_labels_of_which_none_takes_part() -> None:
    labels, pred_probs = np.full(6, np.nan), np.full((6, 2), 0.5)
    with pytest.warns(LabelQCWarning, match="labels: all are masked or NaN: no example") as said:
        assert find_label_issues_batched(labels, pred_probs, verbose=False).size == 0
    assert [warning.filename for warning in said] == [__file__]
