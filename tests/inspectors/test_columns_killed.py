"""What is killed while it puts items on record, or finishes them: the next does the rest."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.inspectors.columns import KINDS, finish, make, record, same_answers
from tests.inspectors.killed_columns import run_killed


@pytest.mark.parametrize("kind", KINDS[:2])
def test_killed_while_it_predicts(kind: str, tmp_path: Path) -> None:
    """One dies before its first record is whole, one after it, one in the second, one after."""
    about = {"kind": kind, "output": str(tmp_path / "out"), "finishing": False}
    killed = [{**about, "kill_at": kill_at} for kill_at in (1, 2, 3, 4)]
    statuses = run_killed([*killed, {**about, "kill_at": 0}])
    assert statuses == [-signal.SIGKILL] * 4 + [0]
    made = make(kind)
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_finishes(kind: str, tmp_path: Path) -> None:
    made, output = make(kind), tmp_path / "out"
    record(output, made, flush=5)
    about = {"kind": kind, "output": str(output), "finishing": True}
    killed = [{**about, "kill_at": kill_at} for kill_at in (1, 7, 16, 25, 40, 55, 70)]
    statuses = run_killed([*killed, {**about, "kill_at": 0}])
    assert statuses.count(-signal.SIGKILL) >= 4
    assert set(statuses) <= {-signal.SIGKILL, 0}
    assert statuses[-1] == 0
    same_answers(output, made.stored(tmp_path))
    assert finish(output).num_resumed > 0


def test_a_fork_leaves_what_waits_to_its_parent(tmp_path: Path) -> None:
    made = make("facts", 6)
    with made.inspector(tmp_path / "out") as inspector:
        made.put(inspector, [0, 1, 2])
        recorder = inspector._recorder
        assert recorder is not None
        recorder.records._process = os.getpid() + 1  # as if it had been made by another process
        made.put(inspector, [3, 4, 5])
    assert inspector.missing(made.ids) == made.ids[:3]
