"""What a command shows while it runs and when it ends: real commands, in real terminals."""

from __future__ import annotations

import os
import pty
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.clusters import processes
from tests.commands import run, table
from tests.forks import BIN, Fork
from tests.pipeline.damage import broken, mend
from tests.pipeline.datasets import Stored, check, write_case
from tests.strategies import make_case

CASE = make_case(100, (6, 8, 12), 4)
LINE = r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=[A-Z]+ "

SMALL_GROUPS = """
from dask_labelqc import plan as blocks
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.cli import main

blocks.BLOCK_BYTES = 1
audit_zarr.__kwdefaults__["group_bytes"] = 1
main()
"""
"""The command line, with each storage chunk a group of its own."""


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE, chunks=(2, 2, 8, 6))


def in_terminal(*command: Any, columns: int = 100) -> tuple[int, str]:
    """Run a command in a terminal of its own; return its status and all that it wrote."""
    ours, theirs = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = Fork(BIN / command[0], *command[1:], out=os.ttyname(theirs), **settings)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass  # what reading from a closed terminal ends with
    os.close(ours)
    return process.wait(60), shown.decode()


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after all that was written to it.

    Of what a terminal can do, this knows what the bars use: to go to the start of the line, up,
    and to erase a line.
    """
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b["):
            count = int(part[2:-1]) if part[2:-1].isdigit() else 1
            if part.endswith("A"):
                row -= count
            elif part.endswith("K"):
                lines[row] = ""
            else:
                assert part[-1] in "mhl", f"unknown to this terminal: {part!r}"
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def test_a_bar_in_a_terminal(stored: Stored, tmp_path: Path) -> None:
    status, written = in_terminal(
        "dask", "labelqc", "audit", *stored, tmp_path / "out", "--workers=0"
    )
    assert status == 0
    text = "\n".join(screen(written))
    assert re.search(r"^summarize +━+ 1/1 blocks 0:00:\d\d +\d\.\d\d GB/s$", text, re.MULTILINE)
    assert re.search(r"^paint +━+ 1/1 blocks 0:00:\d\d$", text, re.MULTILINE)
    assert "label issues" in text


def test_log_lines_do_not_tear_the_bar(stored: Stored, tmp_path: Path) -> None:
    """They stand above it, one line each however long, and the bars are shown once."""
    command = ("dask", "labelqc", "audit", *stored, tmp_path / "out", "--workers=0")
    status, written = in_terminal(*command, "--log-level", "debug", columns=80)
    assert status == 0
    lines = screen(written)
    stages = [line.split()[0] for line in lines if "━" in line]
    assert stages[0] == "summarize"
    assert stages[-1] == "paint"
    assert stages.count("summarize") == stages.count("count") == stages.count("paint") == 1
    logged = [line for line in lines if "level=" in line]
    assert len(logged) == len(re.findall("level=", written))
    assert all(re.match(LINE, line) and "━" not in line for line in logged)
    (block,) = [line for line in logged if "stage=summarize block=" in line]
    assert block.endswith("attempts=1 error=None")


def values(line: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in line.split(" "))


def test_log_lines(stored: Stored, tmp_path: Path) -> None:
    command = ("dask", "labelqc", "audit", *stored, tmp_path / "out", "--workers=1")
    ran = run(*command, "--log-level=debug", "--quiet")
    assert ran.status == 0
    lines = ran.err.splitlines()
    assert all(re.match(LINE, line) for line in lines), "only the package's own log"
    found = [values(line) for line in lines]
    block = next(line for line in found if line["stage"] == "summarize")
    assert block["level"] == "DEBUG"
    assert (block["block"], block["images"]) == ("0", "0-5")
    assert float(block["seconds"]) > 0
    assert int(block["bytes"]) == CASE.pred_probs.nbytes
    assert block["worker"].startswith("tcp://")
    stages = [line["stage"] for line in found if line["level"] == "INFO"]
    assert stages[:2] == ["summarize", "count"]
    assert stages[-1] == "paint"

    ran = run(*command, "--overwrite", "--log-level=info", "--quiet")
    assert {values(line)["level"] for line in ran.err.splitlines()} == {"INFO"}
    assert run(*command, "--overwrite", "--quiet").err == ""


def test_the_summary(stored: Stored, tmp_path: Path) -> None:
    ran = run("dask", "labelqc", "audit", *stored, tmp_path / "out", "--workers=1")
    assert ran.status == 0
    shown = table(ran.out)
    assert shown["images"] == "6"
    assert shown["pixels"] == "576"
    assert re.fullmatch(r"[\d.]+ kiB, 0\.\d\d GB/s", shown["predictions read"])
    number = r"\d+\.\d"
    stages = rf"{number}: summarize {number}, count {number}, (select {number}, )?paint {number}"
    assert re.fullmatch(stages, shown["seconds"])
    assert re.fullmatch(r"\d+% of the time of the tasks that read", shown["waited for data"])
    amount, unit = shown["peak of a worker"].split()
    assert unit in ("MiB", "GiB")
    assert 50 < float(amount) * (1024 if unit == "GiB" else 1) < 2000
    assert ran.out.count("images") == 2  # and the worst

    again = table(run("dask", "labelqc", "audit", *stored, tmp_path / "out", "--resume").out)
    assert again["groups"] == "1, 1 of them by an earlier run"
    assert "waited for data" not in again


def test_the_dashboard_is_named(stored: Stored, tmp_path: Path) -> None:
    with processes(tmp_path / "cluster") as cluster:
        cluster.add_workers(1)
        command = ("dask", "labelqc", "audit", *stored, tmp_path / "out")
        ran = run(*command, "--scheduler", cluster.address)
        assert ran.status == 0, ran.err
        first = ran.err.splitlines()[0]
        assert re.fullmatch(r"Dask dashboard: http://127\.0\.0\.1:\d+/status", first)
        with urllib.request.urlopen(first.split()[-1], timeout=10) as page:
            assert b"Dask" in page.read()
        quiet = run(*command, "--scheduler", cluster.address, "--overwrite", "--quiet")
        assert (quiet.status, quiet.err) == (0, "")


def test_a_performance_report(stored: Stored, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    command = ("dask", "labelqc", "audit", *stored, tmp_path / "out", "--workers=1", "--quiet")
    ran = run(*command, "--performance-report", report)
    assert (ran.status, ran.err) == (0, "")
    check(tmp_path / "out", CASE)
    text = report.read_text()
    assert "Task Stream" in text
    assert "number of tasks" in text


def test_a_performance_report_that_cannot_be(stored: Stored, tmp_path: Path) -> None:
    """One clear error, before any work."""
    command = ("dask", "labelqc", "audit", *stored, tmp_path / "out", "--quiet")
    ran = run(*command, "--workers=0", "--performance-report", "report.html")
    assert ran.status == 1
    assert re.fullmatch(
        r"Error: --performance-report: 'report\.html' .*; --workers 1 or more .*\n", ran.err
    )
    there = tmp_path / "no such folder" / "report.html"
    ran = run(*command, "--workers=1", "--performance-report", there)
    assert ran.status == 1
    assert re.fullmatch(rf"Error: --performance-report: '{there}' cannot be written: .*\n", ran.err)
    assert not (tmp_path / "out").exists()


def test_images_that_were_left_out(tmp_path: Path) -> None:
    """The rest is done, the summary names them and why, and the status is that of a part."""
    case = make_case(112, (12, 4, 6), 3)
    stored, chunk = broken(tmp_path / "in", case, 7, chunks=(1, 3, 4, 6))
    command = (sys.executable, "-c", SMALL_GROUPS, "audit", *stored, tmp_path / "out")
    command += ("--workers=0", "--quiet")
    stopped = run(*command)
    assert stopped.status == 1
    assert "--resume goes on from here" in stopped.err
    ran = run(*command, "--resume", "--keep-going")
    assert ran.status == 3
    shown = table(ran.out)
    assert xr.open_zarr(tmp_path / "out").attrs["not_audited"] == [7]
    assert list(shown)[-2:] == ["not audited", "7"]
    assert shown["not audited"] == "1 image"
    assert re.match("summarize: image 7 failed 3 times: OSError: ", shown["7"])
    assert shown["groups"] == "12, 11 of them by an earlier run"
    mend(chunk)
    ran = run(*command, "--resume", "--keep-going")
    assert ran.status == 0
    assert "not audited" not in ran.out
    assert np.isfinite(check(tmp_path / "out", case).image_score).all()
