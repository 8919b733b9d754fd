"""The batch script, as it is deployed: the bytes of a local run, whatever happens to the job."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from tests.pipeline.datasets import Stored, files
from tests.slurm.daemons import NODES, Slurm, wait_until

pytestmark = pytest.mark.slurm
SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "audit.sbatch"


def log(folder: Path, number: str) -> str:
    return (folder / f"labelqc-{number}.log").read_text()


def leaves_nothing_but(folder: Path, *names: str) -> bool:
    return {path.name for path in folder.iterdir()} == set(names)


def test_one_node(slurm: Slurm, stored: Stored, expected: dict[str, bytes], tmp_path: Path) -> None:
    job = slurm.submit(SCRIPT, *stored, "audit.zarr", cwd=tmp_path)
    done = slurm.wait(job)
    print(said := log(tmp_path, job))
    assert done["JobState"] == "COMPLETED"
    assert files(tmp_path / "audit.zarr") == expected
    assert "label issues" in said
    assert "rror" not in said
    assert leaves_nothing_but(tmp_path, "audit.zarr", f"labelqc-{job}.log")


def test_several_nodes(
    slurm: Slurm, stored: Stored, expected: dict[str, bytes], tmp_path: Path
) -> None:
    options = ("--nodes=2", "--ntasks-per-node=1")
    job = slurm.submit(*options, SCRIPT, *stored, "audit.zarr", cwd=tmp_path)
    done = slurm.wait(job)
    print(log(tmp_path, job))
    assert (done["JobState"], done["NumNodes"]) == ("COMPLETED", "2")
    assert files(tmp_path / "audit.zarr") == expected
    for node in NODES:
        assert f"launch task StepId={job}.0" in slurm.log(f"slurmd-{node}")


def preempt(slurm: Slurm, number: str, folder: Path) -> None:
    """Submit a job that needs every node at once, and comes first."""
    command = ("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=true")
    slurm.submit("--output=/dev/null", *command, cwd=folder)


def requeue(slurm: Slurm, number: str, folder: Path) -> None:
    slurm("scontrol", "requeue", number)


def run_out_of_time(slurm: Slurm, number: str, folder: Path) -> None:
    """Send what SLURM sends some time before the end; it looks at the time twice a minute only."""
    slurm("scancel", "--batch", "--signal=USR1", number)


@pytest.mark.parametrize("disturb", [preempt, requeue, run_out_of_time])
def test_goes_on(
    disturb: Callable[[Slurm, str, Path], None],
    slurm: Slurm,
    stored: Stored,
    expected: dict[str, bytes],
    tmp_path: Path,
) -> None:
    output = tmp_path / "audit.zarr"
    job = slurm.submit("--ntasks-per-node=1", SCRIPT, *stored, output.name, cwd=tmp_path)
    wait_until(lambda: any(output.glob("checkpoint/summaries/c/0")), "the first record", 180)
    disturb(slurm, job, tmp_path)
    done = slurm.wait(job)
    print(said := log(tmp_path, job))
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "1")
    assert "of them by an earlier run" in said
    assert files(output) == expected
    assert leaves_nothing_but(tmp_path, output.name, f"labelqc-{job}.log")


def test_fails_with_the_audit(slurm: Slurm, stored: Stored, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "labels", shape=(3, 4), dtype="uint8")
    job = slurm.submit(SCRIPT, "labels", stored.pred_probs, "audit.zarr", cwd=tmp_path)
    done = slurm.wait(job)
    print(said := log(tmp_path, job))
    assert (done["JobState"], done["ExitCode"]) == ("FAILED", "1:0")
    assert "Error: " in said
    assert "(3, 4)" in said


def test_fails_without_workers(slurm: Slurm, stored: Stored, tmp_path: Path) -> None:
    job = slurm.submit(
        SCRIPT,
        *stored,
        "audit.zarr",
        cwd=tmp_path,
        DASK_DISTRIBUTED__WORKER__PRELOAD="a_module_that_nobody_has",
    )
    done = slurm.wait(job)
    print(said := log(tmp_path, job))
    assert done["JobState"] == "FAILED"
    assert "the scheduler or the last worker ended before the audit" in said


def test_refuses_to_overwrite() -> None:
    command = ["bash", str(SCRIPT), "labels", "pred_probs", "audit.zarr", "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "begin anew by --overwrite; delete the output" in done.stderr
