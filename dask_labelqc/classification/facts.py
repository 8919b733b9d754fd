"""What is remembered of a region of examples after its predictions were read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np

from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.errors import InputError
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.examples import (
    ExampleScan,
    ExampleScanOptions,
    adjusted_self_confidence,
    scan_examples,
)
from dask_labelqc.kernels.keys import Histogram, Keys, KeySpace
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.method.issues import confident_thresholds, is_confident
from dask_labelqc.method.validity import prediction_error
from dask_labelqc.typing import AnyArray, BoolArray, Floats, Ints

__all__ = [
    "ExampleFacts",
    "ExampleStatistics",
    "FoundIssues",
    "IssueCounts",
    "RegionFacts",
    "scan_batch",
    "scan_region",
]

ReadRows: TypeAlias = Callable[[slice], AnyArray]
"""Returns the stored predictions (n, K) of a run of examples."""

AGREEMENT_SLACK = 1e-6
"""A prediction counts as the given label when it is no more probable than that by this."""
LOWEST_DIVISOR = 1e-6


@dataclass(frozen=True)
class ExampleStatistics:
    """What is added up over the dataset to learn the thresholds; `+` is exact.

    Attributes
    ----------
    class_sum
        Python integers (K,): self-confidence of the examples labelled k, times 2**32.
    class_count
        int64 (K,).
    below_bound
        Examples whose score is not above the bound of the scan.
    highest_disagreeing
        The highest score of an example that disagrees with its prediction, 0 if none does.
    worst_sum
        (distance from one, example, sum) of the example whose probabilities' sum is worst.
    """

    class_sum: AnyArray
    class_count: Ints
    below_bound: int = 0
    highest_disagreeing: float = 0.0
    worst_sum: tuple[float, int, float] = (0.0, 0, 1.0)

    @classmethod
    def nothing(cls, num_classes: int) -> ExampleStatistics:
        return cls(np.zeros(num_classes, object), np.zeros(num_classes, np.int64))

    @property
    def num_examples(self) -> int:
        return int(self.class_count.sum())

    def thresholds(self) -> Floats:
        return confident_thresholds(self.class_sum, self.class_count)

    def __add__(self, other: ExampleStatistics) -> ExampleStatistics:
        return ExampleStatistics(
            self.class_sum + other.class_sum,
            self.class_count + other.class_count,
            self.below_bound + other.below_bound,
            max(self.highest_disagreeing, other.highest_disagreeing),
            min(self.worst_sum, other.worst_sum, key=lambda w: (-w[0], w[1])),
        )


@dataclass(frozen=True)
class IssueCounts:
    """How many examples of each given class there are, and are confidently predicted.

    Attributes
    ----------
    total, confident, off_diagonal
        int64 (K,): all that were looked at, those whose prediction reaches its threshold, and
        those of them whose prediction is another class.
    """

    total: Ints
    confident: Ints
    off_diagonal: Ints

    @classmethod
    def nothing(cls, num_classes: int) -> IssueCounts:
        return cls(*np.zeros((3, num_classes), np.int64))

    def __add__(self, other: IssueCounts) -> IssueCounts:
        return IssueCounts(
            self.total + other.total,
            self.confident + other.confident,
            self.off_diagonal + other.off_diagonal,
        )

    def num_issues(self, calibrated: bool) -> int:
        """Estimate the number of label issues.

        Agrees with `get_num_issues` of cleanlab's LabelInspector. The calibrated estimate takes
        the share of issues among the confident examples of a class for that among all of them.

        Examples
        --------
        >>> counts = IssueCounts(np.array([8, 2]), np.array([4, 2]), np.array([2, 0]))
        >>> counts.num_issues(calibrated=False), counts.num_issues(calibrated=True)
        (2, 4)
        """
        if not calibrated:
            return int(self.off_diagonal.sum())
        expected = self.off_diagonal * self.total / np.maximum(self.confident, LOWEST_DIVISOR)
        return int(np.rint(expected.sum()))


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
class ExampleFacts:
    """The examples of a region that can be selected, and those that disagree.

    Attributes
    ----------
    start
        The place of the region's first example in the dataset.
    position, score, self_confidence, confidence, given, predicted
        (C,): place in the region, score, s, m, y and a.
    total
        (C,): sum of the probabilities, if the scores are still to be adjusted; otherwise empty.
    """

    start: int
    position: Ints
    score: Floats
    self_confidence: Floats
    confidence: Floats
    given: Ints
    predicted: Ints
    total: Floats

    def __sizeof__(self) -> int:
        arrays = {id(a): a for a in (getattr(self, f.name) for f in fields(self)[1:])}
        return sum(a.nbytes for a in arrays.values())

    def __add__(self, other: ExampleFacts) -> ExampleFacts:
        """Join the facts of two parts of one region."""
        arrays = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)])
            for f in fields(self)[1:]
        }
        return ExampleFacts(self.start, **arrays)

    def adjusted(self, thresholds: Floats) -> ExampleFacts:
        """Return the facts with the scores of adjusted probabilities."""
        score = adjusted_self_confidence(self.self_confidence, self.given, self.total, thresholds)
        return replace(self, score=score, total=np.zeros(0))

    def counts(self, thresholds: Floats, calibrated: bool) -> IssueCounts:
        """Count the examples of each given class; only those that disagree unless `calibrated`."""
        chosen: Any = slice(None)
        if not calibrated:
            (chosen,) = np.nonzero(self.given != self.predicted)
        given, predicted = self.given[chosen], self.predicted[chosen]
        confident = is_confident(self.confidence[chosen], predicted, thresholds)
        off_diagonal = confident & (given != predicted)
        return IssueCounts(
            *(
                np.bincount(classes, minlength=thresholds.size)
                for classes in (given, given[confident], given[off_diagonal])
            )
        )

    def keys(self, space: KeySpace) -> Keys:
        """Return the sort keys: the score, then the place in the dataset."""
        tied = np.zeros(self.position.size, np.bool_)
        return Keys.of(self.score, tied, self.start + self.position.astype(np.int64), space)

    def histogram(self, search: Search) -> Histogram:
        return self.keys(search.space).histogram(search.prefix)

    def agrees(self) -> BoolArray:
        """Return where the given label is as probable as any other, within the slack.

        With the slack added to its probability it has the highest one, the lowest class on ties.
        """
        raised = self.self_confidence + self.self_confidence.dtype.type(AGREEMENT_SLACK)
        tied = (raised == self.confidence) & (self.given < self.predicted)
        agrees: BoolArray = (self.given == self.predicted) | (raised > self.confidence) | tied
        return agrees

    def issues(self, search: Search) -> FoundIssues:
        """Return the selected examples whose prediction is another class."""
        if search.last is None:
            raise ValueError(f"the search has not ended: {search}")
        chosen = self.keys(search.space).up_to(search.last) if search.last else False
        (found,) = np.nonzero(chosen & ~self.agrees())
        return FoundIssues(self.start + self.position[found].astype(np.int64), self.score[found])


@dataclass(frozen=True)
class RegionFacts:
    """All that is remembered of a region."""

    statistics: ExampleStatistics
    facts: ExampleFacts

    def __sizeof__(self) -> int:
        return self.facts.__sizeof__()


def scan_batch(
    labels: AnyArray, stored: AnyArray, start: int, form: ExampleFormat, options: ExampleScanOptions
) -> ExampleScan:
    """Scan a run of examples that begins at the place `start` of the dataset.

    Raises
    ------
    InputError
        A label or a probability cannot be used; the message says which and where.
    """
    if np.ma.is_masked(labels) or np.ma.is_masked(stored):
        raise InputError(
            f"labels, pred_probs: some of examples {start} to {start + labels.size - 1} are "
            "masked; leave these examples out"
        )
    encoded = encode_labels(labels, form.num_classes)
    if encoded.invalid_count:
        first = encoded.first_invalid
        raise InputError(
            f"labels: {encoded.invalid_count} of the {labels.size} labels of examples {start} to "
            f"{start + labels.size - 1} are outside 0..{form.num_classes - 1}, the first is "
            f"{labels[first]} at example {start + first}"
        )
    native = stored.astype(form.dtype, copy=False)
    scan = scan_examples(native, encoded.codes, options, form.table)
    row, reason = int(scan.facts[0]), int(scan.facts[1])
    if reason:
        advice = "put logits through a softmax over the classes first"
        raise prediction_error(stored[row], reason, form.scale, f"example {start + row}", advice)
    return scan


def scan_region(
    start: int,
    blocks: Iterable[slice],
    labels: AnyArray,
    read: ReadRows,
    form: ExampleFormat,
    options: ScoreOptions,
    bound: float,
    thresholds: Floats | None = None,
) -> RegionFacts:
    """Scan the blocks of a region one after the other.

    Parameters
    ----------
    start
        The place of the region's first example.
    blocks
        Runs of examples, in places of the region.
    labels
        (n,), those of the region.
    read
        Returns the predictions of a block.
    form, options
        Of the dataset and of the search.
    bound
        Highest score of a candidate that agrees with its prediction.
    thresholds
        For scores that need them, once they are known.
    """
    scans = []
    statistics = ExampleStatistics.nothing(form.num_classes)
    parameters = options.scan(bound, thresholds)
    for block in blocks:
        scan = scan_batch(labels[block], read(block), start + block.start, form, parameters)
        statistics = statistics + _statistics(scan, start + block.start, bound)
        scans.append(scan._replace(position=scan.position + block.start))
    return RegionFacts(statistics, _facts(start, labels.size, scans))


def _statistics(scan: ExampleScan, start: int, bound: float) -> ExampleStatistics:
    disagreeing = scan.score[scan.given != scan.predicted]
    deviation, total = (float(v) for v in scan.worst_sum)
    return ExampleStatistics(
        scan.class_sum.astype(object),
        scan.class_count,
        int(np.count_nonzero(scan.score <= np.float64(bound))),  # as the kernel compares
        float(disagreeing.max(initial=0.0)),
        (deviation, start + int(scan.facts[2]), total),
    )


def _facts(start: int, size: int, scans: list[ExampleScan]) -> ExampleFacts:
    def joined(name: str) -> AnyArray:
        return np.concatenate([getattr(scan, name) for scan in scans])

    score, self_confidence = joined("score"), joined("self_confidence")
    return ExampleFacts(
        start=start,
        position=joined("position").astype(np.min_scalar_type(max(size - 1, 1))),
        score=score,
        self_confidence=self_confidence,
        confidence=joined("confidence"),
        given=joined("given"),
        predicted=joined("predicted"),
        total=joined("total"),
    )
