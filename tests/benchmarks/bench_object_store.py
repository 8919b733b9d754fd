"""The job from an S3 server against the same data on local disk, and with latency against none."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

from distributed import Client, LocalCluster

from dask_labelqc.pipeline import audit_zarr
from tests.benchmarks.data import IMAGE_BYTES, write_zarr
from tests.benchmarks.table import Row, medians, print_rows
from tests.object_store.proxy import proxy
from tests.object_store.servers import KEY_ID, SECRET, serve_s3

LATENCY = 0.05
"""Seconds more for each request."""
PLAIN = ("--no-checksum", "--buffer-size", "0")
"""The server is not to hash again what it reads, and not to copy it twice."""


def rows(root: Path, gigabytes: float = 4, runs: int = 3) -> list[Row]:
    bucket = root / "object-store" / "bucket"
    num_images = math.ceil(gigabytes * 1e9 / IMAGE_BYTES)
    bucket.mkdir(parents=True, exist_ok=True)
    write_zarr(bucket / "in.zarr", num_images)
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    with (
        patch.dict(os.environ, keys),
        serve_s3(bucket.parent, *PLAIN) as server,
        proxy(server.port) as near,
        proxy(server.port, delay=LATENCY) as far,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):

        def audit(base: str, output: str, endpoint: str | None = None) -> None:
            audit_zarr(
                f"{base}/in.zarr/labels",
                f"{base}/in.zarr/pred_probs",
                output,
                overwrite=True,
                client=client,
                progress=False,
                storage_options=endpoint and {"endpoint": endpoint, "one_writer": True},
            )

        functions = {
            "disk": lambda: audit(str(bucket), str(root / "audit.zarr")),
            "server": lambda: audit("s3://bucket", "s3://bucket/out.zarr", server.endpoint),
            "near": lambda: audit("s3://bucket", "s3://bucket/out.zarr", near.endpoint),
            "far": lambda: audit("s3://bucket", "s3://bucket/out.zarr", far.endpoint),
        }
        for function in functions.values():
            function()  # the kernels are loaded, and the files in the page cache
        taken = medians(runs, **functions)
        requests = sum(far.requests.values()) / (runs + 1)
    for path in (bucket / "out.zarr", root / "audit.zarr"):
        shutil.rmtree(path)
    size = num_images * IMAGE_BYTES / 1e9
    how = f"{size:.1f} GB, zstd, 2 processes, medians of {runs}"
    return [
        Row(
            "throughput from the S3 server / from local disk",
            "0.6",
            f"{taken['disk'] / taken['server']:.2f}",
            f"{how}: {taken['server']:.1f} s against {taken['disk']:.1f} s; the server shares "
            "the cores",
        ),
        Row(
            "throughput at 50 ms a request / without, from the S3 server",
            "0.6",
            f"{taken['near'] / taken['far']:.2f}",
            f"{how}, by the same proxy: {taken['far']:.1f} s against {taken['near']:.1f} s, "
            f"{requests:.0f} requests",
        ),
    ]


if __name__ == "__main__":
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 8
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    root = Path("benchmark-data")
    root.mkdir(exist_ok=True)
    print_rows(rows(root, size, count), "object store")
