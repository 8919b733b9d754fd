"""The order of the stages, with a method whose keys are plain integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from dask_labelqc.engine.regions import Eager, Scanned
from dask_labelqc.kernels.keys import Histogram, Keys, KeySpace
from dask_labelqc.method.search import Search
from dask_labelqc.method.sequence import select

SPACE = KeySpace(32, 1)


@dataclass(frozen=True)
class Lowest:
    """Select the `wanted` lowest numbers, of which only those up to a bound are kept at first."""

    wanted: int
    bound: int
    most_rounds: int = SPACE.levels

    @property
    def first(self) -> int:
        return self.bound

    def warn(self, total: int) -> int:
        return total

    def thresholds(self, total: int) -> str:
        return f"of {total}"

    def count(self, kept: Any, thresholds: str) -> int:
        assert thresholds == "of 6"
        return 1

    def number(self, counts: int) -> int:
        assert counts == 2
        return self.wanted

    def again(self, total: int, thresholds: str, number: int) -> int | None:
        return 2**20 if number > 3 else None

    def start(self, total: int, number: int) -> Search:
        return Search.start(SPACE, number)

    def histogram(self, kept: np.ndarray, search: Search, thresholds: str) -> Histogram:
        if search.done:
            return Histogram(np.zeros(0, np.int64), np.zeros(0, np.int64))
        keys = Keys(kept.astype(np.uint64), np.zeros(kept.size, np.uint64), SPACE)
        return keys.histogram(search.prefix)


class Numbers(Eager):
    """Regions of numbers in this process, which note what is asked."""

    def __init__(self, *regions: list[int]) -> None:
        self.regions, self.asked = [np.array(r) for r in regions], []

    def scan(self, how: Any, then: Any = None) -> Any:
        self.asked.append(("scan", how))
        self.found = [Scanned(r.size, r[r <= how]) for r in self.regions]
        total = sum(region.total for region in self.found)
        return total if then is None else then(total)

    def reduce(self, stage: Any, function: Any, *values: Any) -> Any:
        self.asked.append(stage)
        return reduce(add, (function(region.kept, *values) for region in self.found))


@pytest.mark.parametrize("wanted", range(7))
def test_what_is_selected_is_the_lowest(wanted: int) -> None:
    numbers = Numbers([70_000, 3, 5], [1, 70_001, 4])
    selection = select(numbers, Lowest(wanted, 1000))
    every = np.sort(np.concatenate(numbers.regions)).astype(np.uint64)
    keys = Keys(every, np.zeros(6, np.uint64), SPACE)
    last = selection.search.last
    chosen = keys.up_to(last) if last else np.zeros(6, bool)
    assert chosen.tolist() == [True] * wanted + [False] * (6 - wanted)
    assert selection.number == wanted


def test_nothing_is_scanned_or_looked_for_without_need() -> None:
    numbers = Numbers([70_000, 3, 5], [1, 70_001, 4])
    select(numbers, Lowest(0, 1000))
    assert numbers.asked == [("scan", 1000), "count"]
    numbers.asked.clear()
    select(numbers, Lowest(2, 1000))
    assert [asked for asked in numbers.asked if asked != "select"] == [("scan", 1000), "count"]
    numbers.asked.clear()
    select(numbers, Lowest(5, 1000))
    assert numbers.asked[:3] == [("scan", 1000), "count", ("scan", 2**20)]


def test_a_search_ends_when_all_of_a_digit_are_wanted() -> None:
    numbers = Numbers([1, 2, 3], [70_000, 70_001, 70_002])
    select(numbers, Lowest(3, 2**20))
    assert numbers.asked.count("select") == 1
