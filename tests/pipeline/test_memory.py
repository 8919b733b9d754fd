"""The memory formula against a worker process that audits 300 MB of predictions."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dask_labelqc.pipeline import (
    audit_boxes_zarr,
    audit_examples_zarr,
    audit_zarr,
    plan_audit,
    plan_boxes_audit,
    plan_examples_audit,
)
from tests.clusters import local_cluster
from tests.pipeline.large import (
    highest_memory,
    write_large,
    write_large_boxes,
    write_large_examples,
)


@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize(("wrong", "dense"), [(0.05, False), (0.05, True), (0.15, False)])
def test_the_peak_stays_below_the_formula(wrong: float, dense: bool, tmp_path: Path) -> None:
    stored = write_large(tmp_path / "in", wrong)
    plan = plan_audit(*stored, write_pixel_scores=dense, write_predicted_label=dense)
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


@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize("kind", ["examples", "boxes"])
def test_the_peak_of_others_stays_below_the_formula(kind: str, tmp_path: Path) -> None:
    job: Any = audit_boxes_zarr
    if kind == "examples":
        dense = {"write_label_quality": True, "write_predicted_label": True}
        places: tuple[Path, ...] = write_large_examples(tmp_path / "in")
        plan: Any = plan_examples_audit(*places, **dense)
        job = partial(audit_examples_zarr, **dense)
    else:
        places = (write_large_boxes(tmp_path / "in"),)
        plan = plan_boxes_audit(*places)
    formula = plan.process_bytes + plan.worker_bytes
    with local_cluster(fresh=True) as client:
        job(*places, tmp_path / "out", client=client, progress=False)
        (peak,) = client.run(highest_memory).values()
    print(f"{kind}: peak {peak / 2**20:.0f}, formula {formula / 2**20:.0f}")
    assert peak < formula
    assert formula < 2 * peak  # and it is of use
