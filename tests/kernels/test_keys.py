from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dask_labelqc.kernels.keys import DIGIT_BITS, Histogram, Keys, KeySpace, in_order, joined

DIGITS = st.lists(st.integers(0, 2**DIGIT_BITS - 1), max_size=30)


@given(DIGITS, DIGITS)
def test_histograms_add_up(a: list[int], b: list[int]) -> None:
    both = Histogram.of(np.array(a, int)) + Histogram.of(np.array(b, int))
    digits, counts = np.unique(np.array(a + b, int), return_counts=True)
    assert both.digits.tolist() == digits.tolist()
    assert both.counts.tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("score_bits", "index_bits", "levels"),
    [(32, 1, 3), (32, 15, 3), (32, 16, 4), (64, 31, 6), (64, 32, 7), (64, 40, 7)],
)
def test_levels_leave_a_bit_for_agreement(score_bits: int, index_bits: int, levels: int) -> None:
    assert KeySpace(score_bits, index_bits).levels == levels


@st.composite
def key_parts(draw: st.DrawFn) -> Any:
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    bits = draw(st.sampled_from([1, 12, 15, 16, 33]))
    places = draw(st.lists(st.integers(0, 2**bits - 1), unique=True, min_size=1, max_size=20))
    scores = draw(
        st.lists(
            st.sampled_from([0.0, -0.0, 0.25, 0.25000003, 1.0]) | st.floats(0, 1, width=32),
            min_size=len(places),
            max_size=len(places),
        )
    )
    agrees = draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places)))
    return (
        np.array(scores, dtype),
        np.array(agrees),
        np.array(places, np.int64),
        KeySpace(8 * dtype.itemsize, bits),
    )


def digits_of(keys: Keys, i: int) -> tuple[int, ...]:
    """All digits of one key, the most significant first."""
    space = keys.space
    mask = 2**DIGIT_BITS - 1
    score = [int(keys.score[i]) >> (DIGIT_BITS * k) & mask for k in range(space.score_levels)]
    place = [int(keys.place[i]) >> (DIGIT_BITS * k) & mask for k in range(space.place_levels)]
    return (*reversed(score), *reversed(place))


@given(key_parts())
def test_order_of_the_digits_is_the_tie_rule(parts: Any) -> None:
    scores, agrees, places, space = parts
    keys = Keys.of(scores, agrees, places, space)
    by_digits = sorted(range(places.size), key=lambda i: digits_of(keys, i))
    by_rule = sorted(range(places.size), key=lambda i: (scores[i], agrees[i], places[i]))
    assert by_digits == by_rule


@given(key_parts(), st.data())
def test_histogram_and_up_to(parts: Any, data: st.DataObject) -> None:
    scores, agrees, places, space = parts
    keys = Keys.of(scores, agrees, places, space)
    last = data.draw(st.sampled_from([digits_of(keys, i) for i in range(places.size)]))
    everything = [digits_of(keys, i) for i in range(places.size)]
    for level in range(space.levels):
        histogram = keys.histogram(last[:level])
        wanted = [digits[level] for digits in everything if digits[:level] == last[:level]]
        digits, counts = np.unique(wanted, return_counts=True)
        assert histogram.digits.tolist() == digits.tolist()
        assert histogram.counts.tolist() == counts.tolist()
    assert keys.up_to(last).tolist() == [digits <= last for digits in everything]


@given(key_parts(), st.data())
def test_scores_without_a_place_count_in_the_digits_of_scores(
    parts: Any, data: st.DataObject
) -> None:
    scores, agrees, places, space = parts
    disagreeing = scores[~agrees], agrees[~agrees], places[~agrees]
    keys = Keys.of(*disagreeing, space, scores[agrees] + scores.dtype.type(0))
    whole = Keys.of(scores, agrees, places, space)
    last = data.draw(st.sampled_from([digits_of(whole, i) for i in range(places.size)]))
    for level in range(space.levels):
        expected = whole if level < space.score_levels else Keys.of(*disagreeing, space)
        found, expected = (k.histogram(last[:level]) for k in (keys, expected))
        assert found.digits.tolist() == expected.digits.tolist()
        assert found.counts.tolist() == expected.counts.tolist()


@given(
    st.sampled_from([np.uint32, np.uint64]).flatmap(lambda dtype: arrays(dtype, st.integers(0, 50)))
)
def test_in_order(numbers: np.ndarray) -> None:
    before = numbers.copy()
    found = in_order(numbers)
    assert found.dtype == numbers.dtype
    assert found.tolist() == sorted(before.tolist())
    np.testing.assert_array_equal(numbers, before)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_many_in_order(dtype: type[np.unsignedinteger]) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, np.iinfo(dtype).max, 2**DIGIT_BITS + 3, dtype, endpoint=True)
    found = in_order(numbers)
    assert found.dtype == numbers.dtype
    np.testing.assert_array_equal(found, np.sort(numbers))


@given(st.lists(st.integers(0, 2**16 - 1), max_size=4))
def test_joined(digits: list[int]) -> None:
    text = "".join(f"{d:016b}" for d in digits)
    assert int(joined(tuple(digits))) == int(text or "0", 2)


@given(
    st.lists(st.floats(-2, 2, width=32) | st.sampled_from([0.0, -0.0, -1e-20, 1e-20]), min_size=1),
    st.sampled_from([np.float32, np.float64]),
)
def test_scores_of_any_sign_order_as_numbers_do(values: Any, dtype: Any) -> None:
    scores = np.array(values, dtype)
    space = KeySpace(8 * scores.itemsize, 8)
    keys = Keys.of_any_sign(scores, np.arange(scores.size), space)
    expected = sorted(range(scores.size), key=lambda i: (scores[i], i))
    found = sorted(range(scores.size), key=lambda i: (keys.score[i], keys.place[i]))
    assert found == expected
