from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels import tiles
from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.tiles import (
    ABOVE_ONE,
    NEGATIVE,
    NOT_FINITE,
    PROBABILITY_TOLERANCE,
    ZERO_SUM,
)
from tests import reference
from tests.strategies import make_probabilities

scan, gather, first_bad = (compiled(f) for f in (tiles.scan, tiles.gather, tiles.first_bad))
K = st.sampled_from([2, 3, 4, 5, 6, 8, 9, 12, 13, 300])  # the loop takes four classes at a time


@st.composite
def planes(draw: st.DrawFn) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shape = (1, draw(st.integers(1, 20)))
    probs = make_probabilities(rng, shape, draw(K), draw(st.sampled_from([1, 4, 2**20])))[0]
    return probs.astype(draw(st.sampled_from(["f4", "f8"])))


@given(planes(), st.data())
def test_scan_and_gather_a_tile(planes: np.ndarray, data: st.DataObject) -> None:
    num_classes, size = planes.shape
    base = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - base))
    best, total = np.empty(length, planes.dtype), np.empty(length, planes.dtype)
    arg, scores = np.empty(length, np.int32), np.empty(length, planes.dtype)
    assert scan(planes, 0, num_classes, base, length, best, arg, total) >= 0
    tile = planes[:, base : base + length]
    expected = reference.predicted(tile[None])[0]
    np.testing.assert_array_equal(arg, expected)
    np.testing.assert_array_equal(best, tile.max(axis=0))
    np.testing.assert_array_equal(total, np.ones(length))
    codes = np.random.default_rng(0).integers(-1, num_classes, length).astype(np.int32)
    gather(planes, base, length, codes, scores)
    wanted = reference.at_class(tile[None], codes[None])[0]
    np.testing.assert_array_equal(scores, np.where(codes < 0, np.nan, wanted))


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 9])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_equal_probabilities_predict_the_lowest_class(num_classes: int, dtype: str) -> None:
    planes = np.full((num_classes, 3), 1 / num_classes, dtype)
    best, total, arg = np.empty(3, dtype), np.empty(3, dtype), np.empty(3, np.int32)
    scan(planes, 0, num_classes, 0, 3, best, arg, total)
    assert arg.tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad_class", range(9))
def test_a_sign_in_any_class_shows(bad_class: int) -> None:
    planes = np.full((9, 5), 0.1, np.float32)
    planes[bad_class, 3] = -0.1
    best, total, arg = np.empty(5, "f4"), np.empty(5, "f4"), np.empty(5, np.int32)
    assert scan(planes, 0, 9, 0, 5, best, arg, total) < 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.5, 0.5], 0),
        ([1.0 + PROBABILITY_TOLERANCE / 2, 0.0], 0),
        ([-0.0, 1.0], 0),
        ([0.5, np.nan], NOT_FINITE),
        ([np.inf, 0.0], NOT_FINITE),
        ([-1.0, np.nan], NOT_FINITE),
        ([-0.5, 1.5], NEGATIVE),
        ([1.5, -0.5], ABOVE_ONE),
        ([0.0, 1.0 + 2 * PROBABILITY_TOLERANCE], ABOVE_ONE),
        ([0.0, 0.0], ZERO_SUM),
    ],
)
def test_first_bad(values: list[float], reason: int) -> None:
    planes = np.full((2, 6), 0.5)
    planes[:, [3, 5]] = np.array(values)[:, None]
    codes = np.array([0, 1, 0, -1, 1, 0], np.int32)
    assert first_bad(planes, 0, 6, codes) == ((5, reason) if reason else (-1, 0))
    codes[3] = 0
    assert first_bad(planes, 1, 5, codes[1:]) == ((2, reason) if reason else (-1, 0))
