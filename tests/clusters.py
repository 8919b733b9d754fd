"""Clusters to run jobs on: real schedulers and workers, which can be killed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, LocalCluster

from tests.forks import BIN, Fork, ensure_server


class Processes:
    """What `dask scheduler` and `dask worker` start; the options are the scheduler's."""

    def __init__(self, path: Path, *options: str, **environment: str) -> None:
        self.path = path
        self.workers: list[Fork | subprocess.Popen[bytes]] = []
        self._options, self._environment, self._number = options, environment, 0
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self._number += 1
        self.file = self.path / f"scheduler-{self._number}.json"
        common = ("--dashboard-address", ":0", "--scheduler-file", self.file)
        where = ("--host", "127.0.0.1", "--port", "0")
        command = (BIN / "dask", "scheduler", *where, *common, *self._options)
        self.scheduler = Fork(*command, out=self._log(), session=True, **self._environment)
        wait_for(self._is_up)
        self.address = str(json.loads(self.file.read_text())["address"])

    def _is_up(self) -> bool:
        assert self.scheduler.poll() is None, self.logs()
        return self.file.exists() and self.file.read_text().rstrip().endswith("}")

    def client(self) -> Client:
        finish_garbage()
        return Client(scheduler_file=str(self.file), set_as_default=False)

    def add_workers(
        self,
        count: int = 1,
        *options: str,
        nanny: bool = False,
        wait: bool = True,
        **environment: str,
    ) -> None:
        """Start workers, and wait until they have joined."""
        for _ in range(count):
            command = self._worker(*options, nanny=nanny)
            out = self._log()
            worker = Fork(BIN / "dask", "worker", *command, out=out, session=True, **environment)
            self.workers.append(worker)
        if wait:
            with self.client() as client:
                client.wait_for_workers(count, timeout=120)

    def add_worker_of(self, python: Path, code: str = "", **environment: str) -> None:
        """Start a worker, or code that does, in another environment; do not wait for it."""
        module = ["-m", "distributed.cli.dask_worker", *self._worker()]
        command = [python, *(["-c", code, self.address] if code else module)]
        with self._log().open("wb") as log:
            self.workers.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env=os.environ | environment,
                    start_new_session=True,
                )
            )

    def _worker(self, *options: str, nanny: bool = False) -> list[Any]:
        common = ("--nthreads", "1", "--no-dashboard", "--local-directory", self.path)
        kind = "--nanny" if nanny else "--no-nanny"
        return ["--scheduler-file", self.file, *common, kind, *options]

    def _log(self) -> Path:
        self._number += 1
        return self.path / f"log-{self._number}"

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.path.glob("log-*")))

    def signal_workers(self, number: signal.Signals) -> None:
        for worker in self.workers:
            worker.send_signal(number)
        for worker in self.workers:
            worker.wait(120)
        self.workers = []

    def kill_scheduler(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def processes(path: Path, *options: str, **environment: str) -> Iterator[Processes]:
    path.mkdir()
    started = Processes(path, *options, **environment)
    try:
        yield started
    finally:
        started.close()


def finish_garbage() -> None:
    """Let clusters that were dropped close here.

    In the thread of a new event loop they would wait for that loop itself, and it would not start.
    """
    gc.collect()


@contextmanager
def forking() -> Iterator[None]:
    """Let Dask start the processes of this machine as forks, which takes no time."""
    ensure_server()
    settings = ("distributed.worker.multiprocessing-method", "multiprocessing.context")
    with dask.config.set(dict.fromkeys(settings, "forkserver")):
        yield


@contextmanager
def local_cluster(
    workers: int = 1,
    *,
    threads: int = 1,
    processes: bool = True,
    fresh: bool = False,
    default: bool = False,
    **options: Any,
) -> Iterator[Client]:
    """Start workers of this process, its children or threads of its own.

    The children are forks, unless `fresh`: then all their memory is their own. Tests that follow
    in this process run on it only if they are to, by `default`.
    """
    finish_garbage()
    if processes:
        options = {"env": dict(os.environ)} | options  # what forks have is that of the server
    with (
        forking() if processes and not fresh else nullcontext(),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=processes,
            dashboard_address=":0",
            **options,
        ) as cluster,
        Client(cluster, set_as_default=default) as client,
    ):
        yield client


def is_busy(client: Client) -> bool:
    """Say if a worker runs a task, wanted or not."""

    def executing(dask_worker: Any) -> int:
        return int(dask_worker.state.executing_count)

    return any(client.run(executing).values())


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
