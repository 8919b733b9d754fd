"""Classification against cleanlab in memory, and from a large Zarr array on two small workers."""

from __future__ import annotations

import shutil
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr
from cleanlab.experimental import label_issues_batched as theirs
from dask.distributed import Client, LocalCluster

from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.pipeline.memory import peak_bytes
from tests.benchmarks.table import Row, medians, print_rows, seconds

EXAMPLES, NUM_CLASSES = 1_000_000, 100
STORED_EXAMPLES, CHUNK = 30_000_000, 2**16
BATCH_SIZES = (1_000, 10_000, 100_000, 1_000_000)


def draw(num_examples: int, seed: int = 0) -> tuple[Any, Any]:
    """Return labels of which 8 % are random, and float32 predictions of one likely class."""
    rng = np.random.default_rng(seed)
    pred_probs = rng.random((num_examples, NUM_CLASSES), dtype=np.float32)
    truth = rng.integers(0, NUM_CLASSES, num_examples)
    every = np.arange(num_examples)
    pred_probs[every, truth] += rng.gamma(2, 40, num_examples).astype(np.float32)
    pred_probs /= pred_probs.sum(axis=1, keepdims=True)
    wrong = rng.random(num_examples) < 0.08
    return np.where(wrong, rng.integers(0, NUM_CLASSES, num_examples), truth), pred_probs


def against_cleanlab(runs: int) -> list[Row]:
    labels, pred_probs = draw(EXAMPLES)
    find_label_issues_batched(labels, pred_probs, verbose=False)  # loads the compiled code

    def cleanlab(batch_size: int) -> Any:
        return theirs.find_label_issues_batched(
            labels, pred_probs, batch_size=batch_size, verbose=False
        )

    tried = {size: min(seconds(partial(cleanlab, size)) for _ in range(2)) for size in BATCH_SIZES}
    best = min(tried, key=tried.__getitem__)
    taken = medians(
        runs,
        theirs=partial(cleanlab, best),
        one=lambda: find_label_issues_batched(labels, pred_probs, verbose=False),
        all=lambda: find_label_issues_batched(labels, pred_probs, verbose=False, n_jobs=None),
    )
    what = f"find_label_issues_batched, {EXAMPLES:,} x {NUM_CLASSES} float32 in memory"
    return [
        Row(
            f"{what}, {name}",
            "8 x",
            f"{taken['theirs'] / taken[key]:.1f} x",
            f"medians of {runs}: {1e3 * taken[key]:.0f} ms, cleanlab {1e3 * taken['theirs']:.0f} "
            f"ms at its best batch_size, {best:,}",
        )
        for key, name in (("one", "one thread (the default)"), ("all", "n_jobs=None"))
    ]


def write_zarr(path: Path) -> None:
    """Write 12 GB in chunks of 26 MB with Zarr's default zstd, unless it is there."""
    group = zarr.open_group(path, mode="a")
    if group.attrs.get("examples") == STORED_EXAMPLES:
        return
    labels, pred_probs = draw(CHUNK)
    chunk = {"labels": labels.astype(np.uint8), "pred_probs": pred_probs}
    for name, data in chunk.items():
        group.create_array(
            name,
            shape=(STORED_EXAMPLES, *data.shape[1:]),
            chunks=data.shape,
            dtype=data.dtype,
            overwrite=True,
        )

    def write(start: int) -> None:
        stop = min(start + CHUNK, STORED_EXAMPLES)
        for name, data in chunk.items():
            group[name][start:stop] = np.roll(data, start // CHUNK, axis=0)[: stop - start]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(0, STORED_EXAMPLES, CHUNK)))
    group.attrs["examples"] = STORED_EXAMPLES


def touch(block: Any) -> Any:
    return block[:1, :1]


def read_only(array: zarr.Array[Any]) -> None:
    """Read every chunk, and do nothing with it."""
    blocks = da.from_zarr(array).map_blocks(touch, dtype=array.dtype, chunks=(1, 1))
    dask.compute(blocks)


def peak_memory() -> float:
    """Return the most memory that this process ever held, in MB."""
    return peak_bytes() / 2**20


def on_two_workers(root: Path, runs: int) -> list[Row]:
    path = root / "examples.zarr"
    write_zarr(path)
    labels, pred_probs = (zarr.open_array(path / n, mode="r") for n in ("labels", "pred_probs"))
    gigabytes = pred_probs.nbytes / 1e9
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        find = partial(find_label_issues_batched, labels, pred_probs, verbose=False)
        ours, peaks = [], []
        for _ in range(runs):
            ours.append(seconds(find))
            peaks.append(max(client.run(peak_memory).values()))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=":0"
        ) as cluster,
        Client(cluster),
    ):
        reads = [seconds(lambda: read_only(pred_probs)) for _ in range(runs)]
    taken, read = statistics.median(ours), statistics.median(reads)
    how = (
        f"medians of {runs}: {taken:.1f} s, only reading {read:.1f} s (da.from_zarr, the same "
        f"workers); at most {peaks[-1]:.0f} MB a worker"
    )
    what = f"find_label_issues_batched, {gigabytes:.0f} GB Zarr, two workers of 1 GB"
    return [Row(f"{what} / only reading it", "1.4 x at most", f"{taken / read:.2f} x", how)]


def rows(root: Path, runs: int = 5) -> list[Row]:
    """Measure everything; the data stay in `root`."""
    return against_cleanlab(runs) + on_two_workers(root, min(runs, 3))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    data = Path("benchmark-data")
    data.mkdir(exist_ok=True)
    print_rows(rows(data, count), "classification")
    shutil.rmtree(data / "examples.zarr")
