"""End the command on Ctrl-C and SIGTERM: within seconds, in one line, with nothing left running.

A job may die at any moment and go on from its records, so the end need not be a tidy one. It is
given a moment to hand its output back, and then the process ends with all that it has started.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

__all__ = ["end_on_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS = 3.0
"""For the job to give its output back; then the process ends whatever it is doing."""
SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"
"""What a bar that was cut short leaves to be done."""
TRACKER = "multiprocessing.resource_tracker"


@contextmanager
def end_on_signals(line: Callable[[], str]) -> Iterator[None]:
    """End the process on SIGINT or SIGTERM with this line and the status 128 + signal.

    In the block the signal is a KeyboardInterrupt; what is left when that has left the block, or
    after `SECONDS`, is killed. A signal that was ignored stays so (``nohup``, jobs of a script in
    the background). In other threads than the main one, which get no signals, nothing is done.
    """
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not heard:
        yield
        return
    end = _End(line)
    had = {number: signal.signal(number, end.heard) for number in heard}
    had_pipe = signal.set_wakeup_fd(end.pipe, warn_on_full_buffer=False)
    try:
        with _quiet_tracker():
            yield
    finally:
        if end.number is not None:  # whatever the interrupt has become on its way
            end.now()
        signal.set_wakeup_fd(had_pipe)
        for number, handler in had.items():
            signal.signal(number, handler)
        end.close()


class _End:
    """Waits in a thread for a signal, and ends the process some time after.

    The thread is told by the interpreter's own handler, at once, even if the main thread is deep in
    native code or at a lock and hears of it later or never.
    """

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line
        self.number: int | None = None
        self._once = threading.Lock()
        self._ear, self.pipe = os.pipe()
        os.set_blocking(self.pipe, False)
        self._thread = threading.Thread(target=self._wait, daemon=True, name="labelqc-signals")
        self._thread.start()

    def heard(self, number: int, frame: object) -> None:
        if self.number is None:  # the second Ctrl-C of somebody impatient changes nothing
            self.number = number
            _be_quiet()
            raise KeyboardInterrupt

    def _wait(self) -> None:
        while told := os.read(self._ear, 1):
            if told[0] in SIGNALS:
                time.sleep(SECONDS)
                self.number = told[0]
                self.now()

    def close(self) -> None:
        os.close(self.pipe)
        self._thread.join()
        os.close(self._ear)

    def now(self) -> NoReturn:
        """End the process, and before it those that it has started."""
        with self._once:
            with suppress(Exception):
                _kill_children()
            if sys.stderr.isatty():
                os.write(2, SHOW_CURSOR)
            os.write(2, f"{self._line()}\n".encode())
            assert self.number is not None
            os._exit(128 + self.number)


def _be_quiet() -> None:
    """From here on, what breaks off says so to nobody."""
    logging.disable()
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None


def _kill_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if TRACKER not in " ".join(child.cmdline()):  # which tidies up when all have gone
                child.kill()


@contextmanager
def _quiet_tracker() -> Iterator[None]:
    """Let Python's tracker of semaphores remove what is left without a word; it reads this."""
    had = os.environ.get("PYTHONWARNINGS")
    mine = f"ignore::UserWarning:{TRACKER}"
    os.environ["PYTHONWARNINGS"] = f"{had},{mine}" if had else mine
    try:
        yield
    finally:
        if had is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = had
