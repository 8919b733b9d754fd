"""The job killed, for real, and started again: the same bytes as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from tests.pipeline.datasets import audit, check, files, write, write_case
from tests.pipeline.killing import count_records, kill_all, paths, run_killed, start
from tests.strategies import USUAL_EXAMPLES, Case, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")
KILLED, FINISHED = -signal.SIGKILL, 0
STRIDE = max(1, 12 * USUAL_EXAMPLES // settings().max_examples)
"""Die at every twelfth write only, for the time it takes; the tests choose the first."""


def deaths(
    common: dict, path: Path, kinds: list[str], first: int, most: int, stride: int = STRIDE
) -> list[dict]:
    """Runs that die at a write, each with an output of its own."""
    return [
        {**common, "output": str(path / f"out{i}"), "kill_at": i, "kinds": kinds}
        for i in range(first, most, stride)
    ]


def died(runs: list[dict]) -> list[dict]:
    """Run them up to the first that comes to its end; each before it dies at its write."""
    statuses = run_killed(runs)
    assert statuses == [KILLED] * (len(statuses) - 1) + [FINISHED]
    return runs[: len(statuses)]


def restarted(runs: list[dict], **arguments: Any) -> list[dict]:
    kept = [{k: v for k, v in run.items() if k not in ("kill_at", "kinds")} for run in runs]
    return [run | arguments for run in kept]


def test_killed_while_it_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing has been read: a resume has nothing to say of inputs that changed, or may have."""
    case = make_case(50, (3, 4, 6), 3)
    stored = write_case(tmp_path / "in", case, chunks=(1, 2, 4, 6))
    runs = deaths(paths(stored), tmp_path, ["put"], 3, 20, 1)
    assert set(run_killed(runs)) == {KILLED}
    for run in runs:
        audit(stored, Path(run["output"]), resume=True)
        assert "changed since" not in caplog.text, f"killed at write {run['kill_at']}"
    check(Path(runs[-1]["output"]), case)


@pytest.mark.parametrize("first", [1, 4])
def test_killed_at_any_write(first: int, tmp_path: Path) -> None:
    """Half a file, a whole file, a deletion: wherever it dies, resume writes the same bytes."""
    case = make_case(50, (3, 4, 6), 3)
    stored = write_case(tmp_path / "in", case, chunks=(1, 2, 4, 6))
    common = {**paths(stored), "write_pixel_scores": True, "write_predicted_label": True}
    audit(stored, tmp_path / "whole", write_pixel_scores=True, write_predicted_label=True)
    expected = files(tmp_path / "whole")
    kinds = ["half", "put", "deleted"]
    runs = died(deaths(common, tmp_path, kinds, first, 180))
    assert len(runs[:-1]) * STRIDE > 72
    assert set(run_killed(restarted(runs, resume=True))) == {FINISHED}
    for run in runs:
        assert files(Path(run["output"])) == expected, f"killed at write {run['kill_at']}"
    check(tmp_path / "whole", case)


@pytest.mark.parametrize("first", [1, 4])
def test_killed_while_it_replaces_an_output(first: int, tmp_path: Path) -> None:
    """What is half deleted is not taken for whole, and the same command finishes it."""
    case, old = make_case(51, (2, 4, 6), 3), make_case(52, (2, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    runs = deaths(paths(stored), tmp_path, ["put", "deleted"], first, 150)
    write_case(tmp_path / "in", old)
    audit(stored, tmp_path / "old")
    for run in runs:
        shutil.copytree(tmp_path / "old", run["output"])
    write_case(tmp_path / "in", case)
    audit(stored, tmp_path / "whole")
    expected = files(tmp_path / "whole")  # with what the store says of these inputs
    assert files(Path(runs[0]["output"])) != expected
    runs = died([run | {"overwrite": True} for run in runs])
    assert len(runs[:-1]) * STRIDE > 48
    # By turns: the same command, or a resume of what was to be overwritten.
    again = [
        run | ({} if i % 2 else {"overwrite": False, "resume": True})
        for i, run in enumerate(restarted(runs))
    ]
    assert set(run_killed(again)) == {FINISHED}
    for run in runs:
        assert files(Path(run["output"])) == expected, f"killed at {run['kill_at']}"


def test_killed_in_either_read(tmp_path: Path) -> None:
    """Where the predictions are read twice, records of both reads lie side by side."""
    rng = np.random.default_rng(0)
    probs = rng.integers(1, 1024, (3, 3, 4, 4)) / np.float32(1024)
    case = Case(rng.integers(0, 3, (3, 4, 4)), probs)
    stored = write(tmp_path / "in", case.labels, case.pred_probs)
    audit(stored, tmp_path / "whole", validate="labels")
    runs = deaths({**paths(stored), "validate": "labels"}, tmp_path, ["put"], 2, 60, stride=3)
    runs = died(runs)
    assert len(runs) > 6
    assert set(run_killed(restarted(runs, resume=True))) == {FINISHED}
    for run in runs:
        assert files(Path(run["output"])) == files(tmp_path / "whole"), run["kill_at"]
    check(tmp_path / "whole", case)


def test_killed_again_and_again(tmp_path: Path) -> None:
    """From outside, at random moments, until it has come to the end."""
    case = make_case(53, (200, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    output = tmp_path / "out"
    run = {**paths(stored), "output": str(output), "resume": True}
    rng, records = random.Random(0), []
    for _ in range(3):
        with start(run) as process:
            had = count_records(output)
            while count_records(output) <= had and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.01, 0.1))
            kill_all(process)
        records.append(count_records(output))
    assert 0 < records[0] <= records[1] <= records[2] < 200
    report = audit(stored, output, resume=True)
    assert report.num_resumed >= records[-1] - 2  # those that were being written
    audit(stored, tmp_path / "whole")
    assert files(output) == files(tmp_path / "whole")
    check(output, case)
