"""The command line, in this process where that will do, and as commands where it matters."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import zarr
from click.testing import CliRunner, Result
from rich.console import Console

import dask_labelqc
from dask_labelqc.cli import labelqc
from dask_labelqc.errors import InputError, LabelQCWarning, advise
from dask_labelqc.logs import show_log
from dask_labelqc.pipeline import JobReport
from tests.clusters import processes
from tests.commands import run, table
from tests.forks import BIN
from tests.pipeline.datasets import Stored, audit, check, files, write, write_case
from tests.strategies import make_case

CASE = make_case(100, (6, 8, 12), 4)


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(labelqc, [str(a) for a in arguments])


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE, chunks=(2, 2, 8, 6))


@pytest.mark.parametrize("command", [(), ("audit",), ("info",), ("demo",)])
def test_help(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert result.output == invoke(*command, "-h").output
    for option in ("--debug",) if command else ("audit", "info", "demo"):
        assert option in result.output


@pytest.mark.parametrize(
    "command",
    [("dask", "labelqc"), ("dask-labelqc",), (sys.executable, "-m", "dask_labelqc")],
    ids=" ".join,
)
def test_version(command: tuple[str, ...]) -> None:
    """The package's own, also behind Dask's command."""
    assert dask_labelqc.__version__ == version("dask-labelqc")
    ran = subprocess.run(
        [BIN / command[0], *command[1:], "--version"], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"dask-labelqc, version {dask_labelqc.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit"],
        ["audit", "dataset"],
        ["audit", "a", "b", "c", "--treshold", "3"],
        ["audit", "a", "b", "c", "--downsample", "two"],
        ["audit", "a", "b", "c", "--validate", "some"],
        ["audit", "a", "b", "c", "--label-downsample", "max"],
        ["audit", "a", "b", "c", "--workers", "-1"],
        ["info"],
        ["demo", "there", "--images", "0"],
        ["inspect"],
    ],
    ids=" ".join,
)
def test_usage(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_info(stored: Stored) -> None:
    of_group = invoke("info", stored.labels.parent)
    of_arrays = invoke("info", *stored)
    assert of_group.exit_code == of_arrays.exit_code == 0
    assert of_group.output == of_arrays.output
    assert invoke("info", f"{stored.labels.parent}/").output == of_group.output
    shown = table(of_group.output)
    assert shown.pop("memory of a worker").endswith("for each of its threads")
    assert shown == {
        "images": "6 of 8 x 12 pixels",
        "classes": "4",
        "pred_probs": "float32, chunks of 2 x 8 x 6 pixels",
        "read at a time": "6 x 8 x 12 pixels",
        "groups": "1 of 6 x 8 x 12 pixels",
        "bytes to read": "9.00 kiB",
    }


def test_info_of_many_groups(tmp_path: Path) -> None:
    import zarr

    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("labels", shape=(10_000, 512, 512), chunks=(1, 512, 512), dtype="u1")
    group.create_array(
        "pred_probs", shape=(10_000, 21, 512, 512), chunks=(1, 21, 512, 512), dtype="f4"
    )
    shown = table(invoke("info", tmp_path).output)
    assert shown["groups"] == "667 of 15 x 512 x 512 pixels"
    assert shown["bytes to read"] == "205.08 GiB"
    assert shown["read at a time"] == "1 x 512 x 512 pixels"


def test_info_of_nothing(tmp_path: Path) -> None:
    result = invoke("info", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: store: there is no Zarr group at '{tmp_path}'; it must be a group with the arrays "
        "labels and pred_probs, or with boxes; two arrays are named as LABELS PRED_PROBS\n"
    )
    stored = write_case(tmp_path, CASE)
    shutil.rmtree(stored.labels)
    assert invoke("info", tmp_path).stderr.startswith("Error: store: there is no labels at '")


def test_info_of_one_array_says_how_two_are_named(stored: Stored) -> None:
    alone = invoke("info", stored.labels)
    assert alone.exit_code == 1
    assert "is a Zarr array; name LABELS and PRED_PROBS, two arrays, or the" in alone.stderr
    assert invoke("info", *stored).exit_code == 0


def test_info_says_nothing_of_names_where_they_are_right(stored: Stored) -> None:
    result = invoke("info", stored.labels.parent, "--downsample=5")
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: --downsample: 5 does not divide .*2, 4\n", result.stderr)
    (stored.labels / "zarr.json").write_text("{")
    damaged = invoke("info", stored.labels.parent)
    assert re.fullmatch("Error: labels: the metadata .* are damaged: .*\n", damaged.stderr)
    assert "LABELS PRED_PROBS" not in damaged.stderr


OPTIONS = {
    "--downsample=2": {"downsample": 2},
    "--label-downsample=majority": {"label_downsample": "majority"},
    "--ignore-index=255 --ignore-index=-1": {"ignore_index": (255, -1)},
    "--temperature=0.5": {"temperature": 0.5},
    "--from-logits": {"from_logits": True},
    "--validate=labels": {"validate": "labels"},
    "--image-dim=image --class-dim=-3": {"image_dim": "image", "class_dim": -3},
    "--write-pixel-scores": {"write_pixel_scores": True},
    "--write-predicted-label": {"write_predicted_label": True},
    "--resume": {"resume": True},
    "--trust-inputs": {"trust_inputs": True},
    "--overwrite": {"overwrite": True},
    "--keep-going": {"keep_going": True},
    "--quiet": {"progress": "NoProgress"},
    "--threads=3": {"n_jobs": 3},
    "--storage-option=region=a --storage-option=timeout=9s": {
        "storage_options": {"region": "a", "timeout": "9s"}
    },
}
DEFAULTS = {
    "downsample": 1,
    "label_downsample": "mean",
    "ignore_index": (),
    "temperature": 0.1,
    "from_logits": False,
    "validate": "full",
    "image_dim": None,
    "class_dim": None,
    "write_pixel_scores": False,
    "write_predicted_label": False,
    "resume": False,
    "trust_inputs": False,
    "overwrite": False,
    "keep_going": False,
    "progress": "LineProgress",
    "client": None,
    "n_jobs": None,
    "storage_options": None,
}


@pytest.mark.parametrize("options", ["", *OPTIONS, " ".join(OPTIONS)])
def test_options_reach_the_job(
    options: str, stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def job(labels: str, pred_probs: str, output: str, **arguments: Any) -> JobReport:
        seen.update(arguments, places=(labels, pred_probs, output))
        took = {"bytes_read": 10**9, "seconds": {"summarize": 1.0}, "num_resumed": 2}
        found = {"num_issues": 7, "worst_images": ((4, 0.25),)}
        return JobReport(output=output, num_images=6, num_pixels=100, num_groups=3, **took, **found)

    monkeypatch.setattr("dask_labelqc.pipeline.audit_zarr", job)
    result = invoke("audit", *stored, tmp_path / "out", "--workers=0", *options.split())
    assert result.exit_code == 0, result.output
    assert seen.pop("places") == (str(stored[0]), str(stored[1]), str(tmp_path / "out"))
    seen["progress"] = type(seen["progress"]).__name__
    chosen = [OPTIONS[o] for o in OPTIONS if o in options]
    assert seen == DEFAULTS | {k: v for option in chosen for k, v in option.items()}
    shown = table(result.stdout)
    assert shown["label issues"] == "7 pixels (7.00%)"
    assert shown["worst images"] == "4 (0.250)"
    assert shown["groups"] == "3, 2 of them by an earlier run"
    assert shown["predictions read"] == "0.93 GiB, 1.00 GB/s"
    assert shown["output"] == str(tmp_path / "out")


def test_audit_on_threads(stored: Stored, tmp_path: Path) -> None:
    result = invoke(
        "audit", *stored, tmp_path / "out", "--workers=0", "--downsample=2", "--write-pixel-scores"
    )
    assert result.exit_code == 0
    case = make_case(100, (6, 8, 12), 4, downsample=2)
    found = check(tmp_path / "out", case)
    assert "pixel_scores" in found
    assert table(result.stdout)["pixels"] == "576"
    assert table(result.stdout)["label issues"].startswith(f"{found.attrs['num_issues']} pixels (")
    lines = result.stderr.splitlines()
    assert lines[0] == "summarize: 0 of 1 blocks"
    assert re.fullmatch(r"summarize: 1 of 1 blocks, [\d.]+ GB/s", lines[1])
    assert lines[-1] == "paint: 1 of 1 blocks"


def test_inputs_that_changed(stored: Stored, tmp_path: Path) -> None:
    """One line on the standard error says what is audited again; unless they are trusted."""
    command = ["audit", *stored, tmp_path / "out", "--workers=0", "--quiet"]
    assert invoke(*command).exit_code == 0
    write_case(tmp_path / "in", make_case(101, (6, 8, 12), 4), chunks=(2, 2, 8, 6))
    trusted = invoke(*command, "--resume", "--trust-inputs")
    assert (trusted.exit_code, trusted.stderr) == (0, "")
    check(tmp_path / "out", CASE)
    result = invoke(*command, "--resume")
    assert result.exit_code == 0
    told = " ".join(result.stderr.split())
    assert "its labels and pred_probs changed since: all 1 groups are audited again" in told
    check(tmp_path / "out", make_case(101, (6, 8, 12), 4))


def test_resume_and_overwrite(stored: Stored, tmp_path: Path) -> None:
    command = ("audit", *stored, tmp_path / "out", "--workers=0", "--quiet")
    assert invoke(*command).exit_code == 0
    before = files(tmp_path / "out")
    for options, message in (
        ((), r"exists already \(complete\); --resume finishes it, --overwrite replaces it\n"),
        (
            ("--resume", "--downsample=2"),
            "made by other .*: downsample was 1 and is 2; --overwrite",
        ),
        (("--downsample=2",), "made by other .*: downsample was 1 and is 2; --overwrite replaces"),
        (("--resume", "--overwrite"), "--resume, --overwrite: both were given"),
    ):
        result = invoke(*command, *options)
        assert result.exit_code == 1
        assert re.match(f"Error: .*{message}", result.stderr)
        assert result.stderr.count("\n") == 1
    for options in (("--resume",), ("--overwrite",)):
        result = invoke(*command, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        assert files(tmp_path / "out") == before


def test_errors_that_are_not_ours_are_one_line_too(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **keywords: Any) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("dask_labelqc.pipeline.audit_zarr", fail)
    command = ("audit", *stored, tmp_path / "out", "--workers=0")
    result = invoke(*command)
    assert result.exit_code == 1
    assert result.stderr == "Error: RuntimeError: first line second line\n"
    with pytest.raises(RuntimeError, match="first line"):
        CliRunner().invoke(labelqc, [*map(str, command), "--debug"], catch_exceptions=False)


def test_advice_that_a_command_has_no_option_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **keywords: Any) -> None:
        raise InputError("seed: no", advise("{resume} or {seed}", resume=True, seed=3))

    monkeypatch.setattr("dask_labelqc.demo.run_demo", fail)
    assert invoke("demo", tmp_path).stderr == "Error: --seed: no; resume=True or --seed 3\n"


NAMES = ["b[/x]y", "b[bold]y", "b\x1b[31m\x1b]0;title\x07y", "b\u202ey", "b:smile:y", "b\ny"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_text(name: str, tmp_path: Path) -> None:
    """In tables, progress, errors and logs: neither markup nor orders to the terminal."""
    stored = write_case(tmp_path / name, CASE, chunks=(2, 2, 8, 6))
    out = tmp_path / f"{name} out"
    shown = ascii(name)[1:-1]
    command = ("audit", *stored, out, "--workers=0", "--log-level=debug")
    first, again, gone = invoke(*command), invoke(*command), invoke("info", f"{out} not there")
    assert (first.exit_code, again.exit_code, gone.exit_code) == (0, 1, 1)
    assert table(first.stdout)["output"].endswith(f"{shown} out")
    for result in (first, again, gone):
        assert re.fullmatch(r"[ -~\n\u2500-\u257f]*", result.output)
    assert "b" in again.stderr
    assert "out' exists already (complete)" in again.stderr


def test_names_in_warnings_and_logs_are_text(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever a message holds, it is one line; a traceback keeps its lines."""
    log = logging.getLogger("dask_labelqc.test")
    with show_log("info", Console(stderr=True)):
        log.info("output=%s", "b[/x]\x1b[31m\ny")
        try:
            raise OSError("[/x]\x1b[31m")
        except OSError:
            log.exception("failed")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith(r"output=b[/x]\x1b[31m\ny")
    assert lines[-1] == r"OSError: [/x]\x1b[31m"
    assert len(lines) > 3


