"""The memory formula against a worker process that audits 300 MB of predictions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr

from dask_labelqc.pipeline import audit_zarr, plan_audit
from tests.clusters import local_cluster
from tests.pipeline.datasets import Stored

SHAPE = (24, 12, 512, 512)


def highest_memory() -> int:
    """Peak of this process alone; `ru_maxrss` begins at that of the process it was forked from."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def write_large(path: Path, wrong: float) -> Stored:
    """Smooth predictions, and a share of the labels wrong."""
    rng = np.random.default_rng(0)
    images, classes, *size = SHAPE
    coarse = rng.integers(0, classes, [n // 8 for n in size])
    likely = coarse.repeat(8, 0).repeat(8, 1)
    probs = np.full((1, classes, *size), 0.4 / (classes - 1), np.float32)
    np.put_along_axis(probs, likely[None, None], np.float32(0.6), 1)
    group = zarr.open_group(path, mode="w")
    labels = group.create_array("labels", shape=(images, *size), chunks=(1, *size), dtype="u1")
    stored = group.create_array("pred_probs", shape=SHAPE, chunks=(1, *SHAPE[1:]), dtype="f4")
    for i in range(images):
        mistaken = rng.random(likely.shape) < wrong
        labels[i] = np.where(mistaken, (likely + 1) % classes, likely)
        stored[i] = probs[0]
    return Stored(path / "labels", path / "pred_probs")


@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize(("wrong", "dense"), [(0.05, False), (0.05, True), (0.15, False)])
def test_the_peak_stays_below_the_formula(wrong: float, dense: bool, tmp_path: Path) -> None:
    stored = write_large(tmp_path / "in", wrong)
    plan = plan_audit(*stored, scores=dense, predicted=dense)
    formula = plan.process_bytes + plan.worker_bytes
    with local_cluster(fresh=True) as client:
        report = audit_zarr(
            *stored,
            tmp_path / "out",
            client=client,
            progress=False,
            write_pixel_scores=dense,
            write_predicted_label=dense,
        )
        (peak,) = client.run(highest_memory).values()
    print(f"wrong {wrong}, dense {dense}: peak {peak / 2**20:.0f}, formula {formula / 2**20:.0f}")
    assert report.num_issues > 0.9 * wrong * report.num_pixels
    assert peak < formula
    assert formula < 2 * peak  # and it is of use
