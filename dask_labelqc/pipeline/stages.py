"""The stages of a job, each run over all groups; see `method.stages.Stages`."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar, cast

import numpy as np

from dask_labelqc.errors import BlockError, LabelQCError, OutputError, TakenOverError
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.summary import Statistics
from dask_labelqc.pipeline.groups import (
    CHECKPOINT,
    Job,
    Numbers,
    blank_groups,
    count_groups,
    groups_histogram,
    mend_groups,
    paint_groups,
    stored_statistics,
    summarize_group,
)
from dask_labelqc.pipeline.images import Images
from dask_labelqc.pipeline.lease import Lease
from dask_labelqc.pipeline.stamps import group_stamps
from dask_labelqc.pipeline.window import ATTEMPTS, Outcome, Workers, run_window
from dask_labelqc.progress import Progress
from dask_labelqc.region import name_images
from dask_labelqc.typing import Floats, Ints

__all__ = ["Failure", "JobStages", "Measures"]

R = TypeVar("R")
T = TypeVar("T", int, Numbers)

LONGEST_BATCH = 16
"""Records that one task reads at the most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Images that could not be audited.

    Attributes
    ----------
    images
        The first, and the one after the last.
    cause
        What went wrong, and where.
    """

    images: tuple[int, int]
    cause: str


class Measures:
    """What a run took.

    Attributes
    ----------
    seconds
        Of each stage.
    bytes_read
        Of predictions, decoded.
    task_seconds, read_seconds
        Of the tasks that read the predictions, and how much of that they waited for data.
    peak_bytes
        The most memory that a worker has held.
    num_resumed
        Groups that an earlier run had finished.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.bytes_read = 0
        self.task_seconds = self.read_seconds = 0.0
        self.peak_bytes = 0
        self.num_resumed = 0


