"""What happens in the middle of a job: to the job, to its files, or to what it runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dask_labelqc.progress import NoProgress


class At(NoProgress):
    """Does something when so many groups are done, of a stage or of all; at 0, when it begins."""

    def __init__(self, count: int, action: Callable[[], Any], stage: str | None = None) -> None:
        self.count, self.action, self._stage, self._at = count, action, stage, ""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self._at = name
        if self.count == 0 and name == self._stage:
            self.action()

    def advance(self, num_bytes: int = 0) -> None:
        if self._stage in (None, self._at):
            self.count -= 1
            if self.count == 0:
                self.action()


class Stop(At):
    """Stops a job after so many groups of a stage, as by hand."""

    def __init__(self, stage: str | None, count: int) -> None:
        super().__init__(count, interrupt, stage)


def interrupt() -> None:
    raise KeyboardInterrupt
