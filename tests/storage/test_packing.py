"""Lists of numbers are the same after they were packed, and few bytes before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dask_labelqc.storage.packing import pack, unpack

DTYPES = st.sampled_from(["u1", "u2", "u4", "u8"])


@given(DTYPES.flatmap(lambda dtype: arrays(dtype, st.integers(0, 40))), st.booleans())
def test_integers_come_back(numbers: np.ndarray, differences: bool) -> None:
    packed = pack(numbers, differences)
    assert packed.dtype == np.uint8
    found = unpack(packed, numbers.dtype, differences)
    assert found.dtype == numbers.dtype
    np.testing.assert_array_equal(found, numbers)


@given(st.sampled_from(["f4", "f8"]).flatmap(lambda d: arrays(d, st.integers(0, 40))))
def test_floats_come_back(numbers: np.ndarray) -> None:
    bits = f"u{numbers.itemsize}"
    found = unpack(pack(numbers), numbers.dtype)
    np.testing.assert_array_equal(found.view(bits), numbers.view(bits))


@pytest.mark.parametrize(("highest", "most"), [(1, 0.01), (200, 1.2)])
def test_ascending_integers_take_what_their_differences_take(highest: int, most: float) -> None:
    """One byte where differences fit one, and next to nothing where they are all the same."""
    steps = np.random.default_rng(0).integers(1, highest, 100_000, endpoint=True)
    numbers = np.cumsum(steps, dtype=np.uint32)
    assert pack(numbers, differences=True).size < most * numbers.size
