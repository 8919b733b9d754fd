"""Two jobs on one output, for real and many times: started at one instant, frozen and woken up.

``python -m tests.pipeline.one_writer`` runs them as often as the numbers below say, and prints how
often each ended as it must. Every job is a process of its own, forked from one that has the
packages and kernels loaded.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import zarr

from dask_labelqc import plan as blocks
from dask_labelqc.errors import OutputError
from dask_labelqc.pipeline import audit_zarr, lease
from dask_labelqc.pipeline.identity import own_identity
from dask_labelqc.storage.stores import open_store
from tests.clusters import Processes, is_busy, processes, wait_for
from tests.forks import Fork
from tests.object_store.servers import KEY_ID, SECRET, serve_conditional_s3
from tests.pipeline.datasets import Stored, write_case
from tests.pipeline.progress import At
from tests.strategies import make_case

LOCAL_PAIRS, S3_PAIRS, FREEZES = 100, 50, 20
CASE = make_case(130, (12, 8, 8), 3)
PARAMETERS: tuple[dict[str, Any], ...] = ({}, {"temperature": 0.2})
FORK = get_context("fork")
REFUSALS = ("is being written by another job", "exists already")


@dataclass(frozen=True)
class Ended:
    """How a job ended: the text of its error, None if it came to the end."""

    error: str | None
    parameters: dict[str, Any]


def run_job(stored: Stored, output: str, pipe: Any = None, **arguments: Any) -> None:
    """Audit in this process, and tell how it went."""
    blocks.BLOCK_BYTES = 1
    error: str | None = None
    try:
        quiet: dict[str, Any] = {"progress": False, "group_bytes": 1, "n_jobs": 2}
        audit_zarr(*stored, output, **(quiet | arguments))
    except OutputError as raised:
        error = str(raised)
    if pipe is not None:
        pipe.send(error)


# Starts at the same instant


def start_pair(stored: Stored, output: str, **arguments: Any) -> list[Ended]:
    """Start two jobs with other parameters at one instant, and return how they ended."""
    instant = FORK.Barrier(2)
    started = []
    for parameters in PARAMETERS:
        here, there = FORK.Pipe(duplex=False)

        def job(pipe: Any = there, parameters: dict[str, Any] = parameters) -> None:
            instant.wait()
            run_job(stored, output, pipe, **parameters, **arguments)

        process = FORK.Process(target=job)
        process.start()
        started.append((process, here, parameters))
    ended = []
    for process, pipe, parameters in started:
        assert pipe.poll(120), "a job hangs"
        ended.append(Ended(pipe.recv(), parameters))
        process.join()
    return ended


def one_of_two(ended: list[Ended], result: zarr.Group, expected: dict[float, Path]) -> bool:
    """Say if one job was refused in clear words, and the output is the other's alone."""
    refused = [it for it in ended if it.error is not None]
    (winner,) = [it for it in ended if it.error is None] or [None]
    if winner is None or len(refused) != 1 or not any(r in refused[0].error for r in REFUSALS):
        print("not one of two:", [it.error for it in ended])
        return False
    temperature = winner.parameters.get("temperature", 0.1)
    whole = zarr.open_group(expected[temperature], mode="r")
    same = set(result.array_keys()) == set(whole.array_keys()) and all(
        (result[name][...] == whole[name][...]).all() for name in whole.array_keys()
    )
    attributes = result.attrs["temperature"], result.attrs["status"]
    return same and attributes == (temperature, "complete")


@contextmanager
def expected_outputs(stored: Stored, path: Path) -> Iterator[dict[float, Path]]:
    found = {}
    for parameters in PARAMETERS:
        temperature = parameters.get("temperature", 0.1)
        found[temperature] = path / f"whole-{temperature}"
        run_job(stored, str(found[temperature]), **parameters)
    yield found


def local_pairs(count: int, path: Path) -> int:
    """Return how many of so many pairs ended well, by turns fresh and overwriting."""
    stored, good = write_case(path / "in", CASE), 0
    with expected_outputs(stored, path) as expected:
        for i in range(count):
            output, overwrite = path / f"out{i}", i % 2 == 1
            if overwrite:
                run_job(stored, str(output), ignore_index=0)
            ended = start_pair(stored, str(output), overwrite=overwrite)
            good += one_of_two(ended, zarr.open_group(output, mode="r"), expected)
            good -= (output / "checkpoint").exists()
    return good


def s3_pairs(count: int, path: Path) -> int:
    """Do the same on an S3 server, which knows conditional writes."""
    stored, good = write_case(path / "in", CASE), 0
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    with expected_outputs(stored, path) as expected, serve_conditional_s3() as server:
        options = {"endpoint": server.endpoint, "region": "us-east-1"}
        for i in range(count):
            output, overwrite = f"s3://bucket/out{i}", i % 2 == 1
            if overwrite:
                in_another_process(run_job, stored, output, ignore_index=0, storage_options=options)
            ended = start_pair(stored, output, overwrite=overwrite, storage_options=options)
            good += in_another_process(_judge, ended, output, options, expected)
    return good


