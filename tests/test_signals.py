"""Ctrl-C and SIGTERM end the command: soon, in one line, and nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.clusters import processes, wait_for
from tests.forks import BIN, Fork, run
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.pipeline.others import make, make_boxes, write_boxes
from tests.strategies import make_case

CASE = make_case(120, (6, 8, 12), 4)
LINE = "stopped; the same command with --resume goes on\n"
SECONDS = 30
"""Until it must have ended; far more than it takes, for machines that are busy."""
MODES = ["local", "threads", "scheduler"]
PIPE = "c/3/0/0/0"


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """One of the chunks is a pipe into which nobody writes: who reads it never comes back."""
    stored = write_case(tmp_path / "in", CASE)
    chunk = stored.pred_probs / PIPE
    chunk.rename(tmp_path / "kept")
    os.mkfifo(chunk)
    return stored


def mend(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "kept").rename(stored.pred_probs / PIPE)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """Where the command runs its tasks."""
    if request.param == "scheduler":
        with processes(tmp_path / "cluster") as cluster:
            cluster.add_workers(1)
            yield ["--scheduler", cluster.address]
    else:
        yield ["--workers", "1" if request.param == "local" else "0"]


class Command:
    """A command in a process group of its own, as a terminal has it.

    It is `fresh` where its start matters, or what it starts.
    """

    def __init__(self, command: list[Any], folder: Path, *, fresh: bool = True) -> None:
        self.log = folder / "log"
        self.process: Fork | subprocess.Popen[bytes]
        if not fresh:
            self.process = Fork(*command, out=self.log, session=True)
        else:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [str(part) for part in command], stdout=log, stderr=log, start_new_session=True
                )
        self.started: list[psutil.Process] = []

    def text(self) -> str:
        return self.log.read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_for(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, self.text()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int, *, alone: bool = False) -> int:
        """Send the signal, wait, and return the status; what is left over is an error."""
        started = self.children()
        (os.kill if alone else os.killpg)(self.process.pid, number)
        begun = time.monotonic()
        try:
            status = self.process.wait(SECONDS)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        print(f"ended after {time.monotonic() - begun:.2f} s")
        _, left = psutil.wait_procs(started, SECONDS)
        assert not left
        return status


def audit_command(stored: Stored, output: Path, *options: str) -> list[Any]:
    return [BIN / "dask", "labelqc", "audit", *stored, output, *options]


@pytest.mark.parametrize(("number", "alone"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_while_blocks_are_read(
    number: signal.Signals, alone: bool, mode: list[str], stored: Stored, tmp_path: Path
) -> None:
    """One of them never comes, whatever is asked of who waits for it."""
    output = tmp_path / "out"
    fresh = mode == ["--workers", "1"]
    command = Command(audit_command(stored, output, "--quiet", *mode), tmp_path, fresh=fresh)
    with reading(stored.pred_probs / PIPE, command):
        assert command.end(number, alone=alone) == 128 + number
    assert command.text() == LINE
    mend(stored, tmp_path)
    again = audit_command(stored, output, "--quiet", "--resume", "--workers", "0")
    assert run(*again).status == 0
    check(output, CASE)


@pytest.mark.parametrize(
    ("kind", "chunk"), [("examples", "pred_probs/c/3/0"), ("boxes", "given_crowd/c/0")]
)
def test_while_others_are_read(kind: str, chunk: str, tmp_path: Path) -> None:
    """Jobs on examples and on boxes end as those on images do."""
    output, pipe, name = tmp_path / "out", tmp_path / "in" / chunk, "audit"
    if kind == "boxes":
        boxes, name = make_boxes(0), "audit-boxes"
        # The one column of which chunks may be missing, as a pipe seems to be.
        boxes["given_crowd"] = ("given_box", np.arange(boxes.sizes["given_box"]) == 0)
        dataset = write_boxes(tmp_path / "in", boxes)
    else:
        dataset = make(kind, tmp_path / "in")
    call = [BIN / "dask", "labelqc", name, *dataset.places, output, "--quiet", "--workers", "0"]
    pipe.rename(tmp_path / "kept")
    os.mkfifo(pipe)
    command = Command(call, tmp_path, fresh=False)
    with reading(pipe, command):
        assert command.end(signal.SIGINT) == 130
    assert command.text() == LINE
    (tmp_path / "kept").rename(pipe)
    assert run(*call, "--resume").status == 0
    dataset.check(output)


@contextmanager
def reading(pipe: Path, command: Command) -> Iterator[None]:
    """Wait until a task reads from the pipe, and let it wait."""
    opened: list[int] = []

    def is_read() -> bool:
        try:
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads
            return False
        return True

    command.wait_until(is_read)
    try:
        yield
    finally:
        os.close(opened[0])


@pytest.mark.parametrize(
    ("program", "number"),
    [(["dask", "labelqc"], signal.SIGINT), (["dask-labelqc"], signal.SIGTERM)],
)
def test_while_it_imports(
    program: list[str], number: signal.Signals, stored: Stored, tmp_path: Path
) -> None:
    arguments = ["audit", *stored, tmp_path / "out", "--storage-option", "region=a", "--quiet"]
    command = Command([BIN / program[0], *program[1:], *arguments], tmp_path)
    command.wait_until(lambda: is_ready(command.process.pid))
    assert command.end(number) == 128 + number
    assert command.text() == LINE
    assert not (tmp_path / "out").exists()


def is_ready(pid: int) -> bool:
    """Say if a process has a handler for SIGTERM; every Python has one for SIGINT."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(mask >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    ("count", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM), (3, signal.SIGINT)]
)
def test_while_the_cluster_starts(
    count: int, number: signal.Signals, stored: Stored, tmp_path: Path
) -> None:
    """Its processes have imported nothing yet, some of them, and print no traceback either."""
    options = ["--quiet", "--workers", "2"]
    command = Command(audit_command(stored, tmp_path / "out", *options), tmp_path)
    command.wait_until(lambda: len(command.children()) >= count)
    assert command.end(number) == 128 + number
    assert command.text() == LINE
    assert not (tmp_path / "out").exists()