def test_a_warning_is_text(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*args: Any, **keywords: Any) -> None:
        warnings.warn("the name b[/x]\x1b[31my", LabelQCWarning, stacklevel=2)
        raise InputError("labels: \x1b[2J")

    monkeypatch.setattr("dask_labelqc.pipeline.audit_zarr", warn)
    result = invoke("audit", *stored, tmp_path / "out", "--workers=0")
    assert result.stderr == "Warning: the name b[/x]\\x1b[31my\nError: labels: \\x1b[2J\n"


# Commands


@pytest.fixture
def bad(tmp_path: Path) -> Stored:
    labels = CASE.labels.copy()
    labels[3, 2, 1] = 77
    return write(tmp_path / "bad", labels, CASE.pred_probs)


def test_audit_on_worker_processes(stored: Stored, tmp_path: Path) -> None:
    ran = run("dask", "labelqc", "audit", *stored, tmp_path / "out", "--workers=2")
    assert ran.status == 0
    assert table(ran.out)["output"] == str(tmp_path / "out")
    assert "summarize: 0 of 1 blocks\n" in ran.err
    check(tmp_path / "out", CASE)


def test_an_error_on_a_worker_is_one_line(bad: Stored, tmp_path: Path) -> None:
    ran = run("dask-labelqc", "audit", *bad, tmp_path / "out", "--workers=2", "--quiet")
    assert ran.status == 1
    assert ran.out == ""
    assert re.fullmatch(
        r"Error: labels: 1 of 576 pixels .* the first is 77 at image 3, pixel \(2, 1\); .*\n",
        ran.err,
    )


