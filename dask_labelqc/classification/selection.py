"""The label issues of a dataset of examples, from one read of its predictions or two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from dask_labelqc.classification.facts import ExampleFacts, FoundIssues, LeftOut
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.classification.scan import Keeping
from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.typing import Floats

__all__ = ["Regions", "Selection", "Total", "select"]

Total = TypeVar("Total", IssueCounts, Histogram, FoundIssues)


class Regions(Protocol):
    """The regions of a dataset, and what is remembered of each after it was read."""

    def scan(self, keeping: Keeping) -> tuple[ExampleStatistics, LeftOut]:
        """Read every region, and remember what `keeping` says."""

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

    The issues are looked for among the examples that were kept. Those that were left out agree
    with their predictions: if none has a score below that of the last issue, they could only rank
    behind it, and the issues are right. Otherwise the predictions are read again, and every example
    up to that score is kept: more examples can only push issues out.

    The predictions are read a second time, too, where a score needs all probabilities of an
    example after the thresholds are known.
    """
    keeping = Keeping.at_first(form, options)
    first = replace(keeping, bound=-np.inf, lowest=False) if options.reads_twice else keeping
    statistics, left_out = regions.scan(first)
    thresholds = statistics.thresholds()
    counts = regions.total(partial(ExampleFacts.counts, thresholds=thresholds))
    num_selected = counts.num_issues(options.calibrated)
    known = replace(keeping, confidences=False, thresholds=thresholds if options.rescored else None)
    if options.reads_twice:
        _, left_out = regions.scan(known)
    issues = _lowest(regions, form, options, num_selected, left_out, thresholds)
    unscored = thresholds if options.rescored and not options.reads_twice else None
    last = float(issues.score.max(initial=-np.inf))
    if last >= left_out.lowest_score(unscored):
        _, left_out = regions.scan(replace(known, bound=last, lowest=False))
        issues = _lowest(regions, form, options, num_selected, left_out, thresholds)
    return Selection(statistics, thresholds, num_selected, issues)


def _lowest(
    regions: Regions,
    form: ExampleFormat,
    options: ScoreOptions,
    num_selected: int,
    left_out: LeftOut,
    thresholds: Floats,
) -> FoundIssues:
    """Return the issues among the lowest `num_selected` of the examples that were kept."""
    scored = partial(ExampleFacts.adjusted, thresholds=thresholds) if options.rescored else _itself
    search = Search.start(form.key_space(options), min(num_selected, left_out.kept))
    while not search.done:
        search = search.narrowed(regions.total(partial(_histogram, scored, search)))
    return regions.total(partial(_issues, scored, search))


def _itself(facts: ExampleFacts) -> ExampleFacts:
    return facts


def _histogram(
    scored: Callable[[ExampleFacts], ExampleFacts], search: Search, facts: ExampleFacts
) -> Histogram:
    return scored(facts).histogram(search)


def _issues(
    scored: Callable[[ExampleFacts], ExampleFacts], search: Search, facts: ExampleFacts
) -> FoundIssues:
    return scored(facts).issues(search)
