"""Run tasks on threads or a cluster, a bounded number of them submitted, and retry what fails."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any, Generic, Protocol, TypeVar

import distributed
from distributed import Client, KilledWorker, as_completed, get_worker
from distributed.client import ClosedClientError

from dask_labelqc.errors import ClusterError, LabelQCError, TakenOverError
from dask_labelqc.pipeline.memory import peak_bytes

__all__ = ["Outcome", "Workers", "open_workers", "run_window"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Tasks submitted for each thread that can run them: one runs, one waits."""
SECONDS_OF_A_TASK = 0.1
"""Items that are shorter go together in one task, or the scheduler would be most of it."""
MOST_TOGETHER = 16
"""Items in one task at the most."""
REFILLS = 4
"""Times that the window is filled up while it passes once: tasks are cheaper by the dozen."""
ATTEMPTS = 3
"""How often a task may fail."""
SECONDS_BETWEEN_COUNTS = 1.0
"""A cluster is asked no more often how many threads it has."""
SECONDS_TO_STOP = 30.0
"""For which tasks that run on a cluster are waited for after an error."""
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
"""What a call raises, and what a future, when Dask gives it up."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What came of a task.

    Attributes
    ----------
    result
        What it returned, None if it failed.
    error
        What it raised last.
    workers
        Addresses of the workers that tried it, in order; "" for a thread of this process.
    seconds
        That the last attempt took.
    peak_bytes
        The most memory that its process ever held.
    """

    result: R | None
    error: Exception | None
    workers: tuple[str, ...]
    seconds: float = 0.0
    peak_bytes: int = 0


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

    def stop(self) -> None:
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
        self._pending |= {self._executor.submit(_attempt, function, item): item for item in items}

    def take(self) -> list[tuple[Any, Outcome[Any]]]:
        done = wait(self._pending, return_when=FIRST_COMPLETED).done
        outcomes = _with_peak([future.result() for future in done])
        return [(self._pending.pop(f), found) for f, found in zip(done, outcomes, strict=True)]

    def stop(self) -> None:
        wait([future for future in self._pending if not future.cancel()])
        self._pending.clear()


class Cluster:
    """The threads of a cluster's workers, as many as there are at the time: they come and go.

    Items that take no time go several to a task.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pending: dict[distributed.Future, tuple[Any, ...]] = {}
        self._done = as_completed(loop=client.loop)
        self._threads, self._counted = 0, -SECONDS_BETWEEN_COUNTS
        self._seconds = SECONDS_OF_A_TASK

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def window(self) -> int:
        now = time.monotonic()
        if now - self._counted >= SECONDS_BETWEEN_COUNTS:
            self._threads = max(sum(self._nthreads().values()), 1)
            self._counted = now
        return AHEAD * self._threads

    def room(self) -> int:
        window = self.window()
        free = window - self.num_pending
        return free * self._together() if free >= max(window // REFILLS, 1) else 0

    def _together(self) -> int:
        return min(max(int(SECONDS_OF_A_TASK / max(self._seconds, 1e-6)), 1), MOST_TOGETHER)

    def submit(
        self, function: Callable[[T], R], items: Sequence[T], avoid: tuple[str, ...] = ()
    ) -> None:
        others = [w for w in self._nthreads() if w not in avoid] if avoid else []
        # If these have gone by then, any other will do.
        where = {"workers": others, "allow_other_workers": True} if others else {}
        length = self._together()
        batches = [tuple(items[i : i + length]) for i in range(0, len(items), length)]
        task = partial(_attempt_each, function)
        futures = self._asked(self._client.map, task, batches, pure=False, key="labelqc", **where)
        self._pending.update(zip(futures, batches, strict=True))
        self._done.update(futures)

    def take(self) -> list[tuple[Any, Outcome[Any]]]:
        ended = {future: future.status for future in self._done.next_batch()}
        # The worker that had the result is gone, and the task runs again.
        again = [future for future, status in ended.items() if status in ("pending", "lost")]
        self._done.update(again)
        whole = [future for future, status in ended.items() if status == "finished"]
        results = dict(zip(whole, self._asked(self._client.gather, whole), strict=True))
        taken: list[tuple[Any, Outcome[Any]]] = []
        for future in ended:
            if future not in again:
                items = self._pending.pop(future)
                outcomes = results.get(future) or [self._failed(future)] * len(items)
                taken += zip(items, outcomes, strict=True)
        if taken:
            mean = fmean(outcome.seconds for _, outcome in taken)
            self._seconds = (self._seconds + mean) / 2
        return taken

    def _failed(self, future: distributed.Future) -> Outcome[Any]:
        """Return what came of a task that no worker outlived; raise what stops the job."""
        error = self._asked(future.exception)
        if error is None:  # cancelled, though not by us
            raise self._gone()
        if not isinstance(error, KilledWorker):
            raise error
        return Outcome(None, error, (error.last_worker.address,))

    def _nthreads(self) -> dict[str, int]:
        threads: dict[str, int] = self._asked(self._client.nthreads)
        return threads

    def _asked(self, question: Callable[..., Any], *about: Any, **more: Any) -> Any:
        try:
            return question(*about, **more)
        except (OSError, ClosedClientError, *CANCELLED) as error:
            raise self._gone() from error

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"client: the scheduler at {self._client.scheduler.address} is gone, or has dropped "
            "the tasks of this job; resume=True (--resume) goes on from here"
        )

    def stop(self) -> None:
        # Dask forgets a task that is cancelled, but the worker does not stop: it would write yet
        # when this job has given its output back. They are few, and short.
        deadline = time.monotonic() + SECONDS_TO_STOP
        while running := [future for future in self._pending if future.status == "pending"]:
            if time.monotonic() > deadline:
                self._client.cancel(running)
                break
            time.sleep(0.01)
        self._pending.clear()
        self._done.clear()


@contextmanager
def open_workers(client: Client | None, n_jobs: int | None = None) -> Iterator[Workers]:
    """Yield the workers of a cluster, or threads of this process without a client."""
    if client is not None:
        yield Cluster(client)
        return
    threads = n_jobs or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        yield Threads(pool, threads)


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
        workers.stop()


def _may_pass(outcome: Outcome[Any]) -> bool:
    error = outcome.error
    final = error is None or (isinstance(error, LabelQCError) and not isinstance(error, OSError))
    final |= isinstance(error, TakenOverError)
    return not final and len(outcome.workers) < ATTEMPTS


def _attempt_each(function: Callable[[T], R], items: tuple[T, ...]) -> list[Outcome[R]]:
    return _with_peak([_attempt(function, item) for item in items])


def _with_peak(outcomes: list[Outcome[R]]) -> list[Outcome[R]]:
    peak = peak_bytes()  # once for all: to look costs a tenth of a small item
    return [replace(outcome, peak_bytes=peak) for outcome in outcomes]


def _attempt(function: Callable[[T], R], item: T) -> Outcome[R]:
    """Run on a worker: an error is returned, with the worker's address."""
    begun = time.monotonic()
    result, error = None, None
    try:
        result = function(item)
    except Exception as raised:
        error = _picklable(raised)
    seconds = time.monotonic() - begun
    return Outcome(result, error, (_address(),), seconds)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _address() -> str:
    try:
        return str(get_worker().address)
    except ValueError:
        return ""
