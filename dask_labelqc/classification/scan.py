"""Read a region of examples run by run, and note what is to be remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from dask_labelqc.classification.facts import (
    Confidences,
    ExampleCandidates,
    ExampleFacts,
    Learned,
    LeftOut,
)
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.classification.validity import whole_labels
from dask_labelqc.engine.regions import Scanned
from dask_labelqc.errors import InputError, advise
from dask_labelqc.kernels.examples import ExampleScan, ExampleScanOptions, scan_examples
from dask_labelqc.kernels.labels import VOID, encode_labels
from dask_labelqc.method.validity import named, prediction_error
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["Keeping", "ReadRows", "learned_of_runs", "scan_bound", "scan_region", "scan_runs"]

ReadRows: TypeAlias = Callable[[slice], AnyArray]
"""Returns the stored predictions (n, K) of a run of examples."""

RUN = 2**18
"""Examples that are scanned at a time: what is found of them is a list for each."""
LEAST_KEPT = 2**12
"""Examples of a region that are kept in any case."""


@dataclass(frozen=True)
class Keeping:
    """Which examples that agree with their prediction are remembered.

    Attributes
    ----------
    bound
        Those with scores up to this.
    lowest
        Of these, only the lowest: twice as many as disagree, or an eighth of all if that is more.
    confidences
        Besides, the self-confidence of every one of them.
    thresholds
        float64 (K,), for scores that need them, once they are known.
    """

    bound: float
    lowest: bool = False
    confidences: bool = False
    thresholds: Floats | None = None

    @classmethod
    def at_first(cls, form: ExampleFormat, options: ScoreOptions) -> Keeping:
        """Return what to keep before the thresholds are known."""
        bound = options.bound(form.sum_tolerance)
        return cls(bound, bound == float("inf"), options.calibrated)


def scan_runs(
    start: int,
    blocks: Iterable[slice],
    labels: AnyArray,
    read: ReadRows,
    form: ExampleFormat,
    options: ExampleScanOptions,
    named_place: Callable[[int], str] = "example {}".format,
) -> Iterator[tuple[slice, ExampleScan]]:
    """Yield what is found of each run of the examples of a region, and which they are.

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
        Of the dataset and of the scan.
    named_place
        Names an example in a message, by its place.

    Raises
    ------
    InputError
        A label or a probability cannot be used; the message says which and where.
    """
    for block in blocks:
        stored = read(block)
        for first in range(block.start, max(block.stop, block.start + 1), RUN):
            run = slice(first, min(first + RUN, block.stop))
            rows = stored[run.start - block.start : run.stop - block.start]
            scan = _scan_run(labels[run], rows, start + run.start, form, options, named_place)
            yield run, scan._replace(position=scan.position + run.start)


def _scan_run(
    labels: AnyArray,
    stored: AnyArray,
    start: int,
    form: ExampleFormat,
    options: ExampleScanOptions,
    named_place: Callable[[int], str],
) -> ExampleScan:
    labels, missing = whole_labels(labels, start, named_place)
    if isinstance(stored, np.ma.MaskedArray):
        missing = missing | np.ma.getmaskarray(stored).any(axis=1)
        stored = stored.data
    encoded = encode_labels(labels, form.num_classes, form.fill_labels)
    if encoded.invalid_count:
        first = encoded.first_invalid
        raise InputError(
            f"labels: {encoded.invalid_count} of the {labels.size} labels of examples {start} to "
            f"{start + labels.size - 1} are outside 0..{form.num_classes - 1}, the first is "
            f"{named(int(labels[first]), form.class_names)} at {named_place(start + first)}"
        )
    if missing.any():
        encoded.codes[missing] = VOID
    native = stored.astype(form.dtype, copy=False)
    scan = scan_examples(native, encoded.codes, options, form.table)
    row, reason = int(scan.facts[0]), int(scan.facts[1])
    if reason:
        advice = advise("put logits through a softmax over the classes first")
        where = named_place(start + row)
        raise prediction_error(stored[row], reason, form.scale, where, advice, form.class_names)
    return scan


def scan_region(
    start: int,
    blocks: Iterable[slice],
    labels: AnyArray,
    read: ReadRows,
    form: ExampleFormat,
    options: ScoreOptions,
    keeping: Keeping,
    see: Callable[[ExampleCandidates], None] | None = None,
) -> Scanned:
    """Scan the blocks of a region one after the other; see `scan_runs` for the parameters.

    What is returned of it is `Learned`, what is kept are `ExampleFacts`. `see` is called with what
    was found of every example, run by run.
    """
    bound = scan_bound(keeping, see is not None)
    parameters = options.scan(bound, keeping.thresholds)
    runs = scan_runs(start, blocks, labels, read, form, parameters)
    return learned_of_runs(start, labels.size, runs, form, options, keeping, see)


def scan_bound(keeping: Keeping, seen: bool) -> float:
    """Return up to which score a scan finds what agrees; all of it if every example is `seen`."""
    every = keeping.confidences or keeping.thresholds is not None or seen
    return float("inf") if every else keeping.bound


def learned_of_runs(
    start: int,
    size: int,
    runs: Iterable[tuple[slice, ExampleScan]],
    form: ExampleFormat,
    options: ScoreOptions,
    keeping: Keeping,
    see: Callable[[ExampleCandidates], None] | None = None,
) -> Scanned:
    """Sum up what is found of each run of a region of so many examples; see `scan_region`."""
    statistics = ExampleStatistics.nothing(form.num_classes)
    kept = _Kept(size, form, options, keeping)
    for run, scan in runs:
        statistics = statistics + ExampleStatistics.of(scan, start + run.start)
        found = ExampleCandidates.of(scan)
        if see is not None:
            known = keeping.thresholds
            see(found if known is None else found.adjusted(known))
        kept.add(found, run.stop - run.start, statistics)
    facts = kept.facts(start, statistics)
    return Scanned(Learned(statistics, kept.left_out), facts)


class _Kept:
    """What is kept of a region while it is being scanned."""

    def __init__(
        self, size: int, form: ExampleFormat, options: ScoreOptions, keeping: Keeping
    ) -> None:
        self._keeping, self._num_classes = keeping, form.num_classes
        self._dtype = np.min_scalar_type(max(size - 1, 1))
        self._scored = options.scores_apart
        self._adjusting = options.rescored and keeping.thresholds is None
        self._disagreeing: list[ExampleCandidates] = []
        self._agreeing: list[ExampleCandidates] = []
        self._confidences: list[Confidences] = []
        self._seen = 0
        self._lowest = np.full(form.num_classes, np.nextafter(keeping.bound, np.inf))
        self._largest_total = 0.0

    def add(self, found: ExampleCandidates, seen: int, statistics: ExampleStatistics) -> None:
        """Take what was found of some more examples."""
        found = replace(found, position=found.position.astype(self._dtype))
        if not self._scored:
            found = found.without("score")
        if self._keeping.thresholds is not None:
            found = found.adjusted(self._keeping.thresholds)
        agree = found.given == found.predicted
        disagreeing, agreeing = found.of_which(~agree), found.of_which(agree)
        if self._keeping.confidences:
            more = Confidences.of(agreeing.self_confidence, agreeing.given, self._num_classes)
            self._confidences.append(more)
        agreeing = agreeing.of_which(agreeing.label_quality <= np.float64(self._keeping.bound))
        self._disagreeing.append(disagreeing)
        self._agreeing.append(self._slim(agreeing))
        self._seen += seen
        if self._keeping.lowest and _count(self._agreeing) > 2 * self._most:
            self._leave_out(statistics)

    def facts(self, start: int, statistics: ExampleStatistics) -> ExampleFacts:
        """Return what is kept of the whole region."""
        if self._keeping.lowest and _count(self._agreeing) > self._most:
            self._leave_out(statistics)
        return ExampleFacts(
            start,
            ExampleCandidates.joined(self._disagreeing),
            ExampleCandidates.joined(self._agreeing),
            Confidences.joined(self._confidences) if self._confidences else None,
        )

    @property
    def left_out(self) -> LeftOut:
        kept = _count(self._disagreeing) + _count(self._agreeing)
        return LeftOut(kept, self._lowest, self._largest_total)

    @property
    def _most(self) -> int:
        """How many of those that agree to keep."""
        return max(2 * _count(self._disagreeing), self._seen // 8, LEAST_KEPT)

    def _slim(self, agreeing: ExampleCandidates) -> ExampleCandidates:
        """Return only what the ranking needs."""
        slim = agreeing.without("confidence", "predicted")
        if not self._adjusting:
            slim = slim.without("given")
        return slim.without("self_confidence") if slim.score.size else slim

    def _leave_out(self, statistics: ExampleStatistics) -> None:
        """Keep the lowest of those that agree, by the thresholds as far as they are known."""
        agreeing = ExampleCandidates.joined(self._agreeing)
        order = agreeing.label_quality
        if self._adjusting:
            order = order - statistics.thresholds()[agreeing.given]
        keep = order <= np.partition(order, self._most - 1)[self._most - 1]
        gone = agreeing.of_which(~keep)
        self._agreeing = [agreeing.of_which(keep)]
        if gone.position.size == 0:
            return
        if self._adjusting:
            np.minimum.at(self._lowest, gone.given, gone.self_confidence.astype(np.float64))
            self._largest_total = max(self._largest_total, float(gone.total.max()))
        else:
            self._lowest = np.minimum(self._lowest, np.float64(gone.label_quality.min()))


def _count(parts: list[ExampleCandidates]) -> int:
    return sum(part.position.size for part in parts)
