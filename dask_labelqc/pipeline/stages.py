"""The stages of a job, each run over all groups; see `engine.regions.Regions`."""

from __future__ import annotations

import hashlib
import logging
import pickle
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial, reduce
from operator import add
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from dask_labelqc.engine.regions import Eager
from dask_labelqc.errors import (
    BlockError,
    LabelQCError,
    OutputError,
    StoreError,
    TakenOverError,
    advise,
)
from dask_labelqc.pipeline.inputs import Part
from dask_labelqc.pipeline.lease import Lease
from dask_labelqc.pipeline.measures import Failure, Measures
from dask_labelqc.pipeline.output import scan_records
from dask_labelqc.pipeline.tasks import (
    GroupSummary,
    Job,
    Numbers,
    PaintedGroups,
    blank_groups,
    mend_groups,
    paint_groups,
    reduce_groups,
    sift_part,
    stored_totals,
    summarize_group,
    summarize_others,
    try_part,
)
from dask_labelqc.pipeline.window import ATTEMPTS, Outcome, Workers, run_window
from dask_labelqc.progress import Progress
from dask_labelqc.storage.records import Records

__all__ = ["JobStages"]

R = TypeVar("R")
Item: TypeAlias = int | Numbers | Part
T = TypeVar("T", int, Numbers, Part)

LONGEST_BATCH = 16
"""Records that one task reads at the most."""

log = logging.getLogger(__name__)


