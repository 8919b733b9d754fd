"""Detection against cleanlab in one run, and a large columnar store on two small workers."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from cleanlab.object_detection import filter as their_filter
from cleanlab.object_detection import rank as their_rank
from distributed import Client, LocalCluster

from dask_labelqc.object_detection import audit, columnar_dataset, filter, from_lists, rank
from dask_labelqc.pipeline.memory import peak_bytes
from tests.benchmarks.table import Row, medians, print_rows, seconds

NUM_CLASSES, GIVEN, PREDICTED = 80, 8, 30
IMAGES, IMAGES_FOR_ISSUES = 2_000, 300
LARGE, SMALL = 200_000, 50_000


def draw(num_images: int, seed: int = 0) -> xr.Dataset:
    """Draw images with two good predictions for each given box, the others improbable."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 560, (num_images, GIVEN, 2))
    given = np.concatenate([corners, corners + rng.uniform(10, 80, corners.shape)], axis=-1)
    classes = rng.integers(0, NUM_CLASSES, (num_images, GIVEN))
    found = np.tile(given, (1, 2, 1)) + rng.normal(0, 2, (num_images, 2 * GIVEN, 4))
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 1)
    noise = rng.uniform(0, 560, (num_images, PREDICTED - 2 * GIVEN, 2))
    noise = np.concatenate([noise, noise + rng.uniform(10, 80, noise.shape)], axis=-1)
    predicted_classes = np.concatenate(
        [np.tile(classes, (1, 2)), rng.integers(0, NUM_CLASSES, noise.shape[:2])], axis=1
    )
    wrong = rng.random(classes.shape) < 0.03
    classes = np.where(wrong, rng.integers(0, NUM_CLASSES, classes.shape), classes)
    probs = np.concatenate(
        [rng.beta(6, 1, found.shape[:2]), rng.beta(1, 6, noise.shape[:2])], axis=1
    )
    columns = {
        "given_boxes": given.reshape(-1, 4),
        "given_classes": classes.ravel().astype(np.int32),
        "given_offsets": np.arange(num_images + 1) * GIVEN,
        "predicted_boxes": np.concatenate([found, noise], axis=1).reshape(-1, 4),
        "predicted_classes": predicted_classes.ravel().astype(np.int32),
        "predicted_scores": probs.ravel(),
        "predicted_offsets": np.arange(num_images + 1) * PREDICTED,
    }
    return columnar_dataset(columns, NUM_CLASSES)


def as_lists(dataset: xr.Dataset) -> tuple[list[Any], list[Any]]:
    """Return the images as cleanlab takes them."""
    given = dataset["given_boxes"].values.reshape(-1, GIVEN, 4)
    classes = dataset["given_classes"].values.reshape(-1, GIVEN)
    labels = [{"bboxes": b, "labels": c} for b, c in zip(given, classes, strict=True)]
    rows = np.column_stack([dataset["predicted_boxes"], dataset["predicted_scores"]])
    rows = rows.reshape(-1, PREDICTED, 5)
    of_image = dataset["predicted_classes"].values.reshape(-1, PREDICTED)
    predictions = [
        [image[k == classes] for k in range(NUM_CLASSES)]
        for image, classes in zip(rows, of_image, strict=True)
    ]
    return labels, predictions


def against_cleanlab(runs: int) -> list[Row]:
    labels, predictions = as_lists(draw(IMAGES))
    dataset = from_lists(labels, predictions)
    some = labels[:IMAGES_FOR_ISSUES], predictions[:IMAGES_FOR_ISSUES]
    ours = {
        "lists": lambda: rank.get_label_quality_scores(labels, predictions),
        "columnar": lambda: rank.get_label_quality_scores(dataset),
        "issues": lambda: filter.find_label_issues(*some),
    }
    theirs = {
        "their_scores": lambda: their_rank.get_label_quality_scores(
            labels, predictions, verbose=False
        ),
        "their_issues": lambda: their_filter.find_label_issues(*some),
    }
    for function in ours.values():
        function()  # load the compiled kernels
    with contextlib.redirect_stdout(io.StringIO()):
        assert np.allclose(ours["lists"](), theirs["their_scores"](), atol=1e-6)
        assert (ours["issues"]() == theirs["their_issues"]()).all()
        taken = medians(runs, **ours, **theirs)

    def row(what: str, target: int, mine: str, other: str) -> Row:
        how = f"medians of {runs}: {1e3 * taken[mine]:.1f} ms, cleanlab {taken[other]:.1f} s"
        return Row(what, f"{target} x", f"{taken[other] / taken[mine]:.0f} x", how)

    return [
        row(f"detection scores, {IMAGES:,} images, lists", 100, "lists", "their_scores"),
        row(f"detection scores, {IMAGES:,} images, columnar", 500, "columnar", "their_scores"),
        row(f"detection issues, {IMAGES_FOR_ISSUES} images", 100, "issues", "their_issues"),
    ]


def peak_memory() -> float:
    """Return the most memory that this process ever held, in MB."""
    return peak_bytes() / 2**20


def audit_store(root: Path, num_images: int) -> tuple[float, float]:
    """Return the seconds of a whole audit written to Zarr, and the worker's peak memory in MB."""
    path, target = root / f"boxes-{num_images}.zarr", root / "boxes-audit.zarr"
    if not path.exists():
        encoding = {
            f"{side}_{column}": {"chunks": (2**17, 4)[: 2 if column == "boxes" else 1]}
            for side in ("given", "predicted")
            for column in ("boxes", "classes")
        }
        encoding["predicted_scores"] = {"chunks": (2**17,)}
        draw(num_images).to_zarr(path, consolidated=False, encoding=encoding)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        taken = seconds(lambda: audit(path).to_zarr(target, mode="w", consolidated=False))
        peak = max(client.run(peak_memory).values())
    shutil.rmtree(target)
    return taken, peak


def on_two_workers(root: Path) -> list[Row]:
    small_seconds, small = audit_store(root, SMALL)
    large_seconds, large = audit_store(root, LARGE)
    how = (
        f"audit to Zarr, two workers of 1 GB: {large_seconds:.1f} s and {large:.0f} MB at most; "
        f"{SMALL:,} images {small_seconds:.1f} s and {small:.0f} MB"
    )
    what = f"detection, {LARGE:,} images: peak memory of a worker / that of {SMALL:,}"
    return [Row(what, "flat", f"{large / small:.2f}", how)]


def rows(root: Path, runs: int = 5) -> list[Row]:
    return against_cleanlab(runs) + on_two_workers(root)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    data = Path("benchmark-data")
    data.mkdir(exist_ok=True)
    print_rows(rows(data, count), "detection")