def _judge(ended: list[Ended], output: str, options: dict[str, Any], expected: Any) -> bool:
    return one_of_two(ended, zarr.open_group(open_store(output, options), mode="r"), expected)


def in_another_process(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call a function in a fork: the client of object stores does not outlive one."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: there.send(function(*args, **keywords)))
    process.start()
    assert here.poll(120), "it hangs"
    result = here.recv()
    process.join()
    return result


# Frozen writers


def everything(output: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, with its time, and every folder: what nobody touches stays equal."""
    return {
        str(path.relative_to(output)): (
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mtime_ns if path.is_file() else 0,
        )
        for path in output.rglob("*")
        if path.suffix != ".partial"
    }


def untouched(output: Path, before: dict[str, tuple[bytes, int]]) -> bool:
    after = everything(output)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    left = [path.name for path in output.rglob("*.partial")]
    if changed or left:
        print("touched:", changed, left)
    return not changed and not left


def take_over(stored: Stored, output: Path, overwrite: bool) -> None:
    """Finish the output in the place of a job that sleeps: the same, or another audit."""
    how: dict[str, Any] = {"ignore_index": 0, "overwrite": True} if overwrite else {"resume": True}
    run_job(stored, str(output), **how)


def job_freezes(stage: str, count: int, path: Path) -> int:
    """Stop jobs in a stage, give their outputs to others, and wake them up.

    The jobs say that they are of another PID namespace: a process that can be seen to live is not
    taken over, stopped or not.
    """
    stored, beat = write_case(path / "in", CASE), lease.BEAT
    lease.BEAT = 0.1
    try:
        return sum(_frozen_job(stage, i, stored, path / f"out{i}") for i in range(count))
    finally:
        lease.BEAT = beat


def _frozen_job(stage: str, number: int, stored: Stored, output: Path) -> bool:
    here, there = FORK.Pipe(duplex=False)

    def job() -> None:
        lease.own_identity = lambda: own_identity() | {"pid_namespace": "pid:[1]"}
        stop = At(1 + number // 2, lambda: os.kill(os.getpid(), signal.SIGSTOP), stage)
        run_job(stored, str(output), there, progress=stop)

    process = FORK.Process(target=job)
    process.start()
    stat = Path(f"/proc/{process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    take_over(stored, output, overwrite=number % 2 == 1)
    before = everything(output)
    os.kill(process.pid or 0, signal.SIGCONT)
    assert here.poll(120), "a job hangs"
    error = here.recv()
    process.join()
    if error is None or "was taken over by another job" not in error:
        print("woke up and ended so:", error)
        return False
    return untouched(output, before)


JOB = """
import json, os, signal, sys
from distributed import Client
from tests.pipeline.one_writer import run_job
from tests.pipeline.progress import At

stage, count, address, labels, pred_probs, output, *workers = sys.argv[1:]

def freeze():
    for worker in workers:
        os.kill(int(worker), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)

with Client(address, set_as_default=False) as client:
    stop = At(int(count), freeze, stage)
    run_job((labels, pred_probs), output, progress=stop, client=client)
"""


def worker_freezes(stage: str, count: int, path: Path) -> int:
    """Kill jobs and stop their workers in a stage, give the outputs to others, and wake them up."""
    stored = write_case(path / "in", CASE)
    with processes(path / "cluster") as cluster:
        cluster.add_workers(2, "--nthreads", "2")
        return sum(
            _frozen_workers(stage, i, stored, path / f"out{i}", cluster) for i in range(count)
        )


def _frozen_workers(
    stage: str, number: int, stored: Stored, output: Path, cluster: Processes
) -> bool:
    workers = [str(worker.pid) for worker in cluster.workers]
    places = [stage, str(1 + number // 2), cluster.address, *map(str, stored), str(output)]
    with Fork(sys.executable, "-c", JOB, *places, *workers) as process:
        assert process.wait(240) == -signal.SIGKILL
    take_over(stored, output, overwrite=number % 2 == 1)
    before = everything(output)
    for worker in cluster.workers:
        os.kill(worker.pid, signal.SIGCONT)
    with cluster.client() as client:
        wait_for(lambda: not is_busy(client))
    return untouched(output, before)


def main() -> None:
    """Run all of them, or as many as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, count in (("local", LOCAL_PAIRS), ("s3", S3_PAIRS), ("freezes", FREEZES)):
        parser.add_argument(f"--{name}", type=int, default=count)
    asked = parser.parse_args()
    runs: list[tuple[str, int, Callable[[int, Path], int]]] = [
        ("pairs on disk", asked.local, local_pairs),
        ("pairs on S3", asked.s3, s3_pairs),
    ]
    for stage in ("summarize", "paint"):
        runs += [
            (f"jobs frozen in {stage}", asked.freezes, partial(job_freezes, stage)),
            (f"workers frozen in {stage}", asked.freezes, partial(worker_freezes, stage)),
        ]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, count, run in runs:
            path = Path(folder, name.replace(" ", "-"))
            path.mkdir()
            good = run(count, path)
            failed |= good != count
            print(f"{name}: {good} of {count}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
