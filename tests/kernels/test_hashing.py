from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.hashing import MULTIPLIERS, SEEDS, hash_runs

NUMBERS = st.lists(st.lists(st.integers(0, 200), max_size=4), min_size=1, max_size=6)


def reference(lists: list[list[int]]) -> bytes:
    """The hash of what lists have of one thing, in Python's integers."""
    a, b = SEEDS
    for numbers in lists:
        for value in numbers:
            a = (a ^ value) * MULTIPLIERS[0] % 2**64
            b = (b + value) * MULTIPLIERS[1] % 2**64
            a ^= a >> 29
            b ^= b >> 31
        a = (a ^ SEEDS[0]) * MULTIPLIERS[0] % 2**64
        b = (b + SEEDS[1]) * MULTIPLIERS[1] % 2**64
    return a.to_bytes(8, "little") + b.to_bytes(8, "little")


def as_list(runs: list[list[int]], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array([n for run in runs for n in run], dtype), np.array([len(run) for run in runs])


@given(first=NUMBERS, data=st.data(), dtype=st.sampled_from(["u1", "u2", "u4", "i8"]))
def test_it_is_that_of_the_reference(
    first: list[list[int]], data: st.DataObject, dtype: str
) -> None:
    number = len(first)
    more = data.draw(
        st.lists(st.lists(st.integers(0, 9), max_size=2), min_size=number, max_size=number)
    )
    found = hash_runs([as_list(first, dtype), as_list(more, "u4")])
    assert [bytes(row) for row in found] == [
        reference([a, b]) for a, b in zip(first, more, strict=True)
    ]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_any_bit_makes_another(dtype: str) -> None:
    numbers = np.linspace(0.1, 1, 9).astype(dtype)
    counts = np.array([numbers.size])
    bits = numbers.view(f"u{numbers.itemsize}")
    found = {bytes(hash_runs([(numbers, counts)])[0])}
    for place in range(numbers.size):
        for bit in range(8 * numbers.itemsize):
            other = bits.copy()
            other[place] ^= bits.dtype.type(1) << bits.dtype.type(bit)
            found.add(bytes(hash_runs([(other.view(dtype), counts)])[0]))
    assert len(found) == 1 + 8 * numbers.nbytes


def test_where_a_list_ends_is_a_part_of_it() -> None:
    one = [[1, 2], [3]], [[1], [2, 3]], [[], [1, 2, 3]], [[1, 2, 3], []]
    found = [
        bytes(hash_runs([(np.array(n, "u4"), np.array([len(n)])) for n in lists])[0])
        for lists in one
    ]
    assert all(a != b for a, b in pairwise(sorted(found)))
