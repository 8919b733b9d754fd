"""Summaries of segmentation issues against cleanlab, which loops over the flagged pixels."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from cleanlab.segmentation import summary as theirs

from dask_labelqc.segmentation import summary
from tests.benchmarks.table import Row, medians, print_rows

IMAGES, NUM_CLASSES, SIZE = 1_000, 3, 250
FLAGGED = 0.05
MEMORY_COMMAND = "from tests.benchmarks.bench_summary import peak_of_ours; print(peak_of_ours())"


def draw(num_images: int = IMAGES, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return a mask, labels (N, H, W) uint8 and predictions (N, K, H, W) float32."""
    rng = np.random.default_rng(seed)
    issues = np.empty((num_images, SIZE, SIZE), np.bool_)
    labels = np.empty(issues.shape, np.uint8)
    pred_probs = np.empty((num_images, NUM_CLASSES, SIZE, SIZE), np.float32)
    for image in range(num_images):
        issues[image] = rng.random((SIZE, SIZE), np.float32) < FLAGGED
        labels[image] = rng.integers(0, NUM_CLASSES, (SIZE, SIZE))
        rng.random(out=pred_probs[image], dtype=np.float32)
        pred_probs[image] /= pred_probs[image].sum(axis=0)
    return issues, labels, pred_probs


def peak_of_ours() -> float:
    """Return the most memory that this process holds beyond the arrays while it counts, in MB."""
    arrays = draw()
    summary.common_label_issues(*(a[:1] for a in arrays), verbose=False)
    done = threading.Event()
    process, held = psutil.Process(), []

    def watch() -> None:
        while not done.wait(0.001):
            held.append(process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    summary.common_label_issues(*arrays, verbose=False)
    done.set()
    watching.join()
    return (max(held) - sum(a.nbytes for a in arrays)) / 1e6


def rows(root: Path, runs: int = 5) -> list[Row]:
    """Measure everything; nothing is written to `root`."""
    arrays = draw()
    summary.common_label_issues(*(a[:1] for a in arrays), verbose=False)  # loads the compiled code
    taken = medians(
        runs,
        ours=lambda: summary.common_label_issues(*arrays, verbose=False),
        theirs=lambda: theirs.common_label_issues(*arrays, verbose=False),
    )
    command = [sys.executable, "-W", "ignore", "-c", MEMORY_COMMAND]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    what = f"common_label_issues, {IMAGES:,} x {SIZE} x {SIZE}, {NUM_CLASSES} classes"
    how = (
        f"{FLAGGED:.0%} of the pixels are issues; medians of {runs}: "
        f"{1e3 * taken['ours']:.0f} ms, cleanlab {taken['theirs']:.1f} s"
    )
    return [
        Row(what, "100 x", f"{taken['theirs'] / taken['ours']:.0f} x", how),
        Row(
            "its memory",
            "under 1 GB",
            f"{peak:.0f} MB",
            "the most that a process holds beyond the arrays, the libraries included",
        ),
    ]


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print_rows(rows(Path("benchmark-data"), count), "summary")
