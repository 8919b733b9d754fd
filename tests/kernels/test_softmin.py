from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.softmin import (
    LOW,
    LOWEST_EXACT,
    MOST_PIXELS,
    accumulate_softmin,
    combine_softmin,
    empty_softmin,
    finalize_softmin,
)
from dask_labelqc.kernels.softmin import exp_nonpositive as exp_within
from dask_labelqc.kernels.tiles import TILE
from tests import reference

exp_nonpositive = compiled(exp_within)

LOW_TEMPERATURES = st.sampled_from([1e-3, 0.049])
EXACT_TEMPERATURES = st.sampled_from([0.05, 0.06, 0.1, 1.0, 100.0])
TEMPERATURES = LOW_TEMPERATURES | EXACT_TEMPERATURES
PROBABILITY = st.floats(0, 1) | st.floats(0.9, 1) | st.sampled_from([0.0, 1.0, 1.000001])
SCORES = st.lists(PROBABILITY | st.just(math.nan), min_size=1, max_size=60)


def tolerance(temperature: float) -> dict[str, float]:
    """How far a score may lie from that of the reference, by the bound that is promised."""
    if temperature < LOWEST_EXACT:
        return {"rtol": 1e-12, "atol": 1e-300}
    return {"rtol": 1e-14, "atol": math.exp(1.000001 / temperature) / LOW}


def state_of(scores: list[float], temperature: float, tile: int) -> np.ndarray:
    """The state after `scores` (NaN where void) came in tiles."""
    state = empty_softmin(1, temperature)
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
    np.testing.assert_allclose(score, [expected], **tolerance(temperature))


@given(SCORES, SCORES, SCORES, TEMPERATURES)
def test_combine_is_that_of_the_whole_in_any_order(
    a: list[float], b: list[float], c: list[float], temperature: float
) -> None:
    states = [state_of(part, temperature, 100) for part in (a, b, c)]
    left = combine_softmin(combine_softmin(*states[:2], temperature), states[2], temperature)
    right = combine_softmin(states[2], combine_softmin(*states[1::-1], temperature), temperature)
    expected = reference.softmin(np.array(a + b + c), temperature)
    for state in (left, right):
        np.testing.assert_allclose(finalize_softmin(state), [expected], **tolerance(temperature))


@given(SCORES, SCORES, EXACT_TEMPERATURES, st.randoms(), st.integers(1, 61))
def test_the_same_bits_in_any_order_and_any_parts(
    a: list[float], b: list[float], temperature: float, random: Any, tile: int
) -> None:
    parts = combine_softmin(*(state_of(part, temperature, tile) for part in (a, b)), temperature)
    together = a + b
    random.shuffle(together)
    whole = state_of(together, temperature, 100)
    assert parts.dtype == whole.dtype == np.int64
    assert parts.tolist() == whole.tolist()


@pytest.mark.parametrize("length", [1, TILE - 1, TILE, 2 * TILE + 33])
def test_images_longer_than_a_tile_are_the_sum_of_their_pixels(length: int) -> None:
    scores = np.random.default_rng(length).random((2, length), np.float32)
    states, alone = empty_softmin(2, 0.1), empty_softmin(2 * length, 0.1)
    accumulate_softmin(scores, 0.1, states, TILE)
    accumulate_softmin(scores.reshape(-1, 1), 0.1, alone, TILE)
    assert states.tolist() == alone.reshape(2, length, 4).sum(axis=1).tolist()


@pytest.mark.parametrize("spread", [0, 1e-6, 1e-3, 0.1, 1])
@pytest.mark.parametrize("size", [1, 2, 300])
def test_nine_digits_at_the_lowest_temperature_of_exact_sums(spread: float, size: int) -> None:
    scores = 1 - spread * np.random.default_rng(size).random((20, size))
    states = empty_softmin(20, LOWEST_EXACT)
    accumulate_softmin(scores, LOWEST_EXACT, states, TILE)
    expected = [reference.softmin(image, LOWEST_EXACT) for image in scores]
    np.testing.assert_allclose(finalize_softmin(states), expected, rtol=0, atol=1e-9)


@given(st.floats(0, 2), EXACT_TEMPERATURES)
@example(2.0, 100.0)
@example(1.000001, 1e300)
@example(0.0, 0.05)
def test_no_sum_of_an_image_overflows(score: float, temperature: float) -> None:
    parts = np.abs(state_of([score], temperature, 1))
    assert MOST_PIXELS * int(parts.max()) <= 2**63


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1e300])
def test_scores_that_are_no_probabilities_are_taken_for_the_nearest(temperature: float) -> None:
    wrong, taken = [-5.0, -math.inf, 7.0, math.inf, math.nan], [0.0, 0.0, 2.0, 2.0]
    found = state_of(wrong, temperature, 100)
    assert found.tolist() == state_of(taken, temperature, 100).tolist()


@pytest.mark.parametrize(
    ("temperature", "state"),
    [
        (0.1, [[5, -1, 3, 2], [0, 0, 0, 0]]),
        (math.inf, [[5, -1, 3, 2], [0, 0, 0, 0]]),
        (0.01, [[0.25, 2.0, 0.75], [np.inf, 0.0, 0.0]]),
    ],
)
def test_nothing_is_neutral(temperature: float, state: list[list[float]]) -> None:
    empty, part = empty_softmin(2, temperature), np.array(state)
    for combined in (
        combine_softmin(empty, part, temperature),
        combine_softmin(part, empty, temperature),
    ):
        np.testing.assert_array_equal(combined, part)
    np.testing.assert_array_equal(finalize_softmin(empty), [np.nan, np.nan])
