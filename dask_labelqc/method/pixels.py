"""The method for the pixels of images; see `method.sequence`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.issues import (
    Issues,
    count_off_diagonal,
    find_issues,
    start_search,
)
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.method.summarize import Candidates, Statistics
from dask_labelqc.typing import Floats

__all__ = ["PixelMethod"]

NO_DIGIT = Histogram(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class PixelMethod:
    """Of each region a `RegionSummary` is made, whose candidates are kept.

    How a region is scanned is said by the highest score of a candidate that agrees with its
    prediction, None for the usual one.
    """

    params: Parameters

    @property
    def first(self) -> None:
        return None

    @property
    def most_rounds(self) -> int:
        return self.params.key_space.levels - 1

    def warn(self, statistics: Statistics) -> Statistics:
        statistics.warn(self.params)
        return statistics

    def thresholds(self, statistics: Statistics) -> Floats:
        return statistics.thresholds()

    def count(self, candidates: Candidates, thresholds: Floats) -> int:
        return count_off_diagonal(candidates, thresholds)

    def number(self, count: int) -> int:
        return count

    def again(self, statistics: Statistics, thresholds: Floats, number: int) -> float | None:
        """Return up to which score candidates are missing.

        Only where sums exceed one by more than the tolerance does the cut fall above the bound.
        """
        complete = number <= statistics.below_bound
        return None if complete else statistics.highest_disagreeing

    def start(self, statistics: Statistics, number: int) -> Search:
        return start_search(statistics, number, self.params)

    def histogram(self, candidates: Candidates, search: Search, thresholds: Floats) -> Histogram:
        if search.done:
            return NO_DIGIT
        return candidates.keys(self.params).histogram(search.prefix)

    def find(self, candidates: Candidates, search: Search) -> Issues:
        """Return the issues of a region."""
        return find_issues(candidates, search, self.params)
