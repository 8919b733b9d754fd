"""One job at a time on an output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from zarr.storage import LocalStore

from dask_labelqc.errors import BlockError, OutputError, TakenOverError
from dask_labelqc.pipeline import lease
from dask_labelqc.pipeline.identity import is_alive, own_identity
from dask_labelqc.storage.fence import close_desk
from tests.clusters import wait_for
from tests.forks import ROOT
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.pipeline.killing import count_records, kill_all, paths, start
from tests.pipeline.progress import At, Stop
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
        os.killpg(process.pid, signal.SIGSTOP)  # or it may be done before we are refused
        with pytest.raises(OutputError, match="being written by another job"):
            audit(stored, output, resume=True)
        (claim,) = (output / lease.CLAIMS).glob("??????")
        killed = json.loads(claim.read_text())
        kill_all(process)
        wait_for(lambda: is_alive(killed) is False)  # the fork is not ours to wait for
    audit(stored, output, resume=True)
    check(output, CASE)


def note_in(output: Path, **changed: Any) -> Path:
    """A claim of this process, or of one that differs from it, in an output that was left."""
    folder = output / lease.CLAIMS
    folder.mkdir()
    note = folder / "000000"
    note.write_text(json.dumps({"id": "x"} | own_identity() | changed))
    return note


@pytest.fixture
def half(stored: Stored, tmp_path: Path) -> Path:
    """An output that a job has left in the middle."""
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        audit(stored, output, progress=Stop(None, 9))
    assert not (output / lease.CLAIMS).exists()  # a job that ends in order takes it away
    return output


@pytest.mark.parametrize("again", AGAIN)
def test_a_claim_of_a_process_that_lives(again: dict, stored: Stored, half: Path) -> None:
    note_in(half)
    before = files(half)
    with pytest.raises(OutputError, match="is being written by another job"):
        audit(stored, half, **again)
    assert files(half) == before


@pytest.mark.parametrize("note", [{"pid": 2**22 + 1}, {"started": 0}], ids=["gone", "another"])
def test_a_process_that_is_no_more(
    note: dict, stored: Stored, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up, and not waited for."""
    monkeypatch.setattr(lease, "BEAT", 10_000)
    note_in(half, **note)
    audit(stored, half, resume=True)
    check(half, CASE)


def test_a_zombie_is_no_more(stored: Stored, half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 10_000)
    with subprocess.Popen(["sleep", "1000"]) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        note_in(half, pid=process.pid, started=int(stat.read_text().rpartition(")")[2].split()[19]))
        with pytest.raises(OutputError, match="is being written by another job"):
            audit(stored, half, resume=True)
        process.kill()
        wait_for(lambda: ") Z " in stat.read_text())
        audit(stored, half, resume=True)
    check(half, CASE)


UNKNOWN = {
    "host": {"host": "elsewhere"},
    "boot": {"boot": "another"},
    "namespace": {"pid_namespace": "pid:[1]", "pid": 1},
    "no boot": {"boot": None},
    "odd": {"pid": None},
}


@pytest.mark.parametrize("note", UNKNOWN.values(), ids=UNKNOWN)
def test_who_cannot_be_looked_up_is_alive_until_the_lease_runs_out(
    note: dict, fast: None, stored: Stored, half: Path
) -> None:
    note_in(half, **note)
    begun = time.monotonic()
    audit(stored, half, resume=True)
    assert time.monotonic() - begun >= lease.MISSED * lease.BEAT
    check(half, CASE)


def test_a_claim_that_was_not_written_to_the_end(fast: None, stored: Stored, half: Path) -> None:
    note_in(half).write_text("{")
    audit(stored, half, resume=True)
    check(half, CASE)


