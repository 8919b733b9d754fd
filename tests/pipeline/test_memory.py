"""The memory formula against a worker process that audits 300 MB of predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_labelqc.pipeline import audit_zarr, plan_audit
from tests.clusters import local_cluster
from tests.pipeline.large import highest_memory, write_large


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
