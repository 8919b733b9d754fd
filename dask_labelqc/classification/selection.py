"""The method for examples, and their label issues from one read of the predictions or two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dask_labelqc.classification.facts import ExampleFacts, FoundIssues, Learned
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.classification.scan import Keeping
from dask_labelqc.classification.statistics import IssueCounts
from dask_labelqc.engine.regions import Regions
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.search import Search
from dask_labelqc.method.sequence import Selection, search_last, select
from dask_labelqc.typing import Floats

__all__ = ["ExampleMethod", "find"]


@dataclass(frozen=True)
class ExampleMethod:
    """How the label issues of examples are found; see `method.sequence.Method`.

    Regions are scanned by `Keeping`; their totals are `Learned`, what is kept `ExampleFacts`.
    """

    form: ExampleFormat
    options: ScoreOptions

    @property
    def first(self) -> Keeping:
        keeping = Keeping.at_first(self.form, self.options)
        return replace(keeping, bound=-np.inf, lowest=False) if self._reads_twice else keeping

    @property
    def most_rounds(self) -> int:
        return self.form.key_space(self.options).levels

    @property
    def _reads_twice(self) -> bool:
        """Whether a score needs all probabilities of an example after the thresholds are known."""
        return self.options.reads_twice

    def warn(self, learned: Learned) -> Learned:
        return learned  # the public functions do, of what the caller wrote

    def thresholds(self, learned: Learned) -> Floats:
        return learned.statistics.thresholds()

    def count(self, facts: ExampleFacts, thresholds: Floats) -> IssueCounts:
        return facts.counts(thresholds)

    def number(self, counts: IssueCounts) -> int:
        return counts.num_issues(self.options.calibrated)

    def again(self, learned: Learned, thresholds: Floats, number: int) -> Keeping | None:
        return self.known(thresholds) if self._reads_twice else None

    def start(self, learned: Learned, number: int) -> Search:
        return Search.start(self.form.key_space(self.options), min(number, learned.left_out.kept))

    def histogram(self, facts: ExampleFacts, search: Search, thresholds: Floats) -> Histogram:
        return self._scored(facts, thresholds).histogram(search)

    def find(self, facts: ExampleFacts, search: Search, thresholds: Floats) -> FoundIssues:
        """Return the issues of a region."""
        return self._scored(facts, thresholds).issues(search)

    def missed(self, learned: Learned, thresholds: Floats, issues: FoundIssues) -> Keeping | None:
        """Return how to scan again if others may rank before the last issue; None if none does.

        The issues were looked for among the examples that were kept. Those that were left out
        agree with their predictions: if none has a score below that of the last issue, they could
        only rank behind it, and the issues are right. Otherwise every example up to that score is
        to be kept: more examples can only push issues out. Above it there are none, whatever would
        rank there where those that agree are missing.
        """
        unscored = thresholds if self.options.rescored and not self._reads_twice else None
        last = float(issues.score.max(initial=-np.inf))
        if last < learned.left_out.lowest_score(unscored):
            return None
        return replace(self.known(thresholds), bound=last, lowest=False)

    def below(self, facts: ExampleFacts, bound: float, thresholds: Floats) -> int:
        """Count the examples of a region that were kept and have scores up to a bound."""
        facts = self._scored(facts, thresholds)
        scores = facts.disagreeing.label_quality, facts.agreeing.label_quality
        return sum(int(np.count_nonzero(some <= np.float64(bound))) for some in scores)

    def known(self, thresholds: Floats) -> Keeping:
        """Return what is kept once the thresholds are known."""
        known = thresholds if self.options.rescored else None
        keeping = Keeping.at_first(self.form, self.options)
        return replace(keeping, confidences=False, thresholds=known)

    def _scored(self, facts: ExampleFacts, thresholds: Floats) -> ExampleFacts:
        return facts.adjusted(thresholds) if self.options.rescored else facts


def find(regions: Regions, method: ExampleMethod) -> tuple[Selection, FoundIssues]:
    """Count the issues, select as many examples of the lowest scores, drop those that agree.

    The regions must be such as return plain values.
    """
    selection = select(regions, method)
    thresholds, number = selection.thresholds, selection.number

    def issues(search: Any) -> FoundIssues:
        return regions.reduce("rank", method.find, search, thresholds)

    found = issues(selection.search)
    how = method.missed(selection.known, thresholds, found)
    if how is not None:
        known = regions.scan(how)
        below = regions.reduce("count", method.below, how.bound, thresholds)
        search = search_last(regions, method, known, thresholds, min(number, below))
        selection, found = replace(selection, known=known, search=search), issues(search)
    return selection, found
