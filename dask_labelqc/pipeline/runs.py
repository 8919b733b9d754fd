"""Runs of whole numbers: from a first to the one after the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dask_labelqc.typing import AnyArray, Ints

__all__ = ["apart", "copy_part", "merged", "touched", "without"]


def touched(edges: Ints, first: int, stop: int) -> tuple[int, int]:
    """Return the first of the runs between edges that has one of these, and that after the last.

    Examples
    --------
    >>> touched(np.array([0, 2, 2, 5, 9]), 1, 3)
    (0, 3)
    """
    last = len(edges) - 2
    a = int(np.searchsorted(edges, first, side="right")) - 1
    b = int(np.searchsorted(edges, stop, side="left"))
    return min(a, last), min(b, last + 1)


def merged(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join runs that overlap or touch.

    Examples
    --------
    >>> merged([(4, 6), (0, 2), (1, 3)])
    [(0, 3), (4, 6)]
    """
    merged: list[tuple[int, int]] = []
    for first, stop in sorted(runs):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((first, stop))
    return merged


def apart(
    runs: Iterable[tuple[int, int]], left_out: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield what is left of runs.

    Examples
    --------
    >>> list(apart([(0, 5), (7, 9)], [(1, 2), (4, 8)]))
    [(0, 1), (2, 4), (8, 9)]
    """
    for first, stop in runs:
        for a, b in left_out:
            if first < b and a < stop:
                if first < a:
                    yield first, a
                first = max(first, b)
        if first < stop:
            yield first, stop


def copy_part(values: AnyArray, start: int, target: AnyArray, chunk: tuple[int, int]) -> None:
    """Copy what lies in a chunk of values that begin at a place."""
    first, stop = max(start, chunk[0]), min(start + len(values), chunk[1])
    if first < stop:
        target[first - chunk[0] : stop - chunk[0]] = values[first - start : stop - start]


def without(items: tuple[int, int], left_out: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of the other items.

    Examples
    --------
    >>> list(without((3, 9), (4, 5)))
    [(3, 4), (6, 9)]
    """
    first, stop = items
    for item in (*left_out, stop):
        if first < item:
            yield first, item
        first = item + 1
