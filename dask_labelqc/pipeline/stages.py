"""The stages of a job, each run over all groups; see `method.stages.Stages`."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from dask_labelqc.errors import (
    Advice,
    BlockError,
    LabelQCError,
    OutputError,
    StoreError,
    TakenOverError,
    advise,
)
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.summary import Statistics
from dask_labelqc.pipeline.groups import (
    CHECKPOINT,
    Job,
    Numbers,
    Part,
    blank_group,
    blank_groups,
    count_groups,
    groups_histogram,
    mend_groups,
    paint_groups,
    stored_statistics,
    summarize_group,
    summarize_others,
    try_part,
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
Item: TypeAlias = int | Numbers | Part
T = TypeVar("T", int, Numbers, Part)

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
    advice
        What to do about it.
    """

    images: tuple[int, int]
    cause: str
    advice: Advice | None = field(default=None, compare=False)


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
    left_out
        The images that are left out of those groups that have others.
    failures
        All that was left out, and why.
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
        self.left_out: dict[int, tuple[int, ...]] = {}
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
        failed: dict[int, Outcome[Any]] = {}
        task = partial(summarize_group, self._job, bound)
        may_fail = failed.__setitem__ if self._keep_going and bound is None else None
        done = len(self.groups) - len(missing)
        whole = [n for n in missing if n not in self.left_out]
        for found in self._reading("summarize", task, whole, may_fail, done):
            total = [reduce(add, total, found)]
        task = partial(summarize_others, self._job, bound, self.left_out)
        for found in self._reading("summarize", task, list(self.left_out)):
            total = [reduce(add, total, found)]
        return self._without(failed) if failed else total[0]

    def _reading(self, name: str, *stage: Any) -> Iterator[Statistics]:
        """Run a stage that reads the predictions; the arguments are those of `_stage`."""
        for found, seconds in self._stage(name, *stage):
            self.measures.bytes_read += found.num_bytes
            self.measures.read_seconds += found.read_seconds
            self.measures.task_seconds += seconds
            self._dense[found.number] = found.stamp
            yield found.statistics

    def _without(self, failed: dict[int, Outcome[Any]]) -> Statistics:
        """Leave the images out that groups failed for, and sum up what is left."""
        bad = self._bad_images(failed)
        again: dict[int, tuple[int, ...]] = {}
        for number in {n for group in failed for n in self._job.groups_beside(group)}:
            images = range(*self._part(number).images)
            left_out = tuple(image for image in images if image in bad)
            if len(left_out) < len(images) and (left_out or number in failed):
                again[number] = left_out
        unstable: dict[int, Outcome[Any]] = {}
        task = partial(summarize_others, self._job, None, again)
        for _ in self._reading("summarize", task, sorted(again), unstable.__setitem__):
            pass
        for number, outcome in unstable.items():  # now this, now that: none of it
            bad |= dict.fromkeys(range(*self._part(number).images), outcome)
        dropped = [n for n in self.groups if self._is_left_out(n, bad)]
        for _ in self._stage("sift", partial(blank_group, self._job), dropped):
            pass
        kept = set(self.groups) - set(dropped)
        self.groups = sorted(kept)
        self.left_out = {n: images for n, images in again.items() if images and n in kept}
        self.failures += self._failures(bad)
        _, total = self._stored("sum", whole=False)
        if not total:
            first = self.failures[0]
            raise BlockError(f"no image could be audited: {first.cause}", first.advice)
        return total[0]

    def _is_left_out(self, number: int, bad: Container[int]) -> bool:
        return all(image in bad for image in range(*self._part(number).images))

    def _part(self, number: int) -> Part:
        """Return all images of a group."""
        images = self._job.box(number).images
        return Part(number, (images.start, images.stop))

    def _bad_images(self, failed: dict[int, Outcome[Any]]) -> dict[int, Outcome[Any]]:
        """Find the images for which groups failed: halves of what fails are tried, and theirs."""
        bad: dict[int, Outcome[Any]] = {}
        parts = {self._part(number): outcome for number, outcome in failed.items()}
        while parts:
            bad |= {part.images[0]: o for part, o in parts.items() if part.num_images == 1}
            halves = [half for part in parts if part.num_images > 1 for half in part.halves()]
            parts = {}
            task = partial(try_part, self._job)
            for _ in self._reading("sift", task, halves, parts.__setitem__):
                pass
        return bad

    def _failures(self, bad: Mapping[int, Outcome[Any]]) -> list[Failure]:
        """Put images together that follow one another and failed alike."""
        runs: list[list[int]] = []
        for image in sorted(bad):
            if runs and image == runs[-1][-1] + 1 and _alike(bad[image], bad[runs[-1][0]]):
                runs[-1].append(image)
            else:
                runs.append([image])
        return [self._failure((run[0], run[-1] + 1), bad[run[0]]) for run in runs]

    def _stored(self, name: str, whole: bool = True) -> tuple[set[int], list[Statistics]]:
        """Return the groups that are on record, and the sum of their statistics, if any are.

        Those of which images were left out count unless all of their images have to be `whole`.
        Every group is asked for: a listing would stumble over records that were cut short.
        """
        stored: set[int] = set()
        total: list[Statistics] = []
        task = partial(stored_statistics, self._job, whole)
        for numbers, found in self._in_batches(name, task):
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
        others = [n for n in doubtful if n not in audited]
        for _ in self._in_batches("verify", partial(blank_groups, self._job), others):
            pass
        doubtful = [n for n in doubtful if n in audited]
        for _ in range(ATTEMPTS):
            painted: list[int] = []
            spoiled: list[int] = []
            mend = partial(mend_groups, self._job, search)
            for painted_now, spoiled_now in self._in_batches("verify", mend, doubtful):
                painted += painted_now
                spoiled += spoiled_now
            left_out = {n: self.left_out.get(n, ()) for n in spoiled}
            again = partial(summarize_others, self._job, self._bound, left_out)
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
            "again; something else writes there",
            advise("end that, then {resume} goes on from here", resume=True),
        )

    def _doubtful(self) -> list[int]:
        """Return the groups of which the store does not say what the tasks did."""
        plan, found = self._job.plan, np.zeros(self._job.plan.num_groups, np.uint64)
        for name, array in self._job.arrays.items():
            if name == CHECKPOINT:
                continue
            stamps = group_stamps(name, array, self._job.reader.lineup.labels.axes, plan)
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

    def _note(self, name: str, item: Item, outcome: Outcome[Any]) -> None:
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

    def _images(self, item: Item) -> tuple[int, int]:
        """Return the first and the last image of a part, or of groups that follow one another."""
        if isinstance(item, Part):
            return item.images[0], item.images[1] - 1
        numbers = _numbers(item)
        return self._job.box(numbers[0]).start[0], self._job.box(numbers[-1]).stop[0] - 1

    def _failure(self, images: tuple[int, int], outcome: Outcome[Any]) -> Failure:
        error = self._error("summarize", Part(0, images), outcome)
        named = name_images(images[0], images[1] - 1)
        log.warning("%s left out: %s", named, error.message)
        return Failure(images, error.message, error.advice)

    def _stopped(self, name: str, item: Item, outcome: Outcome[Any]) -> LabelQCError:
        error = self._error(name, item, outcome)
        if not isinstance(error, BlockError):
            return error
        stopped = BlockError(
            f"{error}; the output is unfinished",
            advise(
                "{resume} goes on from here, with {keep_going} besides without images that cannot "
                "be read",
                resume=True,
                keep_going=True,
            ),
        )
        stopped.__cause__ = outcome.error
        return stopped

    def _error(self, name: str, item: Item, outcome: Outcome[Any]) -> LabelQCError:
        """Say which images failed, how often, where and why."""
        error = outcome.error
        assert error is not None
        if isinstance(error, LabelQCError) and not isinstance(error, StoreError):
            return error
        images = name_images(*self._images(item))
        tried = len(outcome.workers)
        places = f" on {', '.join(outcome.workers)}" if any(outcome.workers) else ""
        return BlockError(
            f"{name}: {images} failed {tried} times{places}: {type(error).__name__}: {error}"
        )


def _numbers(item: Item) -> Numbers:
    if isinstance(item, Part):
        return (item.number,)
    return item if isinstance(item, tuple) else (item,)


def _alike(a: Outcome[Any], b: Outcome[Any]) -> bool:
    return (type(a.error), str(a.error)) == (type(b.error), str(b.error))