def test_debug_shows_the_traceback(bad: Stored, tmp_path: Path) -> None:
    ran = run("dask", "labelqc", "audit", *bad, tmp_path / "out", "--workers=0", "--debug")
    assert ran.status == 1
    assert "Traceback (most recent call last)" in ran.err
    assert re.search("InputError: labels: 1 of 576 .* the first is 77", ran.err)


def test_a_memory_limit_that_cannot_be_read(stored: Stored, tmp_path: Path) -> None:
    result = invoke("audit", *stored, tmp_path / "out", "--memory-limit=lots")
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: --workers, --memory-limit: \d+, lots: .*\n", result.stderr)


def test_options_of_workers_where_there_are_none(stored: Stored, tmp_path: Path) -> None:
    command = ("audit", *stored, tmp_path / "out")
    of_threads = invoke(*command, "--workers=0", "--memory-limit=1GB")
    assert of_threads.stderr == (
        "Error: --memory-limit: for a cluster of this machine only, and there are no workers\n"
    )
    options = ("--workers=2", "--threads=1", "--memory-limit=auto")
    there = invoke(*command, "--scheduler=tcp://127.0.0.1:9", *options)
    assert there.stderr == (
        "Error: --workers, --threads, --memory-limit: for a cluster of this machine only, and "
        "tcp://127.0.0.1:9 is the scheduler of another\n"
    )


