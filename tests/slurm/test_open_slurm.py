"""Workers that are jobs of SLURM and come and go with the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dask.config
import dask_jobqueue
import pytest
import yaml
from distributed import Client

from dask_labelqc.cluster import open_slurm
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.progress import NoProgress
from tests.pipeline.datasets import Stored, files
from tests.slurm.daemons import Slurm, wait_until

pytestmark = pytest.mark.slurm
SETTINGS = Path(__file__).parents[2] / "deploy" / "slurm" / "jobqueue.yaml"


@pytest.fixture(autouse=True)
def deployed_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    assert dask_jobqueue.SLURMCluster  # which has brought its own settings
    defaults = dask.config.get("jobqueue.slurm")
    settings = yaml.safe_load(SETTINGS.read_text())["jobqueue"]["slurm"]
    assert settings.keys() <= defaults.keys()
    with dask.config.set({"jobqueue.slurm": defaults | settings}):
        yield


class Disturb(NoProgress):
    """Cancels the job of a worker, once there are two."""

    def __init__(self, slurm: Slurm, client: Client) -> None:
        self.slurm, self.client = slurm, client
        self.cancelled: list[str] = []

    def advance(self, num_bytes: int = 0) -> None:
        if self.cancelled:
            return
        # A little time for the second worker to come, but not for the first to be sent away.
        with suppress(TimeoutError):
            self.client.wait_for_workers(2, timeout=2)
            running = self.slurm("squeue", "--noheader", "--states=running", "--format=%A")
            self.cancelled = running.splitlines()[:1]
            self.slurm("scancel", *self.cancelled)


def test_workers_come_and_go(
    slurm: Slurm, stored: Stored, expected: dict[str, bytes], tmp_path: Path
) -> None:
    with open_slurm(2) as client:
        assert slurm.jobs() == []
        script = client.cluster.job_script()
        assert "#SBATCH --mem=2G" in script
        assert "#SBATCH -t 02:00:00" in script
        disturb = Disturb(slurm, client)
        audit_zarr(*stored, tmp_path / "audit.zarr", client=client, progress=disturb)
        wait_until(lambda: slurm.jobs() == [], "no jobs where there is no work", 120)
    assert len(disturb.cancelled) == 1
    assert files(tmp_path / "audit.zarr") == expected
    assert len(list(tmp_path.glob("labelqc-logs/labelqc-worker-*.err"))) >= 2


def test_jobs_end_with_the_block(slurm: Slurm) -> None:
    with open_slurm(2, minimum=2) as client:
        client.wait_for_workers(2, timeout=180)
        assert slurm.jobs() == ["labelqc-worker"] * 2
    wait_until(lambda: slurm.jobs() == [], "no jobs after the end", 60)
