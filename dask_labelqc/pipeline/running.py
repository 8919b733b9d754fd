"""One stage of a job: a task for each item, told to who watches, and errors that say which."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias, TypeVar, cast

from dask_labelqc.errors import BlockError, LabelQCError, StoreError, TakenOverError, advise
from dask_labelqc.pipeline.inputs import Part
from dask_labelqc.pipeline.lease import Lease
from dask_labelqc.pipeline.measures import Failure, Measures
from dask_labelqc.pipeline.tasks import Job, Numbers
from dask_labelqc.pipeline.window import Outcome, Workers, run_window
from dask_labelqc.progress import Progress

__all__ = ["StageRunner"]

R = TypeVar("R")
Item: TypeAlias = int | Numbers | Part
T = TypeVar("T", int, Numbers, Part)

log = logging.getLogger(__name__)


class StageRunner:
    """Runs stages on the workers of a job.

    Attributes
    ----------
    measures
        What it took so far.
    """

    def __init__(self, job: Job, workers: Workers, lease: Lease, progress: Progress) -> None:
        self._job, self._workers, self._lease, self._progress = job, workers, lease, progress
        self.measures = Measures()

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
