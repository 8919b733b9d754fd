"""What is remembered of a region of examples after its predictions were read.

Only an example that disagrees with its prediction can be an issue, so all of those are kept. Of
the others only the scores and places of the lowest are, which take part in the ranking, and, where
the count is calibrated, the self-confidence of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from dask_labelqc.kernels.examples import ExampleScan, adjusted_self_confidence
from dask_labelqc.kernels.keys import Histogram, Keys
from dask_labelqc.method.issues import is_confident
from dask_labelqc.method.search import Search
from dask_labelqc.typing import BoolArray, Floats, Ints

__all__ = ["Confidences", "ExampleCandidates", "ExampleFacts", "FoundIssues", "Learned", "LeftOut"]

AGREEMENT_SLACK = 1e-6
"""A prediction counts as the given label when it is no more probable than that by this."""


@dataclass(frozen=True)
class FoundIssues:
    """Label issues: their places in the dataset, int64, and their scores."""

    index: Ints
    score: Floats

    def __add__(self, other: FoundIssues) -> FoundIssues:
        return FoundIssues(
            np.concatenate([self.index, other.index]), np.concatenate([self.score, other.score])
        )

    def ranked(self) -> Ints:
        """Return the places, lowest score first, ties by place."""
        if (self.index[1:] < self.index[:-1]).any():
            return self.index[np.lexsort((self.index, self.score))]
        return self.index[np.argsort(self.score, kind="stable")]


@dataclass(frozen=True)
class ExampleCandidates:
    """A list of examples; what is not needed of them is an empty array.

    Attributes
    ----------
    position, self_confidence, confidence, given, predicted
        (C,): place in the region, s, m, y and a.
    score
        (C,), if it is not the self-confidence.
    total
        (C,): sum of the probabilities, if the scores are still to be adjusted.
    """

    position: Ints
    score: Floats
    self_confidence: Floats
    confidence: Floats
    given: Ints
    predicted: Ints
    total: Floats

    @property
    def label_quality(self) -> Floats:
        """The label quality score."""
        return self.score if self.score.size else self.self_confidence

    @classmethod
    def of(cls, scan: ExampleScan) -> ExampleCandidates:
        return cls(*(getattr(scan, field.name) for field in fields(cls)))

    @classmethod
    def joined(cls, parts: Sequence[ExampleCandidates]) -> ExampleCandidates:
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())

    def of_which(self, chosen: BoolArray) -> ExampleCandidates:
        return ExampleCandidates(*(array[chosen[: array.size]] for array in vars(self).values()))

    def without(self, *names: str) -> ExampleCandidates:
        return replace(self, **{name: getattr(self, name)[:0] for name in names})

    def adjusted(self, thresholds: Floats) -> ExampleCandidates:
        """Return them with the scores of adjusted probabilities, if these are still to be."""
        if self.total.size == 0:
            return self
        score = adjusted_self_confidence(self.self_confidence, self.given, self.total, thresholds)
        return replace(self.without("total"), score=score)

    def agrees(self) -> BoolArray:
        """Return where the given label is as probable as any other, within the slack.

        With the slack added to its probability it has the highest one, the lowest class on ties.
        """
        raised = self.self_confidence + self.self_confidence.dtype.type(AGREEMENT_SLACK)
        tied = (raised == self.confidence) & (self.given < self.predicted)
        agrees: BoolArray = (self.given == self.predicted) | (raised > self.confidence) | tied
        return agrees


@dataclass(frozen=True)
class Confidences:
    """The self-confidence of the examples that agree with their prediction, class by class.

    Attributes
    ----------
    value
        (n,): first those of class 0, then those of class 1, ...
    class_count
        int64 (K,).
    """

    value: Floats
    class_count: Ints

    @classmethod
    def of(cls, self_confidence: Floats, given: Ints, num_classes: int) -> Confidences:
        order = np.argsort(given, kind="stable")
        return cls(self_confidence[order], np.bincount(given, minlength=num_classes))

    @classmethod
    def joined(cls, parts: Sequence[Confidences]) -> Confidences:
        counts = np.array([part.class_count for part in parts])
        ends = counts.cumsum(axis=1)
        pieces = [
            part.value[end - count : end]
            for k in np.flatnonzero(counts.any(axis=0))
            for part, end, count in zip(parts, ends[:, k], counts[:, k], strict=True)
        ]
        return cls(np.concatenate([parts[0].value[:0], *pieces]), counts.sum(axis=0))

    def counts(self, thresholds: Floats) -> IssueCounts:
        """Count them, and those that reach the threshold of their class."""
        confident = np.zeros_like(self.class_count)
        ends = self.class_count.cumsum()
        for k in np.flatnonzero(self.class_count):
            values = self.value[ends[k] - self.class_count[k] : ends[k]]
            confident[k] = np.count_nonzero(is_confident(values, np.array(k), thresholds))
        return IssueCounts(self.class_count, confident, np.zeros_like(confident))


@dataclass(frozen=True)
class LeftOut:
    """What is known of the examples that are not among the facts: all of them agree.

    Attributes
    ----------
    kept
        How many examples are candidates.
    lowest
        float64 (K,): no example of class k that was left out has a lower score; or a lower
        self-confidence, if the scores were still to be adjusted.
    largest_total
        The largest sum of the probabilities of one of them.
    """

    kept: int
    lowest: Floats
    largest_total: float = 0.0

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(
            self.kept + other.kept,
            np.minimum(self.lowest, other.lowest),
            max(self.largest_total, other.largest_total),
        )

    def lowest_score(self, thresholds: Floats | None) -> float:
        """Return what no score of theirs is below, if `thresholds` are still to be subtracted.

        Exact: with the other numbers fixed, the rounded score grows with the self-confidence and
        falls with the sum.
        """
        if thresholds is None:
            return float(self.lowest.min())
        total = np.full(thresholds.size, self.largest_total)
        every = np.arange(thresholds.size)
        score = adjusted_self_confidence(self.lowest, every, total, thresholds)
        return float(score.min())


@dataclass(frozen=True)
class ExampleFacts:
    """What is remembered of the examples of a region.

    Attributes
    ----------
    start
        The place of the region's first example in the dataset.
    disagreeing
        All examples whose most probable class is not the given one.
    agreeing
        Of the others, those that can be selected.
    confidences
        Of all others, if the count is calibrated.
    """

    start: int
    disagreeing: ExampleCandidates
    agreeing: ExampleCandidates
    confidences: Confidences | None = None

    def __sizeof__(self) -> int:
        more = 0 if self.confidences is None else self.confidences.value.nbytes
        return self.disagreeing.nbytes + self.agreeing.nbytes + more

    def adjusted(self, thresholds: Floats) -> ExampleFacts:
        """Return the facts with the scores of adjusted probabilities."""
        return replace(
            self,
            disagreeing=self.disagreeing.adjusted(thresholds),
            agreeing=self.agreeing.adjusted(thresholds),
        )

    def counts(self, thresholds: Floats) -> IssueCounts:
        """Count the examples of each given class; only those that disagree unless calibrated."""
        some = self.disagreeing
        counts = IssueCounts.of(some.given, some.predicted, some.confidence, thresholds)
        return counts + self.confidences.counts(thresholds) if self.confidences else counts

    def histogram(self, search: Search) -> Histogram:
        """Count the next digit of the sort keys."""
        histograms = (
            self._keys(candidates, search).histogram(search.prefix)
            for candidates in (self.disagreeing, self.agreeing)
        )
        return next(histograms) + next(histograms)

    def issues(self, search: Search) -> FoundIssues:
        """Return the selected examples whose prediction is another class."""
        if search.last is None:
            raise ValueError(f"the search has not ended: {search}")
        some = self.disagreeing
        chosen: Any = self._keys(some, search).up_to(search.last) if search.last else False
        (found,) = np.nonzero(chosen & ~some.agrees())
        score = some.label_quality[found]
        return FoundIssues(self.start + some.position[found].astype(np.int64), score)

    def _keys(self, candidates: ExampleCandidates, search: Search) -> Keys:
        """Return the sort keys: the score, then the place in the dataset."""
        place = self.start + candidates.position.astype(np.int64)
        return Keys.of_any_sign(candidates.label_quality, place, search.space)


@dataclass(frozen=True)
class Learned:
    """What the scans of regions add up to."""

    statistics: ExampleStatistics
    left_out: LeftOut

    def __add__(self, other: Learned) -> Learned:
        return Learned(self.statistics + other.statistics, self.left_out + other.left_out)
