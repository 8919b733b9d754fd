"""Read what comes next while what is there is being worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from zarr.abc.store import Store

from dask_labelqc.storage.stores import is_remote

__all__ = ["AHEAD", "reading_ahead", "reads_ahead"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3
"""Reads of a remote store that are under way beside the one that is waited for or worked on."""


def reads_ahead(store: Store) -> int:
    """Return how many reads of a store to have under way: none where a disk answers at once."""
    return AHEAD if is_remote(store) else 0


@contextmanager
def reading_ahead(read: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[Iterator[R]]:
    """Yield an iterator over ``read(item)``, in order; `ahead` of them are begun at once.

    Asking for a result gives the one before free: never more than ``ahead + 1`` exist.
    """
    if ahead == 0:
        yield map(read, items)
        return
    waiting = iter(items)
    pending: deque[Future[R]] = deque()

    def results() -> Iterator[R]:
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(read, item) for item in islice(waiting, 1))
            yield result
            del result

    with ThreadPoolExecutor(ahead, thread_name_prefix="labelqc-ahead") as pool:
        pending.extend(pool.submit(read, item) for item in islice(waiting, ahead))
        try:
            yield results()
        finally:
            for future in pending:
                future.cancel()
