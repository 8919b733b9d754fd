"""One job at a time on an output."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import zarr

from dask_labelqc.errors import OutputError
from dask_labelqc.pipeline import lease
from dask_labelqc.progress import NoProgress
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.pipeline.processes import wait_for
from tests.pipeline.test_faults import At, start
from tests.pipeline.test_kill import count_records, kill_all, paths
from tests.strategies import make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")
CASE = make_case(120, (40, 4, 6), 3)
AGAIN = [{"resume": True}, {"overwrite": True}]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)


@pytest.mark.parametrize("again", AGAIN)
def test_the_second_of_two_jobs_is_refused(again: dict, stored: Stored, tmp_path: Path) -> None:
    output = tmp_path / "out"
    message = rf"out' is being written by another job \(process {os.getpid()} on "

    def second() -> None:
        with pytest.raises(OutputError, match=message):
            audit(stored, output, **again)

    asked = At(9, second)
    audit(stored, output, progress=asked)
    assert asked.count < 0
    check(output, CASE)
    audit(stored, output, **again)


def test_a_job_of_another_process(stored: Stored, tmp_path: Path) -> None:
    """Refused while the other lives, and not after it was killed."""
    output = tmp_path / "out"
    with start({**paths(stored), "output": str(output)}) as process:
        wait_for(lambda: count_records(output) > 5)
        with pytest.raises(OutputError, match="being written by another job"):
            audit(stored, output, resume=True)
        kill_all(process)
    audit(stored, output, resume=True)
    check(output, CASE)


def half_done(stored: Stored, output: Path, **note: Any) -> zarr.Group:
    """An output that a job has left with a note that it is alive."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(stored, output, progress=At(9, interrupt))
    group = zarr.open_group(output, mode="r+")
    assert lease.LEASE not in group  # a job that ends in order takes it away
    mine = {"id": "x", "host": socket.gethostname(), "pid": os.getpid(), "beat": 0}
    mine["started"] = psutil.Process().create_time()
    return group.create_group(lease.LEASE, attributes=mine | note)


@pytest.mark.parametrize(
    "note", [{"pid": 2**22 + 1}, {"started": 0.0}, {"pid": None}], ids=["gone", "another", "odd"]
)
def test_a_process_that_is_no_more(note: dict, stored: Stored, tmp_path: Path) -> None:
    half_done(stored, tmp_path / "out", **note)
    audit(stored, tmp_path / "out", resume=True)
    check(tmp_path / "out", CASE)


def test_a_job_of_another_machine_that_died(fast: None, stored: Stored, tmp_path: Path) -> None:
    half_done(stored, tmp_path / "out", host="elsewhere")
    begun = time.monotonic()
    audit(stored, tmp_path / "out", resume=True)
    assert time.monotonic() - begun >= lease.MISSED * lease.BEAT
    check(tmp_path / "out", CASE)


@pytest.mark.parametrize("again", AGAIN)
def test_a_job_of_another_machine_that_lives(
    again: dict, fast: None, stored: Stored, tmp_path: Path
) -> None:
    note = half_done(stored, tmp_path / "out", host="elsewhere")
    before = files(tmp_path / "out")
    ended = threading.Event()

    def renew() -> None:
        beat = 0
        while not ended.wait(0.05):
            beat += 1
            note.attrs["beat"] = beat

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(OutputError, match=r"another job \(process \d+ on elsewhere\)"):
            audit(stored, tmp_path / "out", **again)
    finally:
        ended.set()
        thread.join()
    after = files(tmp_path / "out")
    note_file = f"{lease.LEASE}/zarr.json"
    assert before.pop(note_file) != after.pop(note_file)
    assert before == after


def test_a_job_that_was_taken_over_ends(fast: None, stored: Stored, tmp_path: Path) -> None:
    output = tmp_path / "out"

    def take_over() -> None:
        zarr.open_group(output, mode="r+")[lease.LEASE].attrs["id"] = "another"
        time.sleep(3 * lease.BEAT)

    with pytest.raises(OutputError, match="was taken over by another job"):
        audit(stored, output, progress=At(9, take_over))
    assert zarr.open_group(output, mode="r")[lease.LEASE].attrs["id"] == "another"


def test_the_note_is_renewed(fast: None, stored: Stored, tmp_path: Path) -> None:
    beats = []

    class Slow(NoProgress):
        def advance(self, num_bytes: int = 0) -> None:
            time.sleep(0.03)
            note = zarr.open_group(tmp_path / "out", mode="r")[lease.LEASE]
            beats.append(note.attrs.get("beat", 0))

    audit(stored, tmp_path / "out", progress=Slow())
    assert beats == sorted(beats)
    assert beats[-1] > 3
