"""Servers that cannot be reached: when to ask again, and what to say meanwhile."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from functools import lru_cache

from dask.utils import format_time

from dask_labelqc.waiting import Wait

__all__ = ["Outage", "is_unreachable", "outage_of", "pauses"]

NO_CONNECTION = "HTTP error"
"""What obstore calls it if there was no answer, or not a whole one."""
NO_USE = ("dns error", "169.254.169.254", "metadata.google.internal")
"""A name that is wrong; and the servers of a cloud's machines that are asked for missing keys."""
JITTER = 0.25
"""By how much of it a pause is longer or shorter: not all who wait are to come at once."""

log = logging.getLogger(__name__)


def is_unreachable(error: Exception) -> bool:
    """Say if there was no connection, or it broke: a server that answers means what it says."""
    text = str(error)
    broke = NO_CONNECTION in text.partition("\n")[0] and not any(name in text for name in NO_USE)
    return broke or isinstance(error, ConnectionError)


def pauses(times: int, first: float, most: float, base: float) -> Iterator[float]:
    """Yield the seconds until each further try."""
    pause = first
    for _ in range(times):
        yield min(pause, most) * random.uniform(1 - JITTER, 1 + JITTER)
        pause *= base


class Outage:
    """A place that this process cannot reach, which is said once, whatever is asked of it."""

    def __init__(self) -> None:
        self._wait: Wait | None = None

    def lasts(self, server: str, reason: str, begun: float | None = None) -> None:
        """Note that it was asked in vain, since `begun` on the monotonic clock."""
        self._wait = wait = self._wait or Wait(begun)
        if wait.is_due():
            waited = format_time(wait.seconds)
            log.warning("%s cannot be reached, for %s so far: %s", server, waited, reason)

    def is_over(self, server: str) -> None:
        """Note that it has answered."""
        if self._wait is not None:
            if self._wait.said:
                waited = format_time(self._wait.seconds)
                log.warning("%s can be reached again, after %s", server, waited)
            self._wait = None


@lru_cache(maxsize=64)
def outage_of(url: str) -> Outage:
    """Return what this process knows of a place."""
    return Outage()
