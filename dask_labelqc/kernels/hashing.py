"""Hashes of runs of numbers: 128 bits, to tell what is equal, no secret."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["HASH_BYTES", "hash_runs"]

HASH_BYTES = 16
SEEDS = (0x243F6A8885A308D3, 0x13198A2E03707344)
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
"""Odd, so that no two numbers give one product modulo 2**64."""


@compiled
def _mix(numbers, counts, seeds, multipliers, states):  # type: ignore[no-untyped-def]
    """Mix the numbers of each run into its two states; neither waits for the other."""
    first, other = multipliers[0], multipliers[1]
    place = 0
    for run in range(counts.size):
        a, b = states[run, 0], states[run, 1]
        for _ in range(counts[run]):
            value = np.uint64(numbers[place])
            a = (a ^ value) * first
            b = (b + value) * other
            a ^= a >> np.uint64(29)
            b ^= b >> np.uint64(31)
            place += 1
        # Where one list ends and the next begins is a part of it.
        states[run, 0] = (a ^ seeds[0]) * first
        states[run, 1] = (b + seeds[1]) * other


def hash_runs(lists: Sequence[tuple[AnyArray, Ints]]) -> AnyArray:
    """Return a hash of what several lists have of each of n things, uint8 (n, `HASH_BYTES`).

    Parameters
    ----------
    lists
        Numbers of any dtype, one thing after the other, and how many each has, (n,).

    Examples
    --------
    >>> hashes = hash_runs([(np.array([1, 2, 2, 1]), np.array([2, 2]))])
    >>> hashes.shape, bool((hashes[0] == hashes[1]).all())
    ((2, 16), False)
    """
    seeds, multipliers = np.array(SEEDS, np.uint64), np.array(MULTIPLIERS, np.uint64)
    states = np.tile(seeds, (len(lists[0][1]), 1))
    for numbers, counts in lists:
        bits = np.ascontiguousarray(numbers).view(f"u{numbers.itemsize}")
        _mix(bits.reshape(-1), counts.astype(np.int64), seeds, multipliers, states)
    return states.astype("<u8").view(np.uint8).reshape(-1, HASH_BYTES)
