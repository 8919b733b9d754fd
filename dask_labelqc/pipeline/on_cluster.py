"""Run tasks on the workers of a cluster, which come, go, freeze and fill up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean
from typing import Any, TypeVar

import dask.config
import distributed
from dask.utils import format_time, parse_timedelta
from distributed import Client, KilledWorker, as_completed
from distributed.client import ClosedClientError
from distributed.scheduler import NoValidWorkerError

from dask_labelqc.errors import ClusterError, advise
from dask_labelqc.pipeline.attempt import LOG_TOPIC, Outcome, attempt_on_worker, process_name
from dask_labelqc.waiting import Wait, saying

__all__ = ["Cluster", "ask"]

T = TypeVar("T")
R = TypeVar("R")

GOES_ON = advise("{resume} goes on from here", resume=True)

AHEAD = 2
"""Tasks submitted for each thread that can run them: one runs, one waits."""
SECONDS_OF_A_TASK = 0.2
"""Items that are shorter go together in one task, or the scheduler would be most of it."""
MOST_TOGETHER = 64
"""Items in one task at the most."""
REFILLS = 4
"""Times that the window is filled up while it passes once: tasks are cheaper by the dozen."""
SECONDS_BETWEEN_COUNTS = 1.0
"""A cluster is asked no more often how many threads it has."""
SECONDS_BETWEEN_LOOKS = 2.0
"""When nothing has finished for so long, it is looked at why; twice until tasks are sent again."""
SECONDS_PAUSED = 20.0
"""For which the tasks of a worker wait that Dask has paused; then others do them."""
SECONDS_TO_STOP = 30.0
"""For which tasks that run are waited for after an error."""
SECONDS_TO_INTERRUPT = 1.0
"""The same where somebody waits who has pressed Ctrl-C."""
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
"""What a call raises, and what a future, when Dask gives it up."""
NO_WORKERS = "distributed.scheduler.no-workers-timeout"

log = logging.getLogger(__name__)


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
        self._function: Callable[[Any], Any] = abs
        self._looks = _Looks(client, self._asked)
        client.subscribe_topic(LOG_TOPIC, _tell)

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
        # Not `allow_other_workers`: an idle one that has failed would steal it from a busy one that
        # has not. Should all the others go, it is sent again to any (see `_Looks`).
        where = {"workers": others} if others else {}
        length = self._together()
        batches = [tuple(items[i : i + length]) for i in range(0, len(items), length)]
        self._function = function
        self._send(batches, **where)

    def _send(self, batches: Sequence[tuple[Any, ...]], **where: Any) -> None:
        task = partial(attempt_on_worker, self._function, process_name())
        futures = self._asked(self._client.map, task, batches, pure=False, key="labelqc", **where)
        self._pending.update(zip(futures, batches, strict=True))
        self._done.update(futures)

    def take(self) -> list[tuple[Any, Outcome[Any]]]:
        self._wait()
        batch = self._done.next_batch(block=False)
        ended = {future: future.status for future in batch if future in self._pending}
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

    def _wait(self) -> None:
        """Return when a task has ended; meanwhile see that this can happen."""
        self._looks.begin()
        while not self._done.has_ready():
            with self._done.thread_condition:
                self._done.thread_condition.wait(0.1)
            stuck = self._looks.stuck(self._pending) if self._looks.is_due() else ()
            if stuck and not self._done.has_ready():
                self._send_again(stuck)
        self._looks.end()

    def _send_again(self, stuck: Sequence[distributed.Future]) -> None:
        log.warning("%d tasks wait while workers are idle; they are sent again", len(stuck))
        batches = [self._pending.pop(future) for future in stuck]
        self._asked(self._client.cancel, list(stuck))
        self._send(batches)

    def _failed(self, future: distributed.Future) -> Outcome[Any]:
        """Return what came of a task that no worker outlived; raise what stops the job."""
        error = self._asked(future.exception)
        if error is None:  # cancelled, though not by us
            raise self._gone()
        if isinstance(error, NoValidWorkerError):  # the scheduler has that setting too
            raise no_workers(self._client, error.timeout)
        if not isinstance(error, KilledWorker):
            raise error
        return Outcome(None, error, (error.last_worker.address,))

    def _nthreads(self) -> dict[str, int]:
        threads: dict[str, int] = self._asked(self._client.nthreads)
        return threads

    def _asked(self, question: Callable[..., Any], *about: Any, **more: Any) -> Any:
        try:
            return ask(self._client, question, *about, **more)
        except (OSError, ClosedClientError, *CANCELLED) as error:
            raise self._gone() from error

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"client: the scheduler at {self._client.scheduler.address} is gone, or has dropped "
            "the tasks of this job",
            GOES_ON,
        )

    def stop(self, *, interrupted: bool = False) -> None:
        # Dask forgets a task that is cancelled, but the worker does not stop: it would write yet
        # when this job has given its output back. They are few, and short.
        seconds = SECONDS_TO_INTERRUPT if interrupted else SECONDS_TO_STOP
        deadline = time.monotonic() + seconds
        while running := [future for future in self._pending if future.status == "pending"]:
            if time.monotonic() > deadline:
                self._client.cancel(running)
                break
            time.sleep(0.01)
        self._pending.clear()
        self._done.clear()


class _Looks:
    """Looks after tasks of which nothing is heard, and says what they wait for."""

    def __init__(self, client: Client, asked: Callable[..., Any]) -> None:
        self._client, self._asked = client, asked
        self._nowhere: set[distributed.Future] = set()
        self._no_worker: Wait | None = None
        self._paused: Wait | None = None
        self.begin()

    def begin(self) -> None:
        """Begin to wait for the next task that ends."""
        self._next = time.monotonic() + SECONDS_BETWEEN_LOOKS
        self._nowhere = set()

    def end(self) -> None:
        """Note that a task has ended, so there are workers."""
        if self._no_worker is not None and self._no_worker.said:
            log.warning("after %s workers take tasks again", format_time(self._no_worker.seconds))
        self._no_worker = None

    def is_due(self) -> bool:
        """Return whether to look now."""
        return time.monotonic() >= self._next

    def stuck(self, pending: Iterable[distributed.Future]) -> Sequence[distributed.Future]:
        """Return the tasks that no worker will ever run, though there are some that could.

        Dask holds back a task for workers that have all gone since, and one at a worker that is
        paused as long as it is.
        """
        workers = self._asked(self._client.scheduler_info)["workers"]
        # Later, the more there is to look at.
        self._next = time.monotonic() + SECONDS_BETWEEN_LOOKS + len(workers) / 100
        at = self._asked(self._client.processing)
        running = {w: it["nthreads"] for w, it in workers.items() if it["status"] == "running"}
        self._say_if_none(running, len(workers))
        is_idle = any(len(at.get(w, ())) < threads for w, threads in running.items())
        place = {key: worker for worker, keys in at.items() for key in keys}
        waiting = {future for future in pending if future.status == "pending"}
        nowhere = {future for future in waiting if future.key not in place} if is_idle else set()
        paused = {f for f in waiting - nowhere if place.get(f.key, "") in workers.keys() - running}
        stuck = [*(nowhere & self._nowhere), *self._held(paused if is_idle else set())]
        self._nowhere = nowhere
        return stuck

    def _held(self, paused: set[distributed.Future]) -> set[distributed.Future]:
        """Return those that have been at paused workers for long, and are not running there."""
        self._paused = (self._paused or Wait()) if paused else None
        if self._paused is None or self._paused.seconds < SECONDS_PAUSED:
            return set()
        self._paused = None
        try:
            stacks = self._asked(self._client.call_stack, keys=[future.key for future in paused])
        except (KeyError, RuntimeError):  # they have just ended, or the worker has
            return set()
        running = {key for keys in stacks.values() for key in keys}
        return {future for future in paused if future.key not in running}

    def _say_if_none(self, running: dict[str, int], num_workers: int) -> None:
        """Say for how long there has been no worker; raise when that is longer than is set."""
        if running:
            self.end()
            return
        self._no_worker = waited_for = self._no_worker or Wait()
        if waited_for.is_due():
            log.warning(
                "no worker takes tasks of the scheduler at %s (%s), for %s so far; the job goes on "
                "when one does",
                self._client.scheduler.address,
                f"{num_workers} are paused, their memory is full"
                if num_workers
                else "none is there",
                format_time(waited_for.seconds),
            )
        limit = parse_timedelta(dask.config.get(NO_WORKERS, None))
        if limit is not None and waited_for.seconds > limit:
            raise no_workers(self._client, limit)


def no_workers(client: Client, seconds: float) -> ClusterError:
    """Return the error of a job that has waited for a worker long enough."""
    return ClusterError(
        f"client: no worker has taken tasks of the scheduler at {client.scheduler.address} for "
        f"{format_time(seconds)}, and for no longer is one waited for by Dask's setting "
        f"{NO_WORKERS}",
        GOES_ON,
    )


def ask(client: Client, question: Callable[..., Any], *about: Any, **more: Any) -> Any:
    """Ask the scheduler or the workers, and say so every while if no answer comes."""

    def say(seconds: float) -> None:
        log.warning(
            "the cluster of the scheduler at %s has not answered for %s (%s)",
            client.scheduler.address,
            format_time(seconds),
            getattr(question, "__name__", "question"),
        )

    with saying(say):
        return question(*about, **more)


async def _tell(event: tuple[float, dict[str, Any]]) -> None:
    """Log what a worker has logged."""
    _, told = event
    log.log(told["level"], "%s", told["text"])
