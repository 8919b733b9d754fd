"""Workers that cannot do the work are found before there is any; each is a real process."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import dask.config
import pytest
from distributed import Client

from dask_labelqc.cluster import open_local
from dask_labelqc.errors import InputError
from dask_labelqc.pipeline.workers import check_workers
from tests.clusters import Processes, forking, processes
from tests.commands import python_without_the_package
from tests.forks import BIN, run
from tests.pipeline.datasets import Stored, audit, check, write_case
from tests.strategies import make_case

OURS = version("dask-labelqc")
CASE = make_case(97, (6, 4, 6), 3)
ADDRESS = r"tcp://127\.0\.0\.1:\d+"
# What the path names would be found in any environment.
BARE = {"PYTHONPATH": ""}


@pytest.fixture(autouse=True)
def forked_workers() -> Iterator[None]:
    with forking():
        yield


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    with processes(tmp_path / "cluster") as started:
        yield started


@pytest.fixture
def client(cluster: Processes) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def test_a_worker_without_the_package(
    cluster: Processes, client: Client, stored: Stored, tmp_path: Path
) -> None:
    python = python_without_the_package(tmp_path / "bare")
    cluster.add_worker_of(python, **BARE)
    message = rf"1 of 1 workers cannot run dask-labelqc {OURS}: {ADDRESS} lacks it; "
    with pytest.raises(InputError, match=f"client: {message}"):
        audit(stored, tmp_path / "out", client=client)
    assert not (tmp_path / "out").exists()
    command = [BIN / "dask", "labelqc", "audit", *stored, tmp_path / "out", "--quiet"]
    ran = run(*command, "--scheduler", cluster.address)
    assert ran.status == 1
    assert re.fullmatch(f"Error: --scheduler: {message}.*\n", ran.err)
    assert not (tmp_path / "out").exists()


def test_one_of_another_version(
    cluster: Processes, client: Client, stored: Stored, tmp_path: Path
) -> None:
    old = python_without_the_package(tmp_path / "old", "0.0.9")
    cluster.add_workers(1)
    cluster.add_worker_of(old, **BARE)
    client.wait_for_workers(2, timeout=120)
    (wrong,) = (w for w, there in client.run(version, "dask-labelqc").items() if there != OURS)
    message = re.escape(f"1 of 2 workers cannot run dask-labelqc {OURS}: {wrong} has 0.0.9; ")
    with pytest.raises(InputError, match=message):
        audit(stored, tmp_path / "out", client=client)
    assert not (tmp_path / "out").exists()


SEVEN = """
import asyncio, sys
from distributed import Worker

async def work():
    workers = await asyncio.gather(*(Worker(sys.argv[1], nthreads=1) for _ in range(7)))
    await asyncio.gather(*(worker.finished() for worker in workers))

asyncio.run(work())
"""


def test_many_are_counted(cluster: Processes, client: Client, tmp_path: Path) -> None:
    python = python_without_the_package(tmp_path / "bare")
    cluster.add_worker_of(python, SEVEN, **BARE)
    client.wait_for_workers(7, timeout=120)
    with pytest.raises(InputError, match=r"7 of 7 workers .* lacks it, and 2 more; ") as error:
        check_workers(client)
    assert len(re.findall(ADDRESS, str(error.value))) == 5


def test_no_worker_comes(client: Client) -> None:
    setting = "distributed.scheduler.no-workers-timeout"
    message = rf"no worker has joined the scheduler at {ADDRESS} within 1s; .* {setting} "
    with (
        dask.config.set({setting: "1s"}),
        pytest.raises(InputError, match=message),
    ):
        check_workers(client)
    assert not client.futures


def test_a_worker_that_comes_late(
    cluster: Processes, client: Client, stored: Stored, tmp_path: Path
) -> None:
    assert not client.nthreads()
    late = threading.Timer(1, cluster.add_workers, kwargs={"wait": False})
    late.start()
    audit(stored, tmp_path / "out", client=client)
    late.join()
    check(tmp_path / "out", CASE)


def test_a_cluster_that_has_no_worker_yet(stored: Stored, tmp_path: Path) -> None:
    with open_local(1, minimum=0) as client:
        assert not client.nthreads()
        audit(stored, tmp_path / "out", client=client)
        assert os.getpid() not in client.run(os.getpid).values()
    check(tmp_path / "out", CASE)
