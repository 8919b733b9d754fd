"""A hub, started from the files in deploy/jupyterhub as they stand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "jupyterhub" / "jupyterhub_config.py"
PASSWORD = "open sesame"
PORTS = 4
START_SECONDS = 60
STOP_SECONDS = 40


@dataclass
class Hub:
    """A running hub.

    Attributes
    ----------
    url
        Of its pages.
    process
        The hub; everything it runs descends from it.
    folder
        Of its files.
    log
        What it and its services say.
    """

    url: str
    process: psutil.Popen
    folder: Path
    log: Path

    def descendants(self) -> list[psutil.Process]:
        return self.process.children(recursive=True)

    def stop(self) -> list[psutil.Process]:
        """Stop it as a service manager does; return the processes that outlive it."""
        started = self.descendants()
        self.process.send_signal(signal.SIGTERM)
        with suppress(psutil.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        left = psutil.wait_procs([self.process, *started], timeout=5)[1]
        for process in left:
            process.kill()
        return left


@contextmanager
def running_hub(folder: Path, settings: Mapping[str, str]) -> Iterator[Hub]:
    """Start a hub that keeps its files in `folder`, with settings for its environment; stop it."""
    port = free_ports(PORTS)
    ours = {
        "LABELQC_HUB_FOLDER": str(folder),
        "LABELQC_HUB_PORT": str(port),
        "LABELQC_HUB_PASSWORD": PASSWORD,
    }
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, "-m", "jupyterhub", "--config", str(CONFIG)],
            env=os.environ | ours | dict(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    hub = Hub(f"http://127.0.0.1:{port}", process, folder, log)
    try:
        for path in ("/hub/health", "/services/dask-gateway/api/health"):
            wait_for_answer(hub.url + path, lambda: process.poll() is None)
        yield hub
    except BaseException:
        print(log.read_text())
        raise
    finally:
        if process.poll() is None:
            left = hub.stop()
            assert not left, f"outlive the hub: {left}"


def wait_for_answer(url: str, is_running: Callable[[], bool]) -> None:
    """Wait until a server says that all is well."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(requests.ConnectionError):
            if requests.get(url, timeout=5).ok:
                return
        assert is_running(), f"it ended before it answered at {url}"
        assert time.monotonic() < deadline, f"no answer from {url} in {START_SECONDS} s"
        time.sleep(0.3)


def free_ports(count: int) -> int:
    """Return the first of so many free ports in a row."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        if first + count < 2**16 and all(_is_free(first + i) for i in range(count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
