"""Run tasks on threads or a cluster, a bounded number of them submitted, and retry what fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from distributed import Client

from dask_labelqc.errors import LabelQCError, TakenOverError
from dask_labelqc.pipeline.attempt import Outcome, attempt_here, with_peak
from dask_labelqc.pipeline.on_cluster import AHEAD, SECONDS_TO_STOP, Cluster

__all__ = ["Outcome", "Workers", "open_workers", "run_window"]

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 3
"""How often a task may fail."""


class Workers(Protocol):
    """Where tasks run, and for which items there are tasks."""

    @property
    def num_pending(self) -> int:
        """Tasks that were submitted and not taken back."""

    def window(self) -> int:
        """Return how many tasks there may be at once."""

    def room(self) -> int:
        """Return how many items to submit now."""

    def submit(
        self, function: Callable[[T], R], items: Sequence[T], avoid: tuple[str, ...] = ()
    ) -> None:
        """Call the function of each item, on other workers than these if there are any."""

    def take(self) -> list[tuple[Any, Outcome[Any]]]:
        """Wait until items are done, and return them and what came of them.

        At least one must be pending; none may be returned.
        """

    def stop(self, *, interrupted: bool = False) -> None:
        """Return when no task runs any more, or little can be done about it."""


class Threads:
    """Threads of this process."""

    def __init__(self, executor: Executor, threads: int) -> None:
        self._executor, self._threads = executor, threads
        self._pending: dict[Future[Any], Any] = {}

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def window(self) -> int:
        return AHEAD * self._threads

    def room(self) -> int:
        return max(self.window() - self.num_pending, 0)

    def submit(
        self, function: Callable[[T], R], items: Sequence[T], avoid: tuple[str, ...] = ()
    ) -> None:
        self._pending |= {
            self._executor.submit(attempt_here, function, item): item for item in items
        }

    def take(self) -> list[tuple[Any, Outcome[Any]]]:
        done = wait(self._pending, return_when=FIRST_COMPLETED).done
        outcomes = with_peak([future.result() for future in done])
        return [(self._pending.pop(f), found) for f, found in zip(done, outcomes, strict=True)]

    def stop(self, *, interrupted: bool = False) -> None:
        wait([future for future in self._pending if not future.cancel()], SECONDS_TO_STOP)
        self._pending.clear()


@contextmanager
def open_workers(client: Client | None, n_jobs: int | None = None) -> Iterator[Workers]:
    """Yield the workers of a cluster, or threads of this process without a client."""
    if client is not None:
        yield Cluster(client)
        return
    threads = n_jobs or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    try:
        yield Threads(pool, threads)
    finally:
        pool.shutdown(wait=False)  # they have ended, unless they never will


def run_window(
    workers: Workers, function: Callable[[T], R], items: Iterable[T]
) -> Generator[tuple[T, Outcome[R]], None, None]:
    """Yield (item, what came of it) in the order in which they finish.

    What fails is tried again on another worker, `ATTEMPTS` times in all; but not what the package
    itself found wrong with the input, which would be wrong again. A worker that dies is no failure
    of its tasks unless Dask gives one of them up. Nothing is held for items that are not yet
    submitted or already yielded, so neither this process nor a scheduler grows with their number.
    """
    waiting = iter(items)
    tried: dict[T, tuple[str, ...]] = {}
    try:
        while True:
            if more := list(islice(waiting, workers.room())):
                workers.submit(function, more)
            if not workers.num_pending:
                return
            for item, outcome in workers.take():
                outcome = replace(outcome, workers=tried.pop(item, ()) + outcome.workers)
                if _may_pass(outcome):
                    tried[item] = outcome.workers
                    workers.submit(function, [item], outcome.workers)
                else:
                    yield item, outcome
    finally:
        workers.stop(interrupted=_is_interrupted(sys.exception()))


def _is_interrupted(error: BaseException | None) -> bool:
    """Say if what ends the window is Ctrl-C, or whoever it was that closed it for that."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _may_pass(outcome: Outcome[Any]) -> bool:
    error = outcome.error
    final = error is None or (isinstance(error, LabelQCError) and not isinstance(error, OSError))
    final |= isinstance(error, TakenOverError)
    return not final and len(outcome.workers) < ATTEMPTS
