"""The job and the lazy mask against only reading the predictions, on two worker processes."""

from __future__ import annotations

import math
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster

from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.pipeline.images import ImageInputs, open_images
from dask_labelqc.pipeline.window import open_workers, run_window
from dask_labelqc.segmentation import find_label_issues
from tests.benchmarks.data import IMAGE_BYTES, first_images, write_zarr
from tests.benchmarks.table import Row, medians, print_rows


def read_groups(inputs: ImageInputs, client: Client) -> None:
    """Only read and decode: the job's groups, its reader, its window."""
    with open_workers(client) as workers:
        numbers = range(inputs.plan.num_groups)
        for _, outcome in run_window(workers, partial(_read_group, inputs), numbers):
            assert outcome.error is None, outcome.error


def _read_group(inputs: ImageInputs, number: int) -> None:
    position = [int(i) for i in np.unravel_index(number, inputs.plan.grid)]
    region = inputs.plan.group_box(position)
    with inputs.reader.for_region(region, inputs.plan.blocks(region)) as read:
        for block in inputs.plan.blocks(region):
            read(block)


def _drop(block: Any) -> Any:
    return np.zeros((1,) * block.ndim, np.uint8)


def read_plainly(path: Path) -> None:
    """Read every chunk through `da.from_zarr`."""
    array = da.from_zarr(str(path / "pred_probs"))
    chunks = tuple((1,) * n for n in array.numblocks)
    da.map_blocks(_drop, array, chunks=chunks, dtype=np.uint8).sum().compute()


def write_mask(path: Path, target: Path) -> None:
    """Write the lazy mask to Zarr."""
    mask = find_label_issues(
        zarr.open_array(path / "labels", mode="r"), zarr.open_array(path / "pred_probs", mode="r")
    )
    out = zarr.create_array(
        target, shape=mask.shape, chunks=mask.chunksize, dtype=bool, overwrite=True
    )
    da.store(mask, out, lock=False)


def rows(root: Path, gigabytes: float = 8, runs: int = 3) -> list[Row]:
    path = root / f"job-{gigabytes:g}.zarr"
    num_images = math.ceil(gigabytes * 1e9 / IMAGE_BYTES)
    write_zarr(root / "job-12.zarr", int(12e9 / IMAGE_BYTES))
    first_images(root / "job-12.zarr", path, num_images)
    labels, pred_probs = str(path / "labels"), str(path / "pred_probs")
    inputs = open_images(labels, pred_probs, Options.of(outputs=every_output()))
    output = root / "audit.zarr"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        functions = {
            "job": lambda: audit_zarr(
                labels, pred_probs, output, overwrite=True, client=client, progress=False
            ),
            "read": lambda: read_groups(inputs, client),
            "plain": lambda: read_plainly(path),
            "lazy": lambda: write_mask(path, root / "mask.zarr"),
        }
        for function in functions.values():
            function()
        taken = medians(runs, **functions)
    for name in ("audit.zarr", "mask.zarr"):
        shutil.rmtree(root / name)
    size = num_images * IMAGE_BYTES / 1e9
    how = (
        f"{size:.1f} GB, zstd, 2 processes, medians of {runs}: job {taken['job']:.1f} s, "
        f"only reading {taken['read']:.1f} s, da.from_zarr {taken['plain']:.1f} s, "
        f"lazy mask {taken['lazy']:.1f} s"
    )
    return [
        Row(
            "job / only reading the same groups", "1.25", f"{taken['job'] / taken['read']:.2f}", how
        ),
        Row("job / plain da.from_zarr read", "0.9", f"{taken['job'] / taken['plain']:.2f}", how),
        Row(
            "lazy mask / plain da.from_zarr read",
            "1.1",
            f"{taken['lazy'] / taken['plain']:.2f}",
            how,
        ),
    ]


if __name__ == "__main__":
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 8
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    root = Path("benchmark-data")
    root.mkdir(exist_ok=True)
    print_rows(rows(root, size, count), "job")
