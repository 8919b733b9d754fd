"""Arrays in memory against cleanlab, and the kernel alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from cleanlab.segmentation.filter import find_label_issues as cleanlab_issues
from cleanlab.segmentation.rank import get_label_quality_scores as cleanlab_scores

from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.summary import ScanOptions, scan_block
from dask_labelqc.segmentation import find_label_issues, get_label_quality_scores
from tests.benchmarks.data import draw
from tests.benchmarks.table import Row, medians, print_rows

Call: TypeAlias = Callable[[], Any]


def row(what: str, target: str, how: str, runs: int, ours: Call, theirs: Call) -> Row:
    """Compare one call of ours with one of cleanlab's."""
    ours()
    taken = medians(runs, ours=ours, theirs=theirs)
    return Row(
        what,
        target,
        f"{taken['theirs'] / taken['ours']:.1f} x",
        f"{how}, {os.cpu_count()} threads, medians of {runs}: {taken['ours']:.3f} s against "
        f"{taken['theirs']:.2f} s",
    )


def issues_row(
    name: str, num_images: int, num_classes: int, downsample: int, target: str, runs: int
) -> Row:
    """Compare `find_label_issues` with cleanlab's on one process."""
    arrays = draw(num_images, num_classes)
    arguments = {"verbose": False, "downsample": downsample}
    ours = find_label_issues(*arrays, **arguments)
    theirs = cleanlab_issues(*arrays, n_jobs=1, **arguments)
    return row(
        f"find_label_issues, {name}, against cleanlab n_jobs=1",
        target,
        f"{num_images} images, K = {num_classes}, "
        f"{np.count_nonzero(ours != theirs)} of {ours.size:,} pixels differ",
        runs,
        lambda: find_label_issues(*arrays, **arguments),
        lambda: cleanlab_issues(*arrays, n_jobs=1, **arguments),
    )


def default_row(num_images: int, runs: int) -> Row:
    """Compare with cleanlab's default, which starts processes for each image."""
    arrays = draw(num_images, 21)
    return row(
        "find_label_issues, against cleanlab's default",
        "60 x",
        f"{num_images} images, K = 21",
        runs,
        lambda: find_label_issues(*arrays, verbose=False),
        lambda: cleanlab_issues(*arrays, verbose=False),
    )


def scores_row(num_images: int, runs: int) -> Row:
    arrays = draw(num_images, 21)
    return row(
        "get_label_quality_scores (softmin), against cleanlab",
        "1.5 x",
        f"{num_images} images, K = 21",
        runs,
        lambda: get_label_quality_scores(*arrays, verbose=False),
        lambda: cleanlab_scores(*arrays, verbose=False),
    )


def kernel_row(runs: int) -> Row:
    """Time the scan of 88 MB on one core: labels encoded, softmin and checks included."""
    labels, pred_probs = draw(4, 21)
    options = ScanOptions(bound=0.505)

    def scan() -> None:
        scan_block(pred_probs, encode_labels(labels, 21).codes, options)

    scan()
    taken = medians(runs, scan=scan, read=lambda: pred_probs.max())
    return Row(
        "kernel alone, one core",
        "6 GB/s",
        f"{pred_probs.nbytes / taken['scan'] / 1e9:.1f} GB/s",
        f"4 images, K = 21, medians of {runs}; pred_probs.max() alone: "
        f"{pred_probs.nbytes / taken['read'] / 1e9:.1f} GB/s",
    )


def rows(runs: int = 5) -> list[Row]:
    return [
        issues_row("40 images in memory", 40, 21, 1, "20 x", 3),
        default_row(40, 1),
        scores_row(40, runs),
        issues_row("K = 2", 40, 2, 1, "15 x", 3),
        issues_row("K = 150", 8, 150, 1, "15 x", 3),
        issues_row("downsample = 4", 40, 21, 4, "15 x", 3),
        kernel_row(3 * runs),
    ]


if __name__ == "__main__":
    print_rows(rows(), "in memory")
