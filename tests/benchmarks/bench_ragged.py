"""Images of every size: a million small ones, and photographs against an array of one size."""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from dask_labelqc.images import ImageTable
from dask_labelqc.pipeline import audit_zarr
from tests.benchmarks.table import Row, medians, print_rows

CHUNK, SHARD = 2**20, 16
REGULAR = 512
"""Sides of the images of the regular array."""


def chunk_of(num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and uint8 predictions of as many pixels as a chunk has; 5 % of the labels differ."""
    rng = np.random.default_rng(seed)
    best = np.repeat(rng.integers(0, num_classes, CHUNK // 64), 64)
    probs = rng.random((num_classes, CHUNK), np.float32) * 0.1
    probs[best, np.arange(CHUNK)] += rng.random(CHUNK, np.float32)
    probs /= probs.sum(axis=0)
    labels = np.where(rng.random(CHUNK) < 0.05, rng.integers(0, num_classes, CHUNK), best)
    return labels.astype(np.uint8), np.rint(probs * 255).astype(np.uint8)


def create(path: Path, num_pixels: int, num_classes: int) -> tuple[Any, Any]:
    group = zarr.open_group(path, mode="w")
    shard = CHUNK * SHARD
    labels = group.create_array(
        "labels", shape=(num_pixels,), dtype="u1", chunks=(CHUNK,), shards=(shard,),
        dimension_names=("pixel",),
    )  # fmt: skip
    pred_probs = group.create_array(
        "pred_probs", shape=(num_classes, num_pixels), dtype="u1", chunks=(num_classes, CHUNK),
        shards=(num_classes, shard), dimension_names=("class", "pixel"),
    )  # fmt: skip
    return labels, pred_probs


def write_ragged(path: Path, shapes: np.ndarray, num_classes: int) -> None:
    """Write images of these shapes, whose pixels are those of one chunk again and again."""
    table = ImageTable.of([f"{i:09d}.png" for i in range(len(shapes))], shapes)
    labels, pred_probs = create(path, table.num_pixels, num_classes)
    given, predicted = chunk_of(num_classes)
    many = np.tile(given, SHARD), np.tile(predicted, SHARD)
    for start in range(0, table.num_pixels, SHARD * CHUNK):
        count = min(SHARD * CHUNK, table.num_pixels - start)
        labels[start : start + count] = many[0][:count]
        pred_probs[:, start : start + count] = many[1][:, :count]
    table.write(zarr.open_group(path))


def write_regular(path: Path, num_images: int, num_classes: int) -> None:
    """Write the same pixels as images of one size, a chunk of as many pixels."""
    each = CHUNK // REGULAR**2
    given, predicted = chunk_of(num_classes)
    group = zarr.open_group(path, mode="w")
    sides = (REGULAR, REGULAR)
    labels = group.create_array(
        "labels", shape=(num_images, *sides), dtype="u1", chunks=(each, *sides)
    )
    pred_probs = group.create_array(
        "pred_probs", shape=(num_images, num_classes, *sides), dtype="u1",
        chunks=(each, num_classes, *sides),
    )  # fmt: skip
    images = np.moveaxis(predicted.reshape(num_classes, each, *sides), 0, 1)
    for start in range(0, num_images, each):
        labels[start : start + each] = given.reshape(each, *sides)
        pred_probs[start : start + each] = images


def audit(path: Path, output: Path) -> Any:
    how: dict[str, Any] = {"overwrite": True, "progress": False, "n_jobs": 2}
    return audit_zarr(path / "labels", path / "pred_probs", output, **how)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def many_row(root: Path, num_images: int) -> Row:
    """Audit many small images with two threads of this process, which is client and worker."""
    path = root / "many.zarr"
    write_ragged(path, np.full((num_images, 2), 64), 5)
    before, begun = peak_mb(), time.perf_counter()
    report = audit(path, root / "out.zarr")
    taken = time.perf_counter() - begun
    shutil.rmtree(path)
    shutil.rmtree(root / "out.zarr")
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.seconds.items())
    return Row(
        f"{num_images:,} images of 64 x 64, 5 classes in uint8",
        "10 minutes and 2 GB for a million",
        f"{taken:.1f} s, {peak_mb():.0f} MB",
        f"two threads; {before:.0f} MB before the audit; {stages}",
    )


def photographs_row(root: Path, megapixels: int, runs: int = 3) -> Row:
    """Compare images of 0.1 to 0.6 Mpx with the same pixels as images of one size."""
    rng = np.random.default_rng(1)
    num_images = max(int(megapixels / 0.35), 1)
    pixels = rng.uniform(0.1e6, 0.6e6, num_images)
    aspect = rng.uniform(0.6, 1.6, num_images)
    shapes = np.stack([np.sqrt(pixels * aspect), np.sqrt(pixels / aspect)], axis=1).astype(int)
    total = int(shapes.prod(axis=1).sum())
    write_ragged(root / "ragged.zarr", shapes, 21)
    write_regular(root / "regular.zarr", total // REGULAR**2, 21)
    taken = medians(
        runs,
        ragged=lambda: audit(root / "ragged.zarr", root / "out.zarr"),
        regular=lambda: audit(root / "regular.zarr", root / "out.zarr"),
    )
    for name in ("ragged", "regular", "out"):
        shutil.rmtree(root / f"{name}.zarr")
    return Row(
        "images of 0.1 to 0.6 Mpx / as many pixels in a regular array",
        "1.15",
        f"{taken['ragged'] / taken['regular']:.2f}",
        f"{num_images} images, {total / 1e6:.0f} Mpx, 21 classes in uint8, two threads: "
        f"{taken['ragged']:.1f} and {taken['regular']:.1f} s, the median of {runs}",
    )


def rows(root: Path, num_images: int = 1_000_000, megapixels: int = 200) -> list[Row]:
    return [many_row(root, num_images), photographs_row(root, megapixels)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--megapixels", type=int, default=200)
    parser.add_argument("--data", type=Path, default=Path("benchmark-data"))
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    print_rows(rows(arguments.data, arguments.images, arguments.megapixels), "ragged")
