"""Run a job in processes that are killed (SIGKILL) at given writes to the file system.

Started as a script: the packages are imported once, then each run is a fork. The argument is JSON:
what to audit, and a list of runs, each with the number of the write or deletion at which it dies.
Prints JSON: the exit status of each run, negative for a signal.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_killed(runs: Sequence[dict[str, Any]]) -> list[int]:
    """Return the exit status of each run.

    Keys are output, kill_at, and arguments of `audit_zarr`; or job, the name of another one, whose
    inputs are places.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.killing", json.dumps(runs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    print(done.stderr)
    statuses: list[int] = json.loads(done.stdout)
    return statuses


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
    from dask_labelqc.cluster import open_client
    from dask_labelqc.graph import blocks

    if kill_at:
        die_at_write(kill_at, kinds)
    blocks.BLOCK_BYTES = 1
    if job == "audit_zarr":
        arguments = {"group_bytes": 1} | arguments
    output = arguments.pop("output")
    with open_client(scheduler, workers=0) as client:
        run = partial(getattr(pipeline, job), *places, output=output, progress=False)
        run(n_jobs=2, client=client, **arguments)


def _fork(run: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    faulthandler.dump_traceback_later(60, exit=True)  # a run that hangs says where
    try:
        _run(**run)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    import dask_labelqc.pipeline

    assert dask_labelqc.pipeline
    runs = json.loads(sys.argv[1])
    for job in {run.get("job", "audit_zarr") for run in runs}:
        _load_kernels(job)
    print(json.dumps([_fork(run) for run in runs]))


def _load_kernels(job: str) -> None:
    import numpy as np

    from dask_labelqc import classification, object_detection, segmentation

    if job == "audit_zarr":
        segmentation.audit(np.zeros((1, 1, 1), int), np.full((1, 2, 1, 1), 0.5, np.float32))
    elif job == "audit_examples_zarr":
        probs = np.full((2, 2), 0.5, np.float32)
        classification.find_label_issues_batched(np.arange(2), probs, verbose=False)
    else:
        boxes = np.array([[0.0, 0, 9, 9]])
        labels = [{"bboxes": boxes, "labels": np.array([0])}]
        object_detection.audit(labels, [[np.append(boxes, [[0.9]], axis=1)]])


if __name__ == "__main__":
    main()
