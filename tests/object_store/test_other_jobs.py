"""Jobs on examples and boxes, all of it in an object store; killed, and started again."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc import object_detection
from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.pipeline import audit_boxes_zarr, audit_examples_zarr
from tests.forks import Fork, run
from tests.object_store.proxy import proxy
from tests.object_store.servers import Server
from tests.pipeline.datasets import files
from tests.pipeline.others import (
    DENSE,
    check_boxes,
    check_examples,
    make_boxes,
    make_examples,
    write_boxes,
    write_examples,
)

pytestmark = pytest.mark.usefixtures("keys", "smallest_groups")

RUN = """
import json, sys
from dask_labelqc import pipeline
from dask_labelqc import plan as blocks

blocks.BLOCK_BYTES = 1
job, places, arguments = json.loads(sys.argv[1])
getattr(pipeline, job)(*places, resume=True, progress=False, n_jobs=2, **arguments)
"""


def options(server: Any) -> dict[str, Any]:
    return {"endpoint": server.endpoint, "one_writer": True}


def run_and_kill(
    job: str, inputs: list[str], s3: Server, arguments: dict, stops: list[str]
) -> None:
    """Run a job in a process that is killed when it asks for these objects, then to its end."""
    with proxy(s3.port, delay=0.02) as slow:
        about = arguments | {"storage_options": options(slow)}
        command = json.dumps([job, [*inputs, "s3://bucket/out"], about])
        for stop in stops:
            with Fork(sys.executable, "-c", RUN, command) as process:
                while not any(stop in path for _, path in slow.paths):
                    assert process.poll() is None
                    time.sleep(0.001)
                process.kill()
        ran = run(sys.executable, "-c", RUN, command)
        assert ran.status == 0, ran.err


def test_examples(s3: Server, bucket: Path) -> None:
    labels, probs = make_examples(80)
    write_examples(bucket / "in", labels, probs)
    inputs = ["s3://bucket/in/labels", "s3://bucket/in/pred_probs"]
    how = {"group_bytes": 1, **DENSE}
    report = audit_examples_zarr(
        *inputs, "s3://bucket/whole", progress=False, storage_options=options(s3), **how
    )
    expected = find_label_issues_batched(labels, probs, verbose=False)
    check_examples(report.open().load(), expected, labels, probs)
    stops = ["in/pred_probs/c/6/", "out/label_issues/c/5"]
    run_and_kill("audit_examples_zarr", inputs, s3, how, stops)
    assert files(bucket / "out") == files(bucket / "whole")


def test_boxes(s3: Server, bucket: Path) -> None:
    boxes = make_boxes(81)
    write_boxes(bucket / "in", boxes)
    how = {"block_boxes": 40}
    report = audit_boxes_zarr(
        "s3://bucket/in", "s3://bucket/whole", progress=False, storage_options=options(s3), **how
    )
    check_boxes(report.open().load(), object_detection.audit(boxes))
    stops = ["out/checkpoint/lists/c/3", "out/image_score/c/2"]
    run_and_kill("audit_boxes_zarr", ["s3://bucket/in"], s3, how, stops)
    assert files(bucket / "out") == files(bucket / "whole")
    found = xr.open_zarr(bucket / "out").load()
    np.testing.assert_array_equal(found.given_offsets, boxes.given_offsets)
    assert "checkpoint" not in zarr.open_group(bucket / "out", mode="r")
