"""The job on worker processes: the same bytes as on threads, and nothing that piles up."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import Client

from dask_labelqc.errors import InputError
from dask_labelqc.progress import NoProgress
from tests.clusters import local_cluster, wait_for
from tests.pipeline.datasets import audit, check, files, mend, write, write_case
from tests.pipeline.progress import At, Stop
from tests.strategies import Case, make_case

pytestmark = [
    pytest.mark.usefixtures("smallest_groups"),
    pytest.mark.xdist_group("cluster"),
]
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}
CASES = {
    "plain": (make_case(90, (6, 8, 12), 4), {"chunks": (1, 2, 4, 6), "label_chunks": (2, 8, 5)}),
    "downsampled": (
        make_case(91, (5, 6, 8), 3, downsample=2, ignored=(2,), void=0.2),
        {"chunks": (2, 3, 3, 8), "order": (0, 2, 3, 1)},
    ),
}


@pytest.mark.parametrize(("case", "layout"), CASES.values(), ids=CASES)
def test_the_same_bytes_as_on_threads(
    case: Case, layout: dict, client: Client, tmp_path: Path
) -> None:
    stored = write_case(tmp_path / "in", case, **layout)
    audit(stored, tmp_path / "threads", **case.arguments, **DENSE)
    report = audit(stored, tmp_path / "cluster", client=client, **case.arguments, **DENSE)
    assert report.num_groups > 2
    assert files(tmp_path / "threads") == files(tmp_path / "cluster")
    check(tmp_path / "cluster", case)


def test_the_same_bytes_on_workers_in_this_process(tmp_path: Path) -> None:
    case, layout = CASES["plain"]
    stored = write_case(tmp_path / "in", case, **layout)
    with local_cluster(threads=3, processes=False) as client:
        audit(stored, tmp_path / "cluster", client=client, **DENSE)
    audit(stored, tmp_path / "threads", **DENSE)
    assert files(tmp_path / "threads") == files(tmp_path / "cluster")


def test_an_error_on_a_worker(client: Client, tmp_path: Path) -> None:
    case = make_case(92, (6, 4, 6), 3)
    labels = case.labels.copy()
    labels[4, 1, 2] = 9
    stored = write(tmp_path / "in", labels, case.pred_probs)
    with pytest.raises(InputError, match="the first is 9 at image 4, pixel"):
        audit(stored, tmp_path / "out", client=client)
    mend(tmp_path / "in", case)
    report = audit(stored, tmp_path / "out", client=client, resume=True)
    assert report.num_resumed > 0
    check(tmp_path / "out", case)


class Watch(NoProgress):
    """Looks at the scheduler while the job runs."""

    def __init__(self, client: Client) -> None:
        self.scheduler = client.cluster.scheduler
        self.client = client
        self.tasks: list[int] = []
        self.futures: list[int] = []

    def advance(self, num_bytes: int = 0) -> None:
        self.tasks.append(len(self.scheduler.tasks))
        self.futures.append(len(self.client.futures))


def test_the_scheduler_holds_no_more_than_the_window(client: Client, tmp_path: Path) -> None:
    case = make_case(93, (300, 2, 3), 3)
    stored = write_case(tmp_path / "in", case)
    watch = Watch(client)
    audit(stored, tmp_path / "out", client=client, progress=watch)
    assert len(watch.tasks) > 300
    window = 2 * 2  # of tasks
    # What is done may take a moment until it is forgotten.
    assert max(watch.tasks) <= 2 * window
    assert max(watch.futures) <= 2 * window
    check(tmp_path / "out", case)
    wait_for(lambda: not watch.scheduler.tasks)
    assert not client.futures


@pytest.mark.parametrize("count", [7, 50])
def test_a_worker_is_killed(count: int, client: Client, tmp_path: Path) -> None:
    case = make_case(94, (40, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    audit(stored, tmp_path / "whole", **DENSE)
    client.wait_for_workers(2, timeout=120)
    killed: list[int] = []

    def kill() -> None:
        killed.append(next(iter(client.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    audit(stored, tmp_path / "out", client=client, progress=At(count, kill), **DENSE)
    assert len(killed) == 1
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    client.wait_for_workers(2, timeout=120)


def test_stopped_on_the_cluster_and_resumed_on_threads(client: Client, tmp_path: Path) -> None:
    case = make_case(95, (20, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    with pytest.raises(KeyboardInterrupt):
        audit(stored, tmp_path / "out", client=client, progress=Stop(None, 9))
    assert audit(stored, tmp_path / "out", resume=True).num_resumed >= 9
    audit(stored, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


# Filters of warnings are not of one thread alone: two that begin or finish together may undo each
# other's.
@pytest.mark.filterwarnings("ignore:Object at ")
@pytest.mark.filterwarnings("ignore:The data type .VariableLengthBytes")
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_two_jobs_on_one_cluster(client: Client, tmp_path: Path) -> None:
    case = make_case(96, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(audit, stored, tmp_path / name, client=client) for name in ("a", "b")]
    for job in jobs:
        job.result()
    assert files(tmp_path / "a") == files(tmp_path / "b")
    check(tmp_path / "a", case)
