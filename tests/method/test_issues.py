from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.extent import Extent
from dask_labelqc.kernels.keys import KeySpace
from dask_labelqc.method.issues import (
    Issues,
    count_off_diagonal,
    find_issues,
)
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.method.statistics import confident_thresholds
from dask_labelqc.method.summarize import Candidates
from tests import reference

SUMS = st.lists(st.tuples(st.integers(0, 2**80), st.integers(0, 2**40)), min_size=1, max_size=5)


@given(SUMS)
def test_thresholds_of_sums_that_no_machine_integer_holds(pairs: Any) -> None:
    sums = [s if c else 0 for s, c in pairs]
    counts = [c for _, c in pairs]
    found = confident_thresholds(np.array(sums, object), np.array(counts))
    np.testing.assert_allclose(found, reference.confident_thresholds(sums, counts), rtol=1e-15)


def test_thresholds_of_empty_and_hopeless_classes() -> None:
    found = confident_thresholds(np.array([0, 0, 2**32], object), np.array([0, 5, 1]))
    assert found.tolist() == [2e-6, 2e-6, 1.0]


def candidates(
    score: Any, confidence: Any, given: Any, predicted: Any, extent: Extent
) -> Candidates:
    none = np.zeros(0, np.int64)
    score = np.array(score, np.float32)
    position = np.arange(score.size)
    values = np.array(confidence, np.float32), np.array(given), np.array(predicted)
    agreeing = np.zeros(0, np.float32)
    return Candidates(extent, position, score, *values, agreeing, none, none, none, none)


@pytest.mark.parametrize(
    ("confidence", "counted"), [(0.5, 1), (0.5 - 9e-7, 1), (0.5 - 2e-6, 0), (0.9, 1)]
)
def test_confident_within_a_millionth(confidence: float, counted: int) -> None:
    thresholds = np.array([0.99, 0.5])
    one = candidates([0.1], [confidence], [0], [1], Extent((0, 0), (1, 1)))
    assert count_off_diagonal(one, thresholds) == counted


def test_only_those_that_disagree_count() -> None:
    two = candidates([0.1, 0.2], [0.9, 0.9], [1, 0], [1, 1], Extent((0, 0), (1, 2)))
    assert count_off_diagonal(two, np.zeros(2)) == 1


def test_issues_of_a_region() -> None:
    position, given = np.array([0, 4, 5], np.uint8), np.array([0, 2, 2])
    issues = Issues(Extent((3, 2), (5, 5)), position, given, np.array([1, 0, 0]), 3)
    assert issues.per_image().tolist() == [1, 2]
    assert issues.matrix().tolist() == [[0, 1, 0], [0, 0, 0], [2, 0, 0]]
    assert issues.mask().tolist() == [[True, False, False], [False, True, True]]


@pytest.mark.parametrize("side", [16, 256])
def test_issues_of_an_image_whose_size_its_positions_cannot_hold(side: int) -> None:
    dtype = np.min_scalar_type(side * side - 1)
    last = np.array([side * side - 1], dtype)
    issues = Issues(Extent((0, 0, 0), (1, side, side)), last, np.array([0]), np.array([1]), 2)
    assert issues.per_image().tolist() == [1]


def test_nothing_is_found_where_nothing_was_selected() -> None:
    params = Parameters((1, 2), 2, np.dtype("f4"))
    two = candidates([0.0, 0.2], [0.9, 0.9], [1, 0], [0, 1], Extent((0, 0), (1, 2)))
    found = find_issues(two, Search.start(params.key_space, 0), params)
    assert found.position.size == 0
    assert not found.mask().any()


def test_a_search_has_to_end_first() -> None:
    params = Parameters((1, 2), 2, np.dtype("f4"))
    one = candidates([0.1], [0.9], [0], [1], Extent((0, 0), (1, 2)))
    with pytest.raises(ValueError, match="the search has not ended"):
        find_issues(one, Search.start(KeySpace(32, 1), 1), params)
