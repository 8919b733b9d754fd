"""Say what is waited for, and for how long: nobody should have to guess whether it hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Wait", "saying"]

FIRST, MOST = 5.0, 60.0
"""Seconds until something is said, and between two times later on; it doubles on the way."""


class Wait:
    """How long something has been waited for, and whether to say so now.

    Attributes
    ----------
    begun
        On the monotonic clock.
    """

    def __init__(self, begun: float | None = None) -> None:
        self.begun = time.monotonic() if begun is None else begun
        self._next, self._pause = self.begun + FIRST, FIRST

    @property
    def seconds(self) -> float:
        """So far."""
        return time.monotonic() - self.begun

    @property
    def said(self) -> bool:
        """It was long enough to be said."""
        return self._pause > FIRST

    def is_due(self) -> bool:
        """Return whether to say so now; the next time is later."""
        if time.monotonic() < self._next:
            return False
        self._pause = min(2 * self._pause, MOST)
        self._next += self._pause
        return True


@contextmanager
def saying(say: Callable[[float], None]) -> Iterator[None]:
    """Call ``say(seconds)`` every while, for as long as what is in the block takes."""
    wait, over = Wait(), threading.Event()

    def watch() -> None:
        while not over.wait(FIRST / 5):
            if wait.is_due():
                say(wait.seconds)

    thread = threading.Thread(target=watch, daemon=True, name="labelqc-waiting")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