@pytest.mark.parametrize("note", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("again", AGAIN)
def test_who_cannot_be_looked_up_and_lives(
    again: dict, note: dict, fast: None, stored: Stored, half: Path
) -> None:
    claim = note_in(half, **note)
    before = files(half)
    ended = threading.Event()

    def renew() -> None:
        beat = 0
        while not ended.wait(0.02):
            beat += 1
            claim.with_suffix(".beat").write_text(str(beat))

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(OutputError, match=r"is being written by another job \(process "):
            audit(stored, half, **again)
    finally:
        ended.set()
        thread.join()
    after = files(half)
    assert after.pop(f"{lease.CLAIMS}/000000.beat")
    assert before == after


def test_the_clock_does_not_say_who_lives(
    stored: Stored, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the clock moves the times at which processes were started, as psutil has them."""
    note_in(half)
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 1)
    with pytest.raises(OutputError, match="is being written by another job"):
        audit(stored, half, resume=True)


NAMESPACE = """
import os, sys, time
from dask_labelqc.pipeline.identity import own_identity
import json
print(json.dumps(own_identity()), flush=True)
time.sleep(1000)
"""


def test_a_process_of_another_namespace(fast: None, stored: Stored, half: Path) -> None:
    """For real where namespaces may be made; elsewhere the same by what the process would say."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    allowed = not subprocess.run([*command, "true"], capture_output=True).returncode
    with subprocess.Popen(
        [*(command if allowed else []), sys.executable, "-c", NAMESPACE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
        finally:
            kill_all(process)
    assert (said["host"], said["boot"]) == (own_identity()["host"], own_identity()["boot"])
    if allowed:
        assert said["pid_namespace"] != own_identity()["pid_namespace"]
        assert is_alive(said) is None
    else:
        assert is_alive(said) is False
    assert is_alive(said | {"pid_namespace": "pid:[1]"}) is None
    assert is_alive(own_identity()) is True


def take_over(output: Path) -> None:
    """As another job does that finds this one gone."""
    (output / lease.CLAIMS / "000001").write_text(json.dumps({"id": "y"} | own_identity()))
    close_desk(LocalStore(output), f"{lease.CLAIMS}/000000")
    (output / lease.CLAIMS / "000000").unlink()


def test_a_job_that_was_taken_over_ends(stored: Stored, tmp_path: Path) -> None:
    """At its next write, whatever the renewals are; and writes and deletes nothing more."""
    output, after = tmp_path / "out", {}

    def act() -> None:
        take_over(output)
        after.update(files(output))

    with pytest.raises(TakenOverError, match="was taken over by another job"):
        audit(stored, output, progress=At(9, act), n_jobs=1, keep_going=True)
    assert files(output) == after


def test_a_job_without_anything_to_write_is_told_by_its_renewals(
    fast: None, stored: Stored, half: Path
) -> None:
    def is_told(held: lease.Lease) -> bool:
        try:
            held.check()
        except TakenOverError:
            return True
        return False

    with lease.hold(LocalStore(half), "out") as held:
        take_over(half)
        wait_for(lambda: is_told(held))
    assert (half / lease.CLAIMS / "000001").exists()


@pytest.mark.parametrize("stage", ["summarize", "count", "paint"])
def test_taken_over_in_any_stage(stage: str, stored: Stored, tmp_path: Path) -> None:
    output, after = tmp_path / "out", {}

    def act() -> None:
        take_over(output)
        after.update(files(output))

    with pytest.raises(TakenOverError, match="was taken over by another job"):
        audit(stored, output, progress=At(0, act, stage), n_jobs=1)
    assert files(output) == after


def test_the_claim_is_renewed(fast: None, stored: Stored, tmp_path: Path) -> None:
    beats = []

    def has_beaten() -> bool:
        beat = tmp_path / "out" / lease.CLAIMS / "000000.beat"
        beats.append(int(beat.read_text()) if beat.exists() else 0)
        return beats[-1] > 3

    audit(stored, tmp_path / "out", progress=At(9, lambda: wait_for(has_beaten)))
    assert beats == sorted(beats)
    assert beats[-1] > 3


def test_the_lease_does_not_hide_the_cause(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stops the job comes first, with the images and the way on; the claim is added to it."""
    chunk = stored.pred_probs / "c/7/0/0/0"

    def refuse(*args: Any) -> None:
        raise PermissionError("the keys are refused")

    def spoil() -> None:
        monkeypatch.setattr(lease, "remove_object", refuse)
        chunk.unlink()
        chunk.symlink_to(chunk)

    message = (
        r"image 7 failed 3 times: OSError: .*; the output is unfinished "
        r"\(the claim on the output could not be taken back either: the keys are refused\)"
        r"; resume=True goes on from here"
    )
    with pytest.raises(BlockError, match=message):
        audit(stored, tmp_path / "out", progress=At(0, spoil, "summarize"))


def test_a_claim_that_stays_behind_is_no_error(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is whole; the next job finds whose it was, and takes it away."""

    def refuse(*args: Any) -> None:
        raise PermissionError("the keys are refused")

    with monkeypatch.context() as patch:
        patch.setattr(lease, "remove_object", refuse)
        audit(stored, tmp_path / "out")
    check(tmp_path / "out", CASE)
    claim = tmp_path / "out" / lease.CLAIMS / "000000"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"started": 0}))
    assert audit(stored, tmp_path / "out", resume=True).num_resumed == 40
    audit(stored, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("taken", "kind", "message"),
    [
        (True, TakenOverError, "was taken over by another job"),
        (False, OutputError, "group 7 is gone"),
    ],
)
def test_what_follows_from_being_taken_over_is_said_as_that(
    taken: bool, kind: type, message: str, tmp_path: Path
) -> None:
    """Records that the other job has deleted, say."""

    def fail() -> None:
        with lease.hold(LocalStore(tmp_path / "out"), "out"):
            if taken:
                (tmp_path / "out" / lease.CLAIMS / "000000").unlink()
            raise OutputError("output: the record of group 7 is gone")

    with pytest.raises(kind, match=message) as raised:
        fail()
    assert isinstance(raised.value, TakenOverError) == taken
