"""The package's log as lines of ``key=value``, for the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from dask_labelqc.terminal import printable

__all__ = ["show_log"]


@contextmanager
def show_log(level: str, console: Console) -> Iterator[None]:
    """Print what the package logs, and nothing of others; a bar on the same console stays whole.

    Parameters
    ----------
    level
        "debug", "info", "warning" or "error", and all that is more.
    console
        Where to print, each line whole.
    """
    log = logging.getLogger("dask_labelqc")
    handler = _Lines(console)
    had = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level.upper())
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(had[0])
        log.propagate = had[1]


class _Printable(logging.Formatter):
    """What is logged, names of others in it, as one line; a traceback has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, exception: Any) -> str:  # noqa: N802
        lines = super().formatException(exception).splitlines()
        return "\n".join(printable(line) for line in lines)


class _Lines(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        formatter = _Printable(
            "time=%(asctime)s.%(msecs)03dZ level=%(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)
        except Exception:
            self.handleError(record)