class JobStages(Eager):
    """Runs each stage on the workers, over the groups that are still to be audited.

    Attributes
    ----------
    groups
        Their numbers.
    left_out
        The items that are left out of those groups that have others.
    failures
        All that was left out, and why.
    measures
        What it took so far.
    how
        The last scan read.
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
        self.groups: Sequence[int] = range(job.inputs.num_groups)
        self.left_out: dict[int, tuple[int, ...]] = {}
        self.failures: list[Failure] = []
        self.measures = Measures()
        # By group: those that tasks report of what they wrote.
        self._dense, self._painted = np.zeros((2, job.inputs.num_groups), np.uint64)
        self._scans = 0
        self.how: Any = None
        self._paint: Any = None
        self._to_paint: Sequence[int] = ()

    @property
    def lists(self) -> Records:
        """What is on record beside the groups."""
        assert self._job.lists is not None
        return self._job.lists

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> Any:
        """Read every group as `how` says and put it on record; return the sum of the totals."""
        total = self._scanned(how)
        return total if then is None else then(total)

    def _scanned(self, how: Any) -> Any:
        job, first = self._job, self._scans == 0
        if not first:
            records = scan_records(job.output, self._scans, job.inputs.num_groups)
            job = replace(job, records=records)
        self._job = job = replace(job, how=_hashed(how))
        self._scans += 1
        self.how = how
        total: list[Any] = []
        missing = self.groups
        if self._resume:
            stored, total = self._stored("resume")
            if first:
                self.measures.num_resumed = len(stored)
            missing = [n for n in self.groups if n not in stored]
        failed: dict[int, Outcome[Any]] = {}
        may_fail = failed.__setitem__ if self._keep_going and first else None
        done = len(self.groups) - len(missing)
        whole = [n for n in missing if n not in self.left_out]
        task = partial(summarize_group, job, how)
        for found in self._reading("summarize", task, whole, may_fail, done):
            total = [reduce(add, total, found)]
        others = partial(summarize_others, job, how, self.left_out)
        for found in self._reading("summarize", others, list(self.left_out)):
            total = [reduce(add, total, found)]
        return self._without(failed) if failed else total[0]

    def _reading(
        self,
        name: str,
        task: Callable[[T], GroupSummary],
        items: Sequence[T],
        may_fail: Callable[[T, Outcome[GroupSummary]], None] | None = None,
        done: int = 0,
    ) -> Iterator[Any]:
        """Run a stage that reads the predictions; yield the totals."""
        for found, seconds in self._stage(name, task, items, may_fail, done):
            self.measures.bytes_read += found.num_bytes
            self.measures.read_seconds += found.read_seconds
            self.measures.task_seconds += seconds
            self._dense[found.number] = found.stamp
            yield found.total

    def _without(self, failed: dict[int, Outcome[Any]]) -> Any:
        """Leave the items out that groups failed for, and sum up what is left."""
        bad = self._bad_items(failed)
        again: dict[int, tuple[int, ...]] = {}
        for number in {n for group in failed for n in self._job.inputs.beside(group)}:
            items = range(*self._job.inputs.items(number))
            left_out = tuple(item for item in items if item in bad)
            if len(left_out) < len(items) and (left_out or number in failed):
                again[number] = left_out
        unstable: dict[int, Outcome[Any]] = {}
        task = partial(summarize_others, self._job, self.how, again)
        for _ in self._reading("summarize", task, sorted(again), unstable.__setitem__):
            pass
        for number, outcome in unstable.items():  # now this, now that: none of it
            bad |= dict.fromkeys(range(*self._job.inputs.items(number)), outcome)
        dropped = [n for n in self.groups if self._is_left_out(n, bad)]
        for _ in self._in_batches("sift", partial(blank_groups, self._job), dropped):
            pass
        kept = set(self.groups) - set(dropped)
        self.groups = sorted(kept)
        self.left_out = {n: items for n, items in again.items() if items and n in kept}
        self.failures += self._failures(bad)
        _, total = self._stored("sum", whole=False)
        if not total:
            first = self.failures[0]
            raise BlockError(
                f"no {self._job.inputs.item} could be audited: {first.cause}", first.advice
            )
        return total[0]

    def _is_left_out(self, number: int, bad: Container[int]) -> bool:
        return all(item in bad for item in range(*self._job.inputs.items(number)))

    def _bad_items(self, failed: dict[int, Outcome[Any]]) -> dict[int, Outcome[Any]]:
        """Find the items for which groups failed: halves of what fails are tried, and theirs."""
        smallest: dict[Part, Outcome[Any]] = {}
        parts = {self._job.part(number): outcome for number, outcome in failed.items()}
        while parts:
            halves: list[Part] = []
            for part, outcome in parts.items():
                cut = part.halves(self._job.inputs.together)
                halves += cut
                if not cut:
                    smallest[part] = outcome
            parts = {}
            task = partial(try_part, self._job, self.how)
            for _ in self._reading("sift", task, halves, parts.__setitem__):
                pass
        return self._bad_items_of(smallest)

    def _bad_items_of(self, parts: Mapping[Part, Outcome[Any]]) -> dict[int, Outcome[Any]]:
        """Find the items for which the smallest parts failed."""
        bad: dict[int, Outcome[Any]] = {}
        several = [part for part in parts if part.num_items > 1]
        unread: dict[Part, Outcome[Any]] = {}
        task = partial(sift_part, self._job, self.how)
        for found, _ in self._stage("sift", task, several, unread.__setitem__):
            bad |= {item: Outcome(None, error, ("",)) for item, error in found.items()}
        whole = unread | {part: o for part, o in parts.items() if part not in several}
        for part, outcome in whole.items():
            bad |= dict.fromkeys(range(*part.items), outcome)
        return bad

    def _failures(self, bad: Mapping[int, Outcome[Any]]) -> list[Failure]:
        """Put items together that follow one another and failed alike."""
        runs: list[list[int]] = []
        for image in sorted(bad):
            if runs and image == runs[-1][-1] + 1 and _alike(bad[image], bad[runs[-1][0]]):
                runs[-1].append(image)
            else:
                runs.append([image])
        return [self._failure((run[0], run[-1] + 1), bad[run[0]]) for run in runs]

    def _stored(self, name: str, whole: bool = True) -> tuple[set[int], list[Any]]:
        """Return the groups that are on record, and the sum of their statistics, if any are.

        Those of which something was left out count unless they have to be `whole`.
        Every group is asked for: a listing would stumble over records that were cut short.
        """
        stored: set[int] = set()
        total: list[Any] = []
        for numbers, found in self._in_batches(name, partial(stored_totals, self._job, whole)):
            stored.update(numbers)
            for number, stamp in numbers.items():
                self._dense[number] = stamp
            total = [reduce(add, total, part) for part in found] or total
        return stored, total

    def reduce(self, stage: str, function: Callable[..., R], *values: Any) -> R:
        """Add up ``function(kept, *values)`` of what was kept of each group."""
        task = partial(reduce_groups, self._job, function, values)
        return cast(R, reduce(add, self._in_batches(stage, task)))

    def of_lists(
        self, stage: str, function: Callable[..., R], number: int, *values: Any
    ) -> Iterator[R]:
        """Yield ``function(lists, *values, i)`` of the lists on record, for each i below number."""
        every = (0, self._job.inputs.items(self._job.inputs.num_groups - 1)[1])
        task = partial(_of_lists, function, self.lists, values)
        return (
            found for found, _ in self._stage(stage, task, [Part(i, every) for i in range(number)])
        )

    def paint(self, how: Any) -> Iterator[PaintedGroups]:
        """Write the outputs of the last stage, and yield what is to be told of the groups."""
        self._paint, most = how, LONGEST_BATCH
        inputs = self._job.inputs
        self._to_paint = range(inputs.num_groups) if inputs.paints_all else self.groups
        if inputs.paints_alone:
            most = 1
        task = partial(paint_groups, self._job, how)
        for found in self._in_batches("paint", task, self._to_paint, most):
            for number, stamp in found.stamps.items():
                self._painted[number] = stamp
            self.measures.bytes_read += found.num_bytes
            yield found

    def verify(self) -> None:
        """See that what tasks reported to have written is what is there; write again what differs.

        The store is asked what it holds, which costs a request for a thousand groups. Only of
        groups whose answer differs the data are looked at; of all where the store does not tell.

        Raises
        ------
        OutputError
            What was written again is not what is there either.
        """
        audited = set(self._to_paint)
        doubtful = self._doubtful()
        others = [n for n in doubtful if n not in audited]
        for _ in self._in_batches("verify", partial(blank_groups, self._job), others):
            pass
        doubtful = [n for n in doubtful if n in audited]
        for _ in range(ATTEMPTS):
            painted: list[int] = []
            spoiled: list[int] = []
            mend = partial(mend_groups, self._job, self._paint)
            for painted_now, spoiled_now in self._in_batches("verify", mend, doubtful):
                painted += painted_now
                spoiled += spoiled_now
            left_out = {n: self.left_out.get(n, ()) for n in spoiled}
            again = partial(summarize_others, self._job, self.how, left_out)
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
        inputs = self._job.inputs
        found = np.zeros(inputs.num_groups, np.uint64)
        for name, array in self._job.arrays.items():
            stamps = inputs.output_stamps(name, array)
            if stamps is None:
                return list(range(inputs.num_groups))
            found ^= stamps
        audited = np.zeros(inputs.num_groups, bool)
        audited[self._to_paint] = True
        return [int(n) for n in np.flatnonzero(found != (self._dense ^ self._painted) * audited)]

    def _in_batches(
        self,
        name: str,
        function: Callable[[Numbers], R],
        groups: Sequence[int] | None = None,
        most: int = LONGEST_BATCH,
    ) -> Iterator[R]:
        """Run a stage that reads records only: several to a task, or scheduling would cost more."""
        groups = self.groups if groups is None else groups
        length = min(max(len(groups) // (2 * self._workers.window()), 1), most)
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
            "stage=%s block=%s %ss=%s seconds=%.3f bytes=%d worker=%s attempts=%d error=%r",
            name,
            numbers[0] if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}",
            self._job.inputs.item,
            "{}-{}".format(*self._items(item)),
            outcome.seconds,
            getattr(outcome.result, "num_bytes", 0),
            outcome.workers[-1],
            len(outcome.workers),
            outcome.error,
        )

    def _items(self, item: Item) -> tuple[int, int]:
        """Return the first and the last item of a part, or of groups that follow one another."""
        if isinstance(item, Part):
            return item.items[0], item.items[1] - 1
        numbers, items = _numbers(item), self._job.inputs.items
        return items(numbers[0])[0], items(numbers[-1])[1] - 1

    def _named(self, first: int, last: int) -> str:
        what = self._job.inputs.item
        return f"{what} {first}" if first == last else f"{what}s {first} to {last}"

    def _failure(self, images: tuple[int, int], outcome: Outcome[Any]) -> Failure:
        error = self._error("summarize", Part(0, images), outcome)
        log.warning("%s left out: %s", self._named(images[0], images[1] - 1), error.message)
        return Failure(images, error.message, error.advice)

    def _stopped(self, name: str, item: Item, outcome: Outcome[Any]) -> LabelQCError:
        error = self._error(name, item, outcome)
        if not isinstance(error, BlockError):
            return error
        stopped = BlockError(
            f"{error}; the output is unfinished",
            advise(
                "{resume} goes on from here, with {keep_going} besides without "
                f"{self._job.inputs.item}s that cannot be read",
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
        items = self._named(*self._items(item))
        tried = len(outcome.workers)
        places = f" on {', '.join(outcome.workers)}" if any(outcome.workers) else ""
        return BlockError(
            f"{name}: {items} failed {tried} times{places}: {type(error).__name__}: {error}"
        )


def _numbers(item: Item) -> Numbers:
    if isinstance(item, Part):
        return (item.number,)
    return item if isinstance(item, tuple) else (item,)


def _of_lists(function: Callable[..., R], lists: Records, values: Sequence[Any], part: Part) -> R:
    return function(lists, *values, part.number)


def _hashed(how: Any) -> int:
    return int.from_bytes(hashlib.blake2b(pickle.dumps(how), digest_size=8).digest())


def _alike(a: Outcome[Any], b: Outcome[Any]) -> bool:
    return (type(a.error), str(a.error)) == (type(b.error), str(b.error))
