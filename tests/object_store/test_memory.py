"""The memory formula where blocks are read ahead."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_labelqc.pipeline import audit_zarr, plan_audit
from tests.clusters import local_cluster
from tests.object_store.servers import Server
from tests.pipeline.large import highest_memory, write_large


@pytest.mark.usefixtures("keys")
def test_the_peak_stays_below_the_formula(s3: Server, bucket: Path) -> None:
    write_large(bucket / "in.zarr", 0.05)
    urls = [f"s3://bucket/in.zarr/{name}" for name in ("labels", "pred_probs")]
    options = {"endpoint": s3.endpoint, "one_writer": True}
    plan = plan_audit(*urls, storage_options=options)
    formula = plan.process_bytes + plan.worker_bytes
    with local_cluster(fresh=True) as client:
        audit_zarr(
            *urls, "s3://bucket/out.zarr", client=client, storage_options=options, progress=False
        )
        (peak,) = client.run(highest_memory).values()
    print(f"peak {peak / 2**20:.0f}, formula {formula / 2**20:.0f}")
    assert peak < formula
    assert formula < 2 * peak  # and it is of use
