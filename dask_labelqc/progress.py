"""How far a job has come: a bar in a terminal, a widget in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from dask_labelqc.terminal import printable

__all__ = [
    "BarProgress",
    "LateProgress",
    "LineProgress",
    "NoProgress",
    "Progress",
    "WidgetProgress",
    "progress_for",
]


class Progress(Protocol):
    """Told of stages and of the blocks that each has finished."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begin a stage of `total` blocks, `done` of which need no more work."""

    def advance(self, num_bytes: int = 0) -> None:
        """Count one more block of the stage, for which `num_bytes` were read."""


class NoProgress:
    """Say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def stage(self, name: str, total: int, done: int = 0) -> None:
        pass

    def advance(self, num_bytes: int = 0) -> None:
        pass


class _Pace:
    """How far a stage has come, how fast it reads, and how long the rest will take."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self.name, self.total, self.done = name, total, done
        self._at_start = done
        self._num_bytes = 0
        self._begun = self._last = time.monotonic()

    def advance(self, num_bytes: int) -> None:
        self.done += 1
        self._num_bytes += num_bytes
        self._last = time.monotonic()

    def rate(self) -> str:
        seconds = self._last - self._begun
        return f"{self._num_bytes / seconds / 1e9:.2f} GB/s" if self._num_bytes and seconds else ""

    def left(self) -> str:
        """Return the time left, or nothing where it is not known.

        Blocks that run side by side finish together, wave by wave. So the mean is over the time up
        to the last one that finished, and the time since then is on account of the next.
        """
        finished = self.done - self._at_start
        if not finished or self.done >= self.total:
            return ""
        mean = (self._last - self._begun) / finished
        seconds = mean * (self.total - self.done) - (time.monotonic() - self._last)
        return f"{timedelta(seconds=round(seconds))} left" if seconds > 0 else ""

    def numbers(self) -> str:
        parts = (f"{self.done:,} of {self.total:,} blocks", self.rate(), self.left())
        return ", ".join(filter(None, parts))


class _PaceColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        pace: _Pace = task.fields["pace"]
        return Text(f"{pace.rate():>10} {pace.left():>12}")


class BarProgress:
    """One bar for each stage: blocks done of all, GB/s, time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("blocks"),
            TimeElapsedColumn(),
            _PaceColumn(),
            console=console,
        )
        self._task: TaskID | None = None
        self._pace: _Pace | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self._pace = _Pace(name, total, done)
        described = printable(name)
        self._task = self._bars.add_task(described, total=total, completed=done, pace=self._pace)

    def advance(self, num_bytes: int = 0) -> None:
        assert self._task is not None
        assert self._pace is not None
        self._pace.advance(num_bytes)
        self._bars.update(self._task, advance=1)


class _Clock:
    """Calls a function every so many seconds, from a thread, until it is stopped."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._seconds, self._function = seconds, function
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="labelqc-progress")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._function()


class LineProgress:
    """A plain line at the beginning of a stage, every `seconds`, and at its end.

    They come even when no block is finished: whoever reads the log sees that the job is alive.
    """

    def __init__(self, stream: TextIO | None = None, seconds: float = 30.0) -> None:
        self._stream = stream
        self._clock = _Clock(seconds, self._say_if_running)
        self._pace = _Pace("", 0, 0)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._clock.stop()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._pace = _Pace(name, total, done)
            self._say()

    def advance(self, num_bytes: int = 0) -> None:
        with self._lock:
            self._pace.advance(num_bytes)
            if self._pace.done == self._pace.total:
                self._say()

    def _say_if_running(self) -> None:
        with self._lock:
            if self._pace.done < self._pace.total:
                self._say()

    def _say(self) -> None:
        line = f"{printable(self._pace.name)}: {self._pace.numbers()}"
        print(line, file=self._stream or sys.stderr, flush=True)


class WidgetProgress:
    """One widget in a notebook, with a bar for each stage; needs ipywidgets.

    Rich can show its bars in notebooks too, but leaves out what happens last.
    """

    def __init__(self, seconds: float = 0.5) -> None:
        self._widgets: Any = import_module("ipywidgets")
        self._box = self._widgets.VBox()
        self._clock = _Clock(seconds, self._show)
        self._rows: list[tuple[_Pace, Any, Any]] = []

    def __enter__(self) -> Self:
        import_module("IPython.display").display(self._box)
        self._clock.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clock.stop()
        self._show()
        if error is not None and self._rows:
            self._rows[-1][1].bar_style = "danger"

    def stage(self, name: str, total: int, done: int = 0) -> None:
        widgets = self._widgets
        bar = widgets.IntProgress(value=done, max=total, description=name)
        text = widgets.Label()
        self._rows.append((_Pace(name, total, done), bar, text))
        self._box.children = (*self._box.children, widgets.HBox([bar, text]))
        self._show()

    def advance(self, num_bytes: int = 0) -> None:
        pace, bar, _ = self._rows[-1]
        pace.advance(num_bytes)
        if pace.done == pace.total:
            bar.bar_style = "success"
            self._show()

    def _show(self) -> None:
        for pace, bar, text in self._rows[-1:]:
            bar.value, text.value = pace.done, pace.numbers()


class LateProgress:
    """Shows a progress once some seconds have passed: what is over by then needs none.

    Parameters
    ----------
    make
        Makes what is shown.
    seconds
        How late.
    """

    def __init__(self, make: Callable[[], Progress], seconds: float = 2.0) -> None:
        self._make: Callable[[], Progress] | None = make
        self._shown: Progress | None = None
        self._stage: tuple[str, int, int] | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._make = None
            if self._shown is not None:
                self._shown.__exit__(kind, error, traceback)
        self._timer.cancel()
        self._timer.join()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._stage = (name, total, done)
            if self._shown is not None:
                self._shown.stage(name, total, done)

    def advance(self, num_bytes: int = 0) -> None:
        with self._lock:
            assert self._stage is not None
            name, total, done = self._stage
            self._stage = (name, total, done + 1)
            if self._shown is not None:
                self._shown.advance(num_bytes)

    def _show(self) -> None:
        with self._lock:
            if self._make is None:
                return
            self._shown = self._make().__enter__()
            if self._stage is not None:
                self._shown.stage(*self._stage)


def progress_for(verbose: bool, console: Console | None = None) -> Progress:
    """Return the progress that suits where the output goes; nothing unless `verbose`."""
    if not verbose:
        return NoProgress()
    console = console or Console(stderr=True)
    if console.is_jupyter:
        if find_spec("ipywidgets"):
            return WidgetProgress()
        sys.stderr.write('progress bars need ipywidgets: pip install "dask-labelqc[notebook]"\n')
        return LineProgress()
    return BarProgress(console) if console.is_terminal else LineProgress()
