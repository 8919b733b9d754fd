"""The label issues of a dataset of examples, from one read of its predictions or two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from dask_labelqc.classification.facts import (
    ExampleFacts,
    ExampleStatistics,
    FoundIssues,
    IssueCounts,
)
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.typing import Floats

__all__ = ["Regions", "Selection", "Total", "select"]

Total = TypeVar("Total", IssueCounts, Histogram, FoundIssues)


class Regions(Protocol):
    """The regions of a dataset, and what is remembered of each after it was read."""

    def scan(self, bound: float, thresholds: Floats | None = None) -> ExampleStatistics:
        """Read every region; candidates that agree have scores up to `bound`."""

    def adjust(self, thresholds: Floats) -> None:
        """Adjust the scores that are remembered."""

    def total(self, function: Callable[[ExampleFacts], Total]) -> Total:
        """Add up a function of the facts of each region."""


@dataclass(frozen=True)
class Selection:
    """What was found: the statistics and thresholds (K,), the estimate, and the issues."""

    statistics: ExampleStatistics
    thresholds: Floats
    num_selected: int
    issues: FoundIssues


def select(regions: Regions, form: ExampleFormat, options: ScoreOptions) -> Selection:
    """Count the issues, select as many examples of the lowest scores, drop those that agree.

    The predictions are read a second time where a score needs all probabilities of an example
    after the thresholds are known, and where sums of probabilities exceed one by more than the
    tolerance and the cut falls above the bound.
    """
    statistics = regions.scan(options.bound(form.sum_tolerance))
    thresholds = statistics.thresholds()
    if options.reads_twice:
        regions.scan(float("inf"), thresholds)
    elif options.rescored:
        regions.adjust(thresholds)
    count = partial(ExampleFacts.counts, thresholds=thresholds, calibrated=options.calibrated)
    counts = regions.total(count)
    num_selected = counts.num_issues(options.calibrated)
    if num_selected > statistics.below_bound:
        regions.scan(statistics.highest_disagreeing)
    search = Search.start(form.key_space(options), num_selected)
    while not search.done:
        search = search.narrowed(regions.total(partial(ExampleFacts.histogram, search=search)))
    issues = regions.total(partial(ExampleFacts.issues, search=search))
    return Selection(statistics, thresholds, num_selected, issues)