PAINTING = """
import sys, time
from pathlib import Path
from dask_labelqc import cli
from dask_labelqc.pipeline import stages

marker = Path(sys.argv.pop(1))

def paint_for_ever(*arguments):
    marker.touch()
    while True:
        time.sleep(0.01)

stages.paint_groups = paint_for_ever
cli.main()
"""


def test_while_it_paints(stored: Stored, tmp_path: Path) -> None:
    mend(stored, tmp_path)
    marker, output = tmp_path / "marker", tmp_path / "out"
    arguments = ["audit", *stored, output, "--workers", "0"]
    painting = [sys.executable, "-c", PAINTING, marker, *arguments]
    command = Command(painting, tmp_path, fresh=False)
    command.wait_until(marker.exists)
    assert command.end(signal.SIGINT) == 130
    assert command.text().endswith(f"paint: 0 of 1 blocks\n{LINE}")
    audit(stored, output, resume=True, group_bytes=320 * 2**20)
    check(output, CASE)


def test_a_signal_that_is_ignored_stays_so(stored: Stored, tmp_path: Path) -> None:
    """As shells have it for what runs in the background."""
    shell = 'trap "" INT; exec "$@"'
    output = tmp_path / "out"
    command = audit_command(stored, output, "--quiet", "--workers", "0")
    running = Command(["sh", "-c", shell, "sh", *command], tmp_path)
    with reading(stored.pred_probs / PIPE, running):
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.end(signal.SIGTERM) == 143
    assert running.text() == LINE


IN_PYTHON = """
import sys
from dask_labelqc import audit_zarr
from dask_labelqc.cluster import open_local

if __name__ == "__main__":
    labels, pred_probs, output = sys.argv[1:4]
    try:
        if sys.argv[4] == "local":
            with open_local(1) as client:
                audit_zarr(labels, pred_probs, output, client=client, group_bytes=1, progress=False)
        else:
            audit_zarr(labels, pred_probs, output, n_jobs=2, group_bytes=1, progress=False)
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("where", ["local", "threads"])
def test_in_python_it_is_an_exception_like_any_other(where: str, tmp_path: Path) -> None:
    case = make_case(121, (3000, 4, 6), 3)
    stored, output = write_case(tmp_path / "in", case, chunks=(1, 3, 4, 6)), tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(IN_PYTHON)
    python = [sys.executable, script, *stored, output, where]
    command = Command(python, tmp_path, fresh=where == "local")
    records = output / "checkpoint/summaries/c"
    command.wait_until(lambda: records.exists() and any(records.iterdir()))
    assert command.end(signal.SIGINT) == 0
    assert command.text() == "interrupted\n"
    had = files(output)
    assert not any("lease" in name for name in had)
