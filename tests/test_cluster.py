"""Openers of clients: each of a real cluster, as far as one can be had on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import dask.config
import pytest
import trustme
from distributed import Client, default_client

from dask_labelqc import cluster
from dask_labelqc.cluster import (
    open_client,
    open_gateway,
    open_kubernetes,
    open_local,
    open_pbs,
    open_slurm,
)
from dask_labelqc.errors import InputError
from dask_labelqc.pipeline.window import open_workers, run_window
from tests import forks
from tests.clusters import forking, processes
from tests.forks import BIN
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.strategies import make_case

CASE = make_case(101, (6, 4, 6), 3)
SCHEDULER = {"host": "127.0.0.1", "dashboard_address": ":0"}


@pytest.fixture(autouse=True)
def forked_workers() -> Iterator[None]:
    with forking():
        yield


def workers_of(client: Client) -> list[dict]:
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def no_default_client() -> bool:
    with pytest.raises(ValueError, match="No clients found"):
        default_client()
    return dask.config.get("scheduler", None) is None


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE)


# This machine


def test_no_client_for_threads() -> None:
    with open_client(workers=0) as client:
        assert client is None


def test_local_workers() -> None:
    with open_client(workers=2, memory_limit="300MB", threads=3) as client:
        assert client is not None
        assert [w["nthreads"] for w in workers_of(client)] == [3, 3]
        assert [w["memory_limit"] for w in workers_of(client)] == [300_000_000] * 2
        address = client.scheduler.address
        with open_client(scheduler=address) as other:
            assert other is not None
            assert other.submit(abs, -3).result() == 3
        assert client.submit(abs, -4).result() == 4  # the other one has left the cluster alone


def test_sized_to_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CPU_COUNT", 8)
    monkeypatch.setattr(cluster, "MEMORY_LIMIT", 2_500_000_000)
    with open_client() as client:
        assert client is not None
        assert [w["memory_limit"] for w in workers_of(client)] == [1_250_000_000] * 2


def test_the_default_inside_the_block_and_only_there() -> None:
    with open_local(1) as client:
        assert default_client() is client
        da.ones(3, chunks=1).sum().compute()
        names = client.run(lambda dask_worker: dask_worker.state.executed_count)
        assert sum(names.values()) > 0
    assert no_default_client()


def test_a_local_cluster_grows_with_a_job_and_shrinks() -> None:
    deadline = time.monotonic() + 120

    def waits_until(client: Client, workers: int) -> Iterator[float]:
        while len(client.nthreads()) != workers:
            assert time.monotonic() < deadline
            yield 0.1

    with open_local(2, minimum=0) as client:
        assert len(client.nthreads()) == 0
        client.submit(abs, 1).result()
        assert len(client.nthreads()) == 1
        with open_workers(client) as threads:
            # Two tasks at a time for a thread are all that the scheduler knows of.
            for _ in run_window(threads, time.sleep, waits_until(client, 2)):
                pass
        for seconds in waits_until(client, 0):
            time.sleep(seconds)


@pytest.mark.parametrize("limit", ["lots", "1 parsec"])
def test_a_limit_that_cannot_be_read(limit: str) -> None:
    message = re.escape(f"workers, memory_limit: 2, {limit}: ")
    with pytest.raises(InputError, match=message), open_client(workers=2, memory_limit=limit):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": -1}, "workers: -1 is not at least 1"),
        ({"workers": 2, "minimum": 3}, "minimum: 3 is not between 0 and workers, 2"),
        ({"workers": 2, "minimum": -1}, "minimum: -1 is not between 0 and workers, 2"),
        ({"threads": 0}, "threads: 0 is not at least 1"),
    ],
)
def test_numbers_of_workers_that_cannot_be(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message), open_local(**arguments):
        pass


# A scheduler that runs


def test_no_scheduler() -> None:
    message = "scheduler: no answer from 'tcp://127.0.0.1:9': Timed out"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(InputError, match=message),
        open_client("tcp://127.0.0.1:9"),
    ):
        pass
    assert no_default_client()


def test_an_address_that_is_none() -> None:
    with (
        pytest.raises(InputError, match="scheduler: no answer from 'gopher://x'"),
        open_client("gopher://x"),
    ):
        pass
    assert no_default_client()


def test_an_address_and_a_file(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="scheduler, scheduler_file: give one of them"),
        open_client("tcp://127.0.0.1:9", scheduler_file=tmp_path / "scheduler.json"),
    ):
        pass


def test_no_file_of_a_scheduler(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    message = re.escape(f"scheduler_file: {file}: no such file, after 300ms")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300ms"}),
        pytest.raises(InputError, match=message),
        open_client(scheduler_file=file),
    ):
        pass


def test_by_file_by_setting_and_by_address(tmp_path: Path) -> None:
    def id_of(**arguments: object) -> str:
        with open_client(**arguments) as client:
            assert client is not None
            assert default_client() is client
            return str(client.scheduler_info(n_workers=0)["id"])

    found: list[str] = []
    early = threading.Thread(
        target=lambda: found.append(id_of(scheduler_file=tmp_path / "cluster/scheduler-1.json"))
    )
    early.start()  # before there is a file
    with processes(tmp_path / "cluster") as cluster:
        early.join()
        found.append(id_of(scheduler=cluster.address))
        with dask.config.set({"scheduler-address": cluster.address}):
            found.append(id_of())
            with open_client(workers=0) as client:
                assert client is None
    assert len(found) == 3
    assert len(set(found)) == 1
    assert no_default_client()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Dask's settings for TLS as environment, with an authority and certificates made here."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    settings = {f"{prefix}CA_FILE": str(folder / "ca.pem")}
    for role in ("scheduler", "worker", "client"):
        issued = authority.issue_cert("127.0.0.1")
        key, certificate = folder / f"{role}-key.pem", folder / f"{role}.pem"
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(certificate)
        settings[f"{prefix}{role.upper()}__KEY"] = str(key)
        settings[f"{prefix}{role.upper()}__CERT"] = str(certificate)
    return settings | {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}


@pytest.fixture
def tls(tmp_path: Path, certificates: dict[str, str]) -> Iterator[str]:
    """The address of a scheduler that speaks TLS, with a worker."""
    with processes(tmp_path / "cluster", "--protocol", "tls://", **certificates) as cluster:
        cluster.add_workers(1, wait=False, **certificates)
        yield cluster.address


def run_audit(stored: Stored, output: Path, address: str, **environment: str) -> tuple[int, str]:
    command = [BIN / "dask", "labelqc", "audit", *stored, output, "--quiet"]
    ran = forks.run(*command, "--scheduler", address, **environment)
    return ran.status, ran.err


def test_an_audit_over_tls(
    tls: str, certificates: dict[str, str], stored: Stored, tmp_path: Path
) -> None:
    assert tls.startswith("tls://")
    assert run_audit(stored, tmp_path / "out", tls, **certificates) == (0, "")
    check(tmp_path / "out", CASE)
    audit(stored, tmp_path / "threads", group_bytes=10**9)
    ours, theirs = files(tmp_path / "threads"), files(tmp_path / "out")
    assert {n for n in theirs if ours.get(n) != theirs[n]} <= {"zarr.json"}


@pytest.mark.parametrize("case", ["no certificate", "of another authority", "not encrypted"])
def test_a_scheduler_that_does_not_trust(
    case: str, tls: str, certificates: dict[str, str], stored: Stored, tmp_path: Path
) -> None:
    address, settings = tls, certificates
    if case == "no certificate":
        settings = {}
    elif case == "of another authority":
        other = trustme.CA()
        issued = other.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "other.pem")
        settings = certificates | dict.fromkeys(
            (n for n in certificates if "CLIENT" in n), str(tmp_path / "other.pem")
        )
    else:
        address = tls.replace("tls:", "tcp:")
    status, said = run_audit(stored, tmp_path / "out", address, **settings)
    assert status == 1
    assert re.fullmatch(f"Error: --scheduler: no answer from '{address}': .+\n", said)
    assert not (tmp_path / "out").exists()


# Extras


@pytest.mark.parametrize(
    ("opener", "module", "message"),
    [
        (open_slurm, "dask_jobqueue", 'needs dask-jobqueue: pip install "dask-labelqc[jobqueue]"'),
        (open_pbs, "dask_jobqueue", 'needs dask-jobqueue: pip install "dask-labelqc[jobqueue]"'),
        (
            open_kubernetes,
            "dask_kubernetes",
            'needs dask-kubernetes: pip install "dask-labelqc[kubernetes]"',
        ),
        (open_gateway, "dask_gateway", 'needs dask-gateway: pip install "dask-labelqc[gateway]"'),
    ],
)
def test_an_extra_that_is_not_installed(
    opener: Any, module: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=re.escape(message)), opener(2):
        pass


@pytest.mark.parametrize("opener", [open_slurm, open_pbs, open_kubernetes, open_gateway])
def test_more_than_the_most(opener: Any) -> None:
    with (
        pytest.raises(InputError, match="minimum: 3 is not between 0 and maximum, 2"),
        opener(2, minimum=3),
    ):
        pass


# Batch systems


QSUB = """#!/bin/sh
# A batch system of one machine: runs the job at once, and says its number.
copy=$(mktemp -p {folder}) && cp "$1" "$copy"
setsid bash "$copy" >{folder}/job.log 2>&1 &
echo "$!.here"
"""
QDEL = """#!/bin/sh
kill -TERM -- "-$1"
"""


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"qsub": QSUB, "qdel": QDEL, "sbatch": QSUB, "scancel": QDEL}.items():
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("batch")
def test_jobs_that_are_submitted_for_an_audit(stored: Stored, tmp_path: Path) -> None:
    limits = {"memory": "1GB", "queue": "long", "walltime": "02:00:00"}
    with open_pbs(2, **limits, scheduler_options=SCHEDULER) as client:
        script = client.cluster.job_script()
        for line in ("-q long", "-l walltime=02:00:00", "-l select=1:ncpus=1:mem=954MB"):
            assert f"#PBS {line}\n" in script
        assert not client.nthreads()
        audit(stored, tmp_path / "out", client=client)
        for found in workers_of(client):
            assert found["memory_limit"] == pytest.approx(10**9, rel=0.01)
        jobs = set(client.run(os.getppid).values())
    check(tmp_path / "out", CASE)
    deadline = time.monotonic() + 30
    while jobs and time.monotonic() < deadline:
        jobs = {job for job in jobs if Path(f"/proc/{job}").exists()}
    assert not jobs


@pytest.mark.usefixtures("batch")
def test_jobs_by_setting_and_by_argument() -> None:
    import dask_jobqueue  # noqa: F401, brings the settings

    settings = {"cores": 4, "memory": "8GiB", "processes": 1, "queue": "short"}
    with dask.config.set({f"jobqueue.slurm.{name}": it for name, it in settings.items()}):
        with open_slurm(2, scheduler_options=SCHEDULER) as client:
            script = client.cluster.job_script()
        for line in ("-p short", "--cpus-per-task=4", "--mem=8G"):
            assert f"#SBATCH {line}\n" in script
        with open_slurm(
            2, cores=1, memory="2GiB", queue="long", scheduler_options=SCHEDULER
        ) as client:
            script = client.cluster.job_script()
        for line in ("-p long", "--cpus-per-task=1", "--mem=2G"):
            assert f"#SBATCH {line}\n" in script
    with open_slurm(2, scheduler_options=SCHEDULER) as client:
        assert "#SBATCH --cpus-per-task=1\n#SBATCH --mem=4G\n" in client.cluster.job_script()


@pytest.mark.parametrize(
    ("opener", "command"),
    [(open_slurm, "SLURMCluster: no sbatch"), (open_pbs, "PBSCluster: no qsub")],
)
def test_nothing_to_submit_with(opener: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(InputError, match=f"{command} here; jobs are submitted with it"),
        opener(2),
    ):
        pass


# Nobody there


def test_no_kubernetes(tmp_path: Path) -> None:
    # In a process of its own: dask-kubernetes warns of a cluster that it could not make.
    code = "from dask_labelqc.cluster import open_kubernetes\nwith open_kubernetes(2): pass"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"KUBECONFIG": str(tmp_path / "none")},
    )
    assert done.returncode == 1
    assert "InputError: name: no cluster 'labelqc' on Kubernetes: " in done.stderr


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9", "address: no cluster of the Gateway: Cannot connect"),
        (None, "address: no cluster of the Gateway: No dask-gateway address provided"),
    ],
)
def test_no_gateway(address: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message), open_gateway(2, address=address):
        pass
