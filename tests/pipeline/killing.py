"""Run a job in processes that are killed (SIGKILL) at given writes to the file system.

Started as a program of `tests.forks`; each run is a fork of it. The argument is JSON:
a list of runs: what to audit, and the number of the write or deletion at which it dies.
Prints JSON: the exit status of each run, negative for a signal; the first that lives is the last.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.forks import Fork, run, status_of_fork
from tests.pipeline.datasets import Stored


def run_killed(runs: Sequence[dict[str, Any]]) -> list[int]:
    """Return the exit status of each run, up to the first that had no write left to die at.

    Keys are output, kill_at, and arguments of `audit_zarr`; or job, the name of another one, whose
    inputs are places.
    """
    ran = run(sys.executable, "-m", "tests.pipeline.killing", json.dumps(runs))
    print(ran.err)
    assert ran.status == 0
    statuses: list[int] = json.loads(ran.out)
    return statuses


def start(run: dict[str, Any]) -> Fork:
    """Start a run, in a process group of its own: it is a fork of the process that is returned."""
    command = [sys.executable, "-m", "tests.pipeline.killing", json.dumps([run])]
    return Fork(*command, session=True)


def kill_all(process: Fork) -> None:
    """Kill a process that was started, and its fork."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def paths(stored: Stored) -> dict[str, str]:
    return {"labels": str(stored.labels), "pred_probs": str(stored.pred_probs)}


def count_records(output: Path) -> int:
    chunks = (output / "checkpoint" / "summaries").glob("c/*")
    return sum(chunk.name.isdigit() for chunk in chunks)


def die_at_write(kill_at: int, kinds: Sequence[str]) -> None:
    """Count files written half, files put in place, and files deleted; die at one of them."""
    count = 0

    def step(kind: str) -> None:
        nonlocal count
        count += kind in kinds
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    replace, unlink = Path.replace, os.unlink

    def replaced(self: Path, target: Path) -> Path:
        if count == kill_at - 1 and "half" in kinds:
            os.truncate(self, self.stat().st_size // 2)
        step("half")
        result = replace(self, target)
        step("put")
        return result

    def unlinked(*args: Any, **keywords: Any) -> None:
        unlink(*args, **keywords)
        step("deleted")

    Path.replace = replaced  # type: ignore[method-assign]
    os.unlink = unlinked


def _run(
    kill_at: int = 0,
    kinds: Sequence[str] = ("half", "put", "deleted"),
    scheduler: str | None = None,
    job: str = "audit_zarr",
    places: Sequence[str] = (),
    **arguments: Any,
) -> None:
    from dask_labelqc import pipeline
    from dask_labelqc import plan as blocks
    from dask_labelqc.cluster import open_client

    if kill_at:
        die_at_write(kill_at, kinds)
    blocks.BLOCK_BYTES = 1
    if job == "audit_zarr":
        arguments = {"group_bytes": 1} | arguments
    output = arguments.pop("output")
    with open_client(scheduler, workers=None if scheduler else 0) as client:
        run = partial(getattr(pipeline, job), *places, output=output, progress=False)
        run(n_jobs=2, client=client, **arguments)


def main() -> None:
    statuses = []
    for each in json.loads(sys.argv[1]):
        statuses.append(status_of_fork(partial(_run, **each)))
        if "kill_at" in each and statuses[-1] == 0:
            break
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
