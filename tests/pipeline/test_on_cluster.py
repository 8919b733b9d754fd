"""Tasks on workers that die, pause and do not come; each is a real process."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Client
from distributed.core import Status

from dask_labelqc import waiting
from dask_labelqc.cluster import open_client
from dask_labelqc.errors import ClusterError
from dask_labelqc.pipeline import on_cluster
from dask_labelqc.pipeline.on_cluster import Cluster
from tests.clusters import Processes, forking, processes, wait_for


@pytest.fixture(autouse=True)
def forked_workers() -> Iterator[None]:
    with forking():
        yield


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    with processes(tmp_path / "cluster") as started:
        yield started


@pytest.fixture
def client(cluster: Processes) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def hold(folder: Path, item: int) -> int:
    """Say that it runs, and end when it may."""
    (folder / f"runs-{item}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return os.getpid()


def results(workers: Cluster) -> dict[Any, Any]:
    """Take all that is pending; what hangs is an error."""

    def take() -> dict[Any, Any]:
        taken: dict[Any, Any] = {}
        while workers.num_pending:
            taken |= {item: outcome.result for item, outcome in workers.take()}
        return taken

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(take)
        try:
            return found.result(120)
        except TimeoutError:
            workers.stop(interrupted=True)  # or the thread would never end
            raise


def test_a_retry_waits_for_a_busy_worker(cluster: Processes, client: Client) -> None:
    """An idle one that has failed does not steal it back."""
    cluster.add_workers(2)
    failed, other = client.nthreads()
    workers = Cluster(client)
    workers.submit(slow, list(range(8)), avoid=(failed,))
    assert set(results(workers).values()) == {client.run(os.getpid)[other]}


def slow(item: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def test_a_retry_whose_workers_have_all_died(
    cluster: Processes, client: Client, tmp_path: Path
) -> None:
    """It was for one of them; Dask itself would hold it for ever."""
    cluster.add_workers(2)
    first, _ = client.nthreads()
    workers = Cluster(client)
    workers.submit(partial(hold, tmp_path), [7], avoid=(first,))
    wait_for((tmp_path / "runs-7").exists)
    cluster.signal_workers(signal.SIGKILL)
    wait_for(lambda: not client.nthreads())
    (tmp_path / "go").touch()
    cluster.add_workers(1)
    (pid,) = client.run(os.getpid).values()
    assert results(workers) == {7: pid}


def test_what_a_paused_worker_holds_is_done_by_others(
    cluster: Processes, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not what it is doing."""
    monkeypatch.setattr(on_cluster, "SECONDS_PAUSED", 0.5)
    cluster.add_workers(2, "--memory-limit", "0")
    full, other = client.nthreads()
    workers = Cluster(client)
    workers.submit(partial(hold, tmp_path), [0, 1], avoid=(other,))
    wait_for(lambda: len(client.processing()[full]) == 2)
    client.run(pause, workers=[full])
    wait_for(lambda: client.scheduler_info()["workers"][full]["status"] == "paused")
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(results, workers)
        wait_for(lambda: len(client.processing()[other]) == 1)
        assert len(client.processing()[full]) == 1
        (tmp_path / "go").touch()
        pids = client.run(os.getpid)
        assert sorted(found.result().values()) == sorted(pids.values())


def pause(dask_worker: Any) -> None:
    dask_worker.status = Status.paused


def test_no_worker_is_said_and_waited_for(
    cluster: Processes,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.1)
    workers = Cluster(client)
    workers.submit(abs, [-3])
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(results, workers)
        wait_for(lambda: "none is there" in caplog.text)
        cluster.add_workers(1)
        assert found.result() == {-3: 3}
    address = client.scheduler.address
    # The machine may be so busy that the scheduler's slow answers are said too.
    said = [text for text in caplog.messages if "has not answered" not in text]
    waits = f"no worker takes tasks of the scheduler at {address} (none is there)"
    assert said[0].startswith(waits)
    assert " s so far; the job goes on when one does" in said[0]
    assert re.fullmatch(r"after \S+ s workers take tasks again", said[-1])


def test_no_worker_for_longer_than_is_set(client: Client) -> None:
    workers = Cluster(client)
    workers.submit(abs, [-3])
    message = "no worker has taken tasks of the scheduler at tcp://.* for .*no-workers-timeout; "
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "100ms"}),
        pytest.raises(ClusterError, match=message),
    ):
        results(workers)
    workers.stop(interrupted=True)


def test_local_workers_are_not_waited_for_for_ever() -> None:
    setting = "distributed.scheduler.no-workers-timeout"
    with open_client(workers=1, memory_limit="0"):
        assert dask.config.get(setting) == "5 minutes"
    with (
        dask.config.set({setting: "7s"}),
        open_client(workers=1, memory_limit="0"),
    ):
        assert dask.config.get(setting) == "7s"
    assert dask.config.get(setting) is None


def warn(item: int) -> None:
    logging.getLogger("dask_labelqc.anything").warning("of item %d", item)
    logging.getLogger("dask_labelqc.anything").info("not this")


def test_what_workers_log_is_logged_here(
    cluster: Processes, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.add_workers(1)
    (address,) = client.nthreads()
    workers = Cluster(client)
    for number in range(3):  # the second and third task are not to say it twice
        workers.submit(warn, [number])
        results(workers)
    wait_for(lambda: len(caplog.messages) >= 3)
    assert caplog.messages == [f"of item {n} (worker {address})" for n in range(3)]
    assert "of item" not in cluster.logs()


def test_a_frozen_scheduler_is_said(
    cluster: Processes,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.1)
    cluster.add_workers(1)
    os.kill(cluster.scheduler.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(Cluster(client).window)
            wait_for(lambda: "has not answered for" in caplog.text)
            os.kill(cluster.scheduler.pid, signal.SIGCONT)
            assert found.result() == 2
    finally:
        os.kill(cluster.scheduler.pid, signal.SIGCONT)
    assert client.scheduler.address in caplog.messages[0]
