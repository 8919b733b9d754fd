"""The job and the lazy mask against a bare loop that decodes the same files, and plain reading."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.benchmarks.bare_loop import bare_loop
from tests.benchmarks.data import IMAGE_BYTES, write_zarr
from tests.benchmarks.table import Row, medians, print_rows
from tests.clusters import processes

PIXELS = 512 * 512
"""Of an image."""


def read_groups(inputs: ImageInputs, client: Client) -> None:
    """Only read and decode: the job's groups, its reader, its window."""
    with open_workers(client) as workers:
        numbers = range(inputs.plan.num_groups)
        for _, outcome in run_window(workers, partial(_read_group, inputs), numbers):
            assert outcome.error is None, outcome.error


def _read_group(inputs: ImageInputs, number: int) -> None:
    position = [int(i) for i in np.unravel_index(number, inputs.plan.grid)]
    region = inputs.plan.group_extent(position)
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


@contextmanager
def workers_of_the_command() -> Iterator[Client]:
    """Yield a client of two workers that `dask worker` has started, with Dask's defaults."""
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder, "cluster")) as cluster:
        cluster.add_workers(1, "--nworkers", "2", nanny=True)
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=60)
            yield client


def audit(path: Path, output: Path, client: Client | None = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eight bits do not sum to one
        audit_zarr(
            path / "labels",
            path / "pred_probs",
            output,
            overwrite=True,
            client=client,
            n_jobs=2,
            progress=False,
        )


def speed(path: Path, seconds: float) -> str:
    array = zarr.open_array(path / "pred_probs", mode="r")
    pixels = array.shape[0] * PIXELS
    return f"{array.nbytes / seconds / 1e9:.2f} GB/s ({pixels / seconds / 1e6:.0f} Mpx/s)"


def ratio(name: str, target: str, path: Path, taken: dict[str, float], how: str) -> Row:
    """Return the row of a job against the bare loop over its files."""
    return Row(
        f"job / the bare decode loop, {name}",
        target,
        f"{taken['job'] / taken['loop']:.2f}",
        f"{how}: job {taken['job']:.1f} s, {speed(path, taken['job'])}; "
        f"loop {taken['loop']:.1f} s, {speed(path, taken['loop'])}",
    )


def threads_row(name: str, target: str, path: Path, runs: int) -> Row:
    """Compare on two threads of this process, without a cluster."""
    output = path.with_name("audit.zarr")
    with bare_loop(path, 2, processes=False) as loop:
        functions = {"job": lambda: audit(path, output), "loop": loop}
        for function in functions.values():
            function()
        taken = medians(runs, **functions)
    shutil.rmtree(output)
    return ratio(f"threads of one process, {name}", target, path, taken, f"medians of {runs}")


def command_row(path: Path, runs: int) -> Row:
    """Compare on workers that know nothing of us."""
    output = path.with_name("audit.zarr")
    with bare_loop(path, 2, processes=True) as loop, workers_of_the_command() as client:
        functions = {"job": lambda: audit(path, output, client), "loop": loop}
        for function in functions.values():
            function()
        taken = medians(runs, **functions)
    shutil.rmtree(output)
    how = f"scheduler and workers by Dask's commands, medians of {runs}"
    return ratio("two workers of `dask worker` alone, zstd", "1.4", path, taken, how)


def cluster_rows(path: Path, runs: int) -> list[Row]:
    """Compare on two worker processes."""
    inputs = open_images(
        str(path / "labels"), str(path / "pred_probs"), Options.of(outputs=every_output())
    )
    output, mask = path.with_name("audit.zarr"), path.with_name("mask.zarr")
    with (
        bare_loop(path, 2, processes=True) as loop,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        functions = {
            "job": lambda: audit(path, output, client),
            "loop": loop,
            "read": lambda: read_groups(inputs, client),
            "plain": lambda: read_plainly(path),
            "lazy": lambda: write_mask(path, mask),
        }
        for function in functions.values():
            function()
        taken = medians(runs, **functions)
    for written in (output, mask):
        shutil.rmtree(written)
    how = f"medians of {runs}: " + ", ".join(
        f"{what} {taken[name]:.1f} s"
        for what, name in (
            ("job", "job"),
            ("only reading", "read"),
            ("da.from_zarr", "plain"),
            ("lazy mask", "lazy"),
        )
    )
    return [
        ratio("two processes, zstd", "1.3", path, taken, f"medians of {runs}"),
        *(
            Row(what, target, f"{taken[a] / taken[b]:.2f}", how)
            for what, target, a, b in (
                ("job / only reading the same groups", "1.25", "job", "read"),
                ("job / plain da.from_zarr read", "0.5", "job", "plain"),
                ("lazy mask / plain da.from_zarr read", "1.1", "lazy", "plain"),
            )
        ),
    ]


def rows(root: Path, gigabytes: float = 8, runs: int = 3) -> list[Row]:
    root = root.resolve()
    images = math.ceil(gigabytes * 1e9 / IMAGE_BYTES)
    zstd, eight, plain = (root / f"job-{name}.zarr" for name in ("zstd", "uint8", "plain"))
    write_zarr(zstd, images)
    write_zarr(eight, 2 * images, dtype="uint8")
    write_zarr(plain, 2 * images, compressors=None)
    return [
        *cluster_rows(zstd, runs),
        command_row(zstd, runs),
        threads_row("zstd", "1.3", zstd, runs),
        threads_row("uint8, zstd", "1.5", eight, runs),
        threads_row("uncompressed", "2.5", plain, runs),
    ]


if __name__ == "__main__":
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 8
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    root = Path("benchmark-data")
    root.mkdir(exist_ok=True)
    print_rows(rows(root, size, count), "job")
