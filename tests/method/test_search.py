from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.keys import Histogram, Keys, KeySpace
from dask_labelqc.method.search import Search


def search_of(parts: list[Keys], space: KeySpace, rank: int) -> tuple[Search, int]:
    """Run the rounds over the parts; return the search and how many rounds there were."""
    search, rounds = Search.start(space, rank), 0
    while not search.done:
        counts = [part.histogram(search.prefix) for part in parts]
        total = counts[0]
        for histogram in counts[1:]:
            total = total + histogram
        search, rounds = search.narrowed(total), rounds + 1
    return search, rounds


def selected(parts: list[Keys], search: Search) -> list[np.ndarray]:
    if not search.last:
        return [np.zeros(part.score.size, bool) for part in parts]
    return [part.up_to(search.last) for part in parts]


@st.composite
def spread_keys(draw: st.DrawFn) -> Any:
    """Scores, agreement and flat index of candidates, and which part each lies in."""
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    size = draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    scores = rng.random(size) if draw(st.booleans()) else rng.integers(0, 4, size) / 8
    index_bits = draw(st.sampled_from([8, 15, 16, 17, 40]))
    places = rng.permutation(2 ** min(index_bits, 12))[:size] * 2 ** max(index_bits - 12, 0)
    agrees = rng.random(size) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    parts = rng.integers(0, draw(st.integers(1, 5)), size)
    return scores.astype(dtype), agrees, places, parts, KeySpace(8 * dtype.itemsize, index_bits)


@given(spread_keys(), st.data())
def test_equals_sorting(drawn: Any, data: st.DataObject) -> None:
    scores, agrees, places, part_of, space = drawn
    rank = data.draw(st.sampled_from([0, 1, scores.size]) | st.integers(0, scores.size))
    members = [np.flatnonzero(part_of == part) for part in range(part_of.max() + 1)]
    parts = [Keys.of(scores[m], agrees[m], places[m], space) for m in members]
    search, rounds = search_of(parts, space, rank)
    chosen = np.zeros(scores.size, bool)
    for m, mask in zip(members, selected(parts, search), strict=True):
        chosen[m] = mask
    order = sorted(range(scores.size), key=lambda i: (scores[i], agrees[i], places[i]))
    assert sorted(np.flatnonzero(chosen)) == sorted(order[:rank])
    assert rounds <= space.levels


@given(spread_keys(), st.data())
def test_those_that_agree_need_no_place(drawn: Any, data: st.DataObject) -> None:
    scores, agrees, places, part_of, space = drawn
    rank = data.draw(st.sampled_from([0, 1, scores.size]) | st.integers(0, scores.size))
    placed, parts = [], []
    for part in range(part_of.max() + 1):
        here = part_of == part
        placed.append(np.flatnonzero(here & ~agrees))
        low = scores[here & agrees] + 0
        disagree = scores[placed[-1]], np.zeros(placed[-1].size, bool), places[placed[-1]]
        parts.append(Keys.of(*disagree, space, low))
    search, rounds = search_of(parts, space, rank)
    chosen = [i for m, mask in zip(placed, selected(parts, search), strict=True) for i in m[mask]]
    order = sorted(range(scores.size), key=lambda i: (scores[i], agrees[i], places[i]))
    assert sorted(chosen) == sorted(i for i in order[:rank] if not agrees[i])
    assert rounds <= space.levels


@pytest.mark.parametrize(("bits", "rounds"), [(32, 2), (64, 4)])
def test_scores_without_ties_take_one_round_a_digit(bits: int, rounds: int) -> None:
    step = np.finfo(f"f{bits // 8}").eps
    scores = (0.5 + np.arange(100) * step / 2).astype(f"f{bits // 8}")
    assert np.unique(scores).size == 100
    space = KeySpace(bits, 20)
    keys = Keys.of(scores, np.zeros(100, bool), np.arange(100), space)
    search, needed = search_of([keys], space, 37)
    assert needed == rounds
    assert keys.up_to(search.last).sum() == 37


def test_ties_at_the_cut() -> None:
    space = KeySpace(32, 20)
    scores = np.full(6, 0.25, np.float32)
    agrees = np.array([True, False, True, False, False, True])
    keys = Keys.of(scores, agrees, np.array([0, 70000, 2, 5, 90000, 1]), space)
    for rank, wanted in [(1, {3}), (2, {3, 1}), (3, {3, 1, 4}), (4, {3, 1, 4, 0}), (5, {5})]:
        search, _ = search_of([keys], space, rank)
        chosen = set(np.flatnonzero(keys.up_to(search.last)).tolist())
        assert wanted <= chosen
        assert len(chosen) == rank


def test_nothing_wanted_is_done_at_once_and_stays_so() -> None:
    search = Search.start(KeySpace(32, 4), 0)
    assert search.done
    assert search.last == ()
    assert search.narrowed(Histogram(np.zeros(0, int), np.zeros(0, int))) is search