class JobStages:
    """Runs each stage on the workers, over the groups that are still to be audited.

    Attributes
    ----------
    groups
        Their numbers.
    failures
        What was left out of them.
    measures
        What it took so far.
    """

    def __init__(
        self,
        job: Job,
        workers: Workers,
        lease: Lease,
        progress: Progress,
        *,
        resume: bool,
        keep_going: bool,
    ) -> None:
        self._job, self._workers, self._lease, self._progress = job, workers, lease, progress
        self._resume, self._keep_going = resume, keep_going
        self.groups: Sequence[int] = range(job.plan.num_groups)
        self.failures: list[Failure] = []
        self.measures = Measures()
        # By group: those that tasks report of what they wrote.
        self._dense, self._masks = np.zeros((2, job.plan.num_groups), np.uint64)
        self._bound: float | None = None

    def summarize(self, bound: float | None = None) -> Statistics:
        self._bound = bound
        total: list[Statistics] = []
        missing = self.groups
        if bound is None and self._resume:
            stored, total = self._stored("resume")
            self.measures.num_resumed = len(stored)
            missing = [n for n in self.groups if n not in stored]
        failed: dict[int, Failure] = {}
        task = partial(summarize_group, self._job, bound)

        def leave_out(number: int, outcome: Outcome[Any]) -> None:
            failure = self._failure(number, outcome)
            failed.update(dict.fromkeys(self._job.groups_beside(number), failure))

        may_fail = leave_out if self._keep_going and bound is None else None
        done = len(self.groups) - len(missing)
        for found, seconds in self._stage("summarize", task, missing, may_fail, done):
            total = [reduce(add, total, found.statistics)]
            self.measures.bytes_read += found.num_bytes
            self.measures.read_seconds += found.read_seconds
            self.measures.task_seconds += seconds
            self._dense[found.number] = found.stamp
        return self._without(failed) if failed else total[0]

    def _without(self, failed: dict[int, Failure]) -> Statistics:
        """Leave groups out, with all others of the same images, and sum up what is left."""
        self.failures += sorted(set(failed.values()), key=lambda failure: failure.images)
        self.groups = [n for n in self.groups if n not in failed]
        _, total = self._stored("sum")
        if not total:
            raise BlockError(f"no image could be audited: {self.failures[0].cause}")
        return total[0]

    def _stored(self, name: str) -> tuple[set[int], list[Statistics]]:
        """Return the groups that are on record, and the sum of their statistics, if any are.

        Every group is asked for: a listing would stumble over records that were cut short.
        """
        stored: set[int] = set()
        total: list[Statistics] = []
        for numbers, found in self._in_batches(name, partial(stored_statistics, self._job)):
            stored.update(numbers)
            for number, stamp in numbers.items():
                self._dense[number] = stamp
            if found is not None:
                total = [reduce(add, total, found)]
        return stored, total

    def count(self, thresholds: Floats) -> int:
        return sum(self._in_batches("count", partial(count_groups, self._job, thresholds)))

    def histogram(self, prefix: tuple[int, ...]) -> Histogram:
        return reduce(add, self._in_batches("select", partial(groups_histogram, self._job, prefix)))

    def paint(self, search: Search) -> tuple[Images, Ints]:
        """Write the mask; return the images, and how many issues there are of each class pair."""
        images = Images(self._job)
        matrix = np.zeros((self._job.params.num_classes,) * 2, np.int64)
        for found, part in self._in_batches("paint", partial(paint_groups, self._job, search)):
            for number, issues in found.items():
                images.add(number, issues)
                self._masks[number] = issues.stamp
            matrix += part
        return images, matrix

    def verify(self, search: Search) -> None:
        """See that what tasks reported to have written is what is there; write again what differs.

        The store is asked what it holds, which costs a request for a thousand groups. Only of
        groups whose answer differs the data are looked at; of all where the store does not tell.

        Raises
        ------
        OutputError
            What was written again is not what is there either.
        """
        audited = set(self.groups)
        doubtful = self._doubtful()
        left_out = [n for n in doubtful if n not in audited]
        for _ in self._in_batches("verify", partial(blank_groups, self._job), left_out):
            pass
        doubtful = [n for n in doubtful if n in audited]
        for _ in range(ATTEMPTS):
            painted: list[int] = []
            spoiled: list[int] = []
            mend = partial(mend_groups, self._job, search)
            for painted_now, spoiled_now in self._in_batches("verify", mend, doubtful):
                painted += painted_now
                spoiled += spoiled_now
            again = partial(summarize_group, self._job, self._bound)
            for _ in self._stage("summarize", again, spoiled):
                pass
            doubtful = sorted({*painted, *spoiled})
            if not doubtful:
                return
            log.warning(
                "%d groups of the output were not what was written; they were written again",
                len(doubtful),
            )
        raise OutputError(
            f"output: groups of {self._job.output.store_path} are not what was written, time and "
            "again; something else writes there; end that, then resume=True (--resume)"
        )

    def _doubtful(self) -> list[int]:
        """Return the groups of which the store does not say what the tasks did."""
        plan, found = self._job.plan, np.zeros(self._job.plan.num_groups, np.uint64)
        for name, array in self._job.arrays.items():
            if name == CHECKPOINT:
                continue
            stamps = group_stamps(name, array, range(array.ndim), plan)
            if stamps is None:
                return list(range(plan.num_groups))
            found ^= stamps
        audited = np.zeros(plan.num_groups, bool)
        audited[self.groups] = True
        return [int(n) for n in np.flatnonzero(found != (self._dense ^ self._masks) * audited)]

    def _in_batches(
        self, name: str, function: Callable[[Numbers], R], groups: Sequence[int] | None = None
    ) -> Iterator[R]:
        """Run a stage that reads records only: several to a task, or scheduling would cost more."""
        groups = self.groups if groups is None else groups
        length = min(max(len(groups) // (2 * self._workers.window()), 1), LONGEST_BATCH)
        batches = [tuple(groups[i : i + length]) for i in range(0, len(groups), length)]
        return (result for result, _ in self._stage(name, function, batches))

    def _stage(
        self,
        name: str,
        function: Callable[[T], R],
        items: Sequence[T],
        may_fail: Callable[[T, Outcome[R]], None] | None = None,
        done: int = 0,
    ) -> Iterator[tuple[R, float]]:
        """Run one task for each item; yield its result, and what it took, as soon as it is there.

        What fails for good stops the job, or is handed to `may_fail`. So many groups as `done` says
        need no more work.
        """
        if not items:
            return
        begun = time.monotonic()
        total = done + sum(len(_numbers(item)) for item in items)
        self._progress.stage(name, total, done)
        # Closed by hand: nothing may run on after an error.
        with closing(run_window(self._workers, function, items)) as running:
            for item, outcome in running:
                self._lease.check()
                for _ in _numbers(item):
                    self._progress.advance(getattr(outcome.result, "num_bytes", 0))
                self._note(name, item, outcome)
                if outcome.error is None:
                    yield cast(R, outcome.result), outcome.seconds
                elif may_fail is not None and not isinstance(outcome.error, TakenOverError):
                    may_fail(item, outcome)
                else:
                    raise self._stopped(name, item, outcome)
        seconds = time.monotonic() - begun
        self.measures.seconds[name] += seconds
        log.info("stage=%s blocks=%d seconds=%.3f", name, total - done, seconds)

    def _note(self, name: str, item: int | Numbers, outcome: Outcome[Any]) -> None:
        self.measures.peak_bytes = max(self.measures.peak_bytes, outcome.peak_bytes)
        if not log.isEnabledFor(logging.DEBUG):
            return
        numbers = _numbers(item)
        log.debug(
            "stage=%s block=%s images=%s seconds=%.3f bytes=%d worker=%s attempts=%d error=%r",
            name,
            numbers[0] if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}",
            "{}-{}".format(*self._images(item)),
            outcome.seconds,
            getattr(outcome.result, "num_bytes", 0),
            outcome.workers[-1],
            len(outcome.workers),
            outcome.error,
        )

    def _images(self, item: int | Numbers) -> tuple[int, int]:
        """Return the first and the last image of groups that follow one another."""
        numbers = _numbers(item)
        return self._job.box(numbers[0]).start[0], self._job.box(numbers[-1]).stop[0] - 1

    def _failure(self, number: int, outcome: Outcome[Any]) -> Failure:
        first, last = self._images(number)
        cause = str(self._error("summarize", number, outcome))
        log.warning("images %d to %d are left out: %s", first, last, cause)
        return Failure((first, last + 1), cause)

    def _stopped(self, name: str, item: int | Numbers, outcome: Outcome[Any]) -> LabelQCError:
        error = self._error(name, item, outcome)
        if not isinstance(error, BlockError):
            return error
        stopped = BlockError(
            f"{error}; the output is unfinished: resume=True (--resume) goes on from here, with "
            "keep_going=True (--keep-going) without images that cannot be read"
        )
        stopped.__cause__ = outcome.error
        return stopped

    def _error(self, name: str, item: int | Numbers, outcome: Outcome[Any]) -> LabelQCError:
        """Say which images failed, how often, where and why."""
        error = outcome.error
        assert error is not None
        if isinstance(error, LabelQCError):
            return error
        images = name_images(*self._images(item))
        tried = len(outcome.workers)
        places = f" on {', '.join(outcome.workers)}" if any(outcome.workers) else ""
        return BlockError(
            f"{name}: {images} failed {tried} times{places}: {type(error).__name__}: {error}"
        )


def _numbers(item: int | Numbers) -> Numbers:
    return item if isinstance(item, tuple) else (item,)
