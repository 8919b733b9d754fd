"""Inspectors and what finishes them killed, for real: records are whole or absent."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from hypothesis import settings

from dask_labelqc.storage.ledger import Ledger
from dask_labelqc.storage.stores import open_store
from tests.inspectors.killing import make, record_missing, run_killed
from tests.inspectors.recording import finish, inspector, names, same_answers
from tests.pipeline.datasets import audit, files, write_case
from tests.strategies import USUAL_EXAMPLES

KILLED, FINISHED = -signal.SIGKILL, 0
STRIDE = max(1, 8 * USUAL_EXAMPLES // settings().max_examples)
EVERY = list(range(6))


def answers(output: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(output).items() if not name.startswith("records/")}


def test_killed_while_it_puts_on_record(tmp_path: Path) -> None:
    """What is there can be read, the rest is missing, and the same loop predicts just that."""
    case = make()
    audit(write_case(tmp_path / "in", case), tmp_path / "stored")
    record_missing(tmp_path / "whole", EVERY)
    finish(tmp_path / "whole")
    runs = [
        {"output": str(tmp_path / f"out{i}"), "kill_at": i, "images": EVERY} for i in range(1, 12)
    ]
    statuses = run_killed(runs)
    assert statuses == sorted(statuses)
    assert statuses.count(KILLED) > 5
    assert statuses[-1] == FINISHED
    for run, status in zip(runs, statuses, strict=True):
        output = Path(run["output"])
        there = list(Ledger(open_store(output)).heads(Ledger(open_store(output)).names()))
        recorded = {each for entry in there for each in entry.ids}
        assert len(recorded) in (0, 2, 4, 6)
        missing = inspector(output, case).missing(names(case))
        assert {*missing, *recorded} == {*names(case)}
        assert bool(missing) <= (status == KILLED)
        record_missing(output, EVERY)
        finish(output)
        assert answers(output) == answers(tmp_path / "whole"), run["kill_at"]
    same_answers(tmp_path / "whole", tmp_path / "stored")


def check_killed(begun: Path, path: Path) -> None:
    """Kill what finishes an output at any write, and finish it after that: the same bytes."""
    whole = path / "whole"
    shutil.copytree(begun, whole)
    finish(whole)
    runs = []
    for i in range(1, 170, STRIDE):
        shutil.copytree(begun, path / f"out{i}")
        runs.append({"output": str(path / f"out{i}"), "kill_at": i})
    again = [{"output": run["output"]} for run in runs]
    statuses = run_killed(runs + again)
    killed = statuses[: len(runs)]
    assert killed == sorted(killed)
    assert killed.count(KILLED) * STRIDE > 30
    assert killed[-1] == FINISHED
    assert set(statuses[len(runs) :]) == {FINISHED}
    for run in runs:
        assert files(Path(str(run["output"]))) == files(whole), run["kill_at"]


def test_killed_while_it_is_finished(tmp_path: Path) -> None:
    record_missing(tmp_path / "begun", EVERY)
    check_killed(tmp_path / "begun", tmp_path)


def test_killed_while_it_is_finished_again(tmp_path: Path) -> None:
    """With more images: what is half replaced is not taken for whole."""
    begun = tmp_path / "begun"
    record_missing(begun, EVERY[:3])
    finish(begun)
    record_missing(begun, EVERY)
    check_killed(begun, tmp_path)
