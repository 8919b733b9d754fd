from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.softmin import (
    accumulate_softmin,
    combine_softmin,
    empty_softmin,
    finalize_softmin,
)
from dask_labelqc.kernels.softmin import exp_nonpositive as exp_within
from tests import reference

exp_nonpositive = compiled(exp_within)

TEMPERATURES = st.sampled_from([1e-3, 0.05, 0.1, 1.0, 100.0])
SCORES = st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=60)


def state_of(scores: list[float], temperature: float, tile: int) -> np.ndarray:
    """The state after `scores` (NaN where void) came in tiles."""
    state = empty_softmin(1)
    accumulate_softmin(np.array([scores]), temperature, state, tile)
    return state


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(-690, 0)))
def test_exp(x: np.ndarray) -> None:
    result = np.empty_like(x)
    exp_nonpositive(x, result, np.empty_like(x))
    np.testing.assert_allclose(result, np.exp(x), rtol=1e-15 * 2, atol=0)


def test_exp_of_the_far_end_is_negligible_and_nan_stays() -> None:
    x = np.array([-1e300, -np.inf, np.nan, 0.0])
    result = np.empty_like(x)
    exp_nonpositive(x, result, np.empty_like(x))
    assert (result[:2] < 1e-300).all()
    assert np.isnan(result[2])
    assert result[3] == 1


@given(SCORES, TEMPERATURES, st.integers(1, 61))
@example([0.9, 0.5, 0.7, 0.1, 0.3], 0.1, 1)  # the minimum falls from tile to tile
def test_equals_reference_for_any_tiles(scores: list[float], temperature: float, tile: int) -> None:
    score = finalize_softmin(state_of(scores, temperature, tile))
    expected = reference.softmin(np.array(scores), temperature)
    np.testing.assert_allclose(score, [expected], rtol=1e-12)


@given(SCORES, SCORES, SCORES, TEMPERATURES)
def test_combine_is_that_of_the_whole_in_any_order(
    a: list[float], b: list[float], c: list[float], temperature: float
) -> None:
    states = [state_of(part, temperature, 100) for part in (a, b, c)]
    left = combine_softmin(combine_softmin(*states[:2], temperature), states[2], temperature)
    right = combine_softmin(states[2], combine_softmin(*states[1::-1], temperature), temperature)
    expected = reference.softmin(np.array(a + b + c), temperature)
    for state in (left, right):
        np.testing.assert_allclose(finalize_softmin(state), [expected], rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.1, math.inf])
def test_nothing_is_neutral(temperature: float) -> None:
    empty, state = empty_softmin(2), np.array([[0.25, 2.0, 0.75], [np.inf, 0.0, 0.0]])
    for combined in (
        combine_softmin(empty, state, temperature),
        combine_softmin(state, empty, temperature),
    ):
        np.testing.assert_array_equal(combined, state)
    np.testing.assert_array_equal(finalize_softmin(empty), [np.nan, np.nan])