def test_warnings_name_options(stored: Stored, tmp_path: Path) -> None:
    """Those of the workers of a cluster, too, which come in a thread of their own."""
    labels = zarr.open_array(stored.labels, mode="r+")
    labels[0] = 0  # Zarr keeps no chunks of zeros
    assert not any(path.is_file() for path in (stored.labels / "c/0").rglob("*"))
    for workers in (0, 1):
        ran = run("dask-labelqc", "audit", *stored, tmp_path / f"{workers}", f"--workers={workers}")
        (line,) = [line for line in ran.err.splitlines() if line.startswith("Warning")]
        assert re.fullmatch(r"Warning: labels: 1 .*or --ignore-index 0 leaves that class out", line)


def test_no_scheduler_there(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "2s")
    address = "tcp://127.0.0.1:9"
    ran = run("dask-labelqc", "audit", *stored, tmp_path / "out", "--scheduler", address)
    assert ran.status == 1
    assert re.fullmatch(rf"Error: --scheduler: no answer from '{address}': .*\n", ran.err)
    assert not (tmp_path / "out").exists()


def test_small_demo(tmp_path: Path) -> None:
    ran = run("dask", "labelqc", "demo", tmp_path / "demo", "--images=6", "--size=64")
    assert ran.status == 0, ran.err
    assert "Traceback" not in ran.err
    assert list((tmp_path / "demo").rglob("*.png"))
    assert re.search("precision", ran.out, re.IGNORECASE)


def test_on_a_running_scheduler(tmp_path: Path, stored: Stored) -> None:
    with processes(tmp_path / "cluster") as cluster:
        cluster.add_workers(1)
        for there in (["--scheduler", cluster.address], ["--scheduler-file", cluster.file]):
            out = tmp_path / f"out{there[0]}"
            done = run("dask", "labelqc", "audit", *stored, out, *there)
            assert done.status == 0, done.err
            check(out, CASE)
    audit(stored, tmp_path / "threads", group_bytes=10**9)
    ours, theirs = files(tmp_path / "threads"), files(out)
    assert {n for n in theirs if ours.get(n) != theirs[n]} <= {"zarr.json"}
