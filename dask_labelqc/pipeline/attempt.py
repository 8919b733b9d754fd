"""Try what a task is to do, once, wherever it runs."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from distributed import Worker, get_worker

from dask_labelqc.pipeline.memory import peak_bytes

__all__ = ["LOG_TOPIC", "Outcome", "attempt_here", "attempt_on_worker", "process_name", "with_peak"]

T = TypeVar("T")
R = TypeVar("R")

LOG_TOPIC = "dask-labelqc-log"
"""Of Dask's events, under which workers tell the client what they log."""
PACKAGE = "dask_labelqc"


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


def attempt_here(function: Callable[[T], R], item: T, worker: str = "") -> Outcome[R]:
    """Call the function; an error is returned, and can be pickled."""
    begun = time.monotonic()
    result, error = None, None
    try:
        result = function(item)
    except Exception as raised:
        error = _picklable(raised)
    seconds = time.monotonic() - begun
    return Outcome(result, error, (worker,), seconds)


def attempt_on_worker(
    function: Callable[[T], R], client: str, items: Sequence[T]
) -> list[Outcome[R]]:
    """Call the function of each item in a task; `client` is the process that asks for it."""
    worker = get_worker()
    if client != process_name():
        logging.getLogger(PACKAGE).addHandler(_ToClient(worker))
    return with_peak([attempt_here(function, item, str(worker.address)) for item in items])


def process_name() -> str:
    """Return a name that other processes do not have."""
    return f"{socket.gethostname()}:{os.getpid()}"


def with_peak(outcomes: list[Outcome[R]]) -> list[Outcome[R]]:
    """Add the most memory that this process has held."""
    peak = peak_bytes()  # once for all: to look costs a tenth of a small item
    return [replace(outcome, peak_bytes=peak) for outcome in outcomes]


class _ToClient(logging.Handler):
    """Tells warnings to the clients of a worker's scheduler. One is enough: they are all equal."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        super().__init__(logging.WARNING)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ToClient) and self._worker is other._worker

    def __hash__(self) -> int:
        return hash(id(self._worker))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = f"{record.getMessage()} (worker {self._worker.address})"
            self._worker.log_event(LOG_TOPIC, {"level": record.levelno, "text": text})
        except Exception:
            self.handleError(record)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
