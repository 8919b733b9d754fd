"""One job at a time on an output: a note in it that the job renews for as long as it lives."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import zarr
from zarr.errors import NodeNotFoundError

from dask_labelqc.errors import OutputError
from dask_labelqc.pipeline.groups import CHECKPOINT

__all__ = ["Lease", "hold", "wait_until_free"]

LEASE = f"{CHECKPOINT}/lease"
BEAT = 5.0
"""Seconds between two renewals."""
MISSED = 3
"""Renewals that fail to come until a job on another machine is taken for dead."""

log = logging.getLogger(__name__)


def wait_until_free(output: zarr.Group, url: str) -> None:
    """Return once no job holds the output.

    A job of this machine is alive if its process is. One of another machine is watched until it
    renews its note, or has missed `MISSED` renewals; clocks are not compared.

    Raises
    ------
    OutputError
        A job that is alive holds it.
    """
    holder = _read(output)
    if holder is None:
        return
    if holder.get("host") == socket.gethostname():
        if _is_alive(holder):
            raise _held(url, holder)
        return
    log.info("output: %s is held by %s; is it alive?", url, _name(holder))
    deadline = time.monotonic() + MISSED * BEAT
    while time.monotonic() < deadline:
        time.sleep(BEAT / 5)
        now = _read(output)
        if now is None:
            return
        if now != holder:
            raise _held(url, now)


@contextmanager
def hold(output: zarr.Group, url: str) -> Iterator[Lease]:
    """Hold the output as long as the context lasts."""
    lease = Lease(output, url)
    try:
        yield lease
    finally:
        lease.end()
        if LEASE in output and not lease.lost:
            del output[LEASE]


class Lease:
    """Renewed by a thread, until `end`.

    Attributes
    ----------
    lost
        Another job has put its own note in the place of this one.
    """

    def __init__(self, output: zarr.Group, url: str) -> None:
        self._output, self._url = output, url
        self._note: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
        }
        self.lost = False
        self._ended = threading.Event()
        self._group = output.create_group(LEASE, overwrite=True, attributes=self._note)
        self._thread = threading.Thread(target=self._renew, daemon=True, name="labelqc-lease")
        self._thread.start()

    def check(self) -> None:
        """Raise OutputError if another job has taken the output over."""
        if self.lost:
            raise OutputError(f"output: {self._url!r} was taken over by another job; this one ends")

    def end(self) -> None:
        """Stop to renew."""
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT):
            beat += 1
            try:
                found = _read(self._output)
                self.lost = found is not None and found.get("id") != self._note["id"]
                if self.lost:
                    return
                self._group.attrs.put(self._note | {"beat": beat})
            except Exception as error:  # whatever the store raises: the next one may get through
                log.warning("output: the note that %s is in use: %s", self._url, error)


def _read(output: zarr.Group) -> dict[str, Any] | None:
    """Return the note, None if there is no whole one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = output[LEASE]
        except (KeyError, NodeNotFoundError, ValueError):
            return None
    return dict(found.attrs) or None


def _is_alive(holder: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(holder["pid"]))
        same = process.create_time() == holder["started"]
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')}"


def _held(url: str, holder: dict[str, Any]) -> OutputError:
    return OutputError(
        f"output: {url!r} is being written by another job ({_name(holder)}); wait until it has "
        "ended, or name another output"
    )
