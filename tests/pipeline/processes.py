"""A scheduler and workers, each a process of its own that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from tests.pipeline.killing import ROOT

DASK = Path(sys.executable).with_name("dask")


class Processes:
    """What `dask scheduler` and `dask worker` start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workers: list[subprocess.Popen] = []
        self._number = 0
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self._number += 1
        file = self.path / f"scheduler-{self._number}.json"
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--dashboard-address", ":0", "--scheduler-file", file
        )
        wait_for(file.exists)
        self._file = file
        with self.client() as client:
            self.address = client.scheduler.address

    def client(self) -> Client:
        return Client(scheduler_file=str(self._file), set_as_default=False)

    def add_workers(self, count: int, *options: str, nanny: bool = False) -> None:
        for _ in range(count):
            self.workers.append(
                self._start(
                    "worker",
                    self.address,
                    *("--nthreads", "1", "--no-dashboard", "--local-directory", self.path),
                    "--nanny" if nanny else "--no-nanny",
                    *options,
                )
            )
        with self.client() as client:
            client.wait_for_workers(count, timeout=60)

    def _start(self, *command: str | Path) -> subprocess.Popen:
        self._number += 1
        log = (self.path / f"log-{self._number}").open("wb")
        with log:
            return subprocess.Popen(
                [DASK, *command], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.path.glob("log-*")))

    def signal_workers(self, number: signal.Signals) -> None:
        for worker in self.workers:
            os.kill(worker.pid, number)
        for worker in self.workers:
            worker.wait(30)
        self.workers = []

    def kill_scheduler(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def processes(path: Path) -> Iterator[Processes]:
    path.mkdir()
    started = Processes(path)
    try:
        yield started
    finally:
        started.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
