"""Hard predictions, of which every pixel is a candidate; their records; compiling."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from cleanlab.segmentation.filter import find_label_issues as cleanlab_issues
from cleanlab.segmentation.rank import get_label_quality_scores as cleanlab_scores

from dask_labelqc.extent import Extent
from dask_labelqc.method.summarize import summarize
from dask_labelqc.pipeline.recorded import LISTS, to_arrays
from dask_labelqc.segmentation import find_label_issues, get_label_quality_scores
from tests.benchmarks.bench_memory import row
from tests.benchmarks.table import Row, medians, print_rows
from tests.method.summaries import parameters
from tests.strategies import Case

IMAGES, NUM_CLASSES, SIZE = 20, 21, 512
FORMER_BYTES = 4 + 4 + 4 + 1 + 1
"""Of a candidate on record when each had a place: position, score, confidence and two classes."""
FIRST_ANSWER = """
import time
import numpy as np
from dask_labelqc.segmentation import {name}

pred_probs = np.full((1, 21, 64, 64), 1 / 21, np.float32)
begun = time.perf_counter()
{name}(np.zeros((1, 64, 64), np.int64), pred_probs, verbose=False)
print(time.perf_counter() - begun)
"""


def draw_hard(num_images: int = IMAGES, seed: int = 0) -> tuple[Any, Any]:
    """Return labels int64 (N, H, W) and float32 (N, K, H, W) that make every class plausible."""
    rng = np.random.default_rng(seed)
    pred_probs = rng.random((num_images, NUM_CLASSES, SIZE, SIZE), np.float32) ** 4
    pred_probs /= pred_probs.sum(axis=1, keepdims=True)
    labels = pred_probs.argmax(axis=1)
    wrong = rng.random(labels.shape) < 0.05
    labels[wrong] = rng.integers(0, NUM_CLASSES, np.count_nonzero(wrong))
    return labels, pred_probs


def hard_rows(runs: int) -> list[Row]:
    """Compare both functions with cleanlab's on one process."""
    arrays = draw_hard()
    differing = find_label_issues(*arrays, verbose=False) != cleanlab_issues(
        *arrays, n_jobs=1, verbose=False
    )
    what = f"{IMAGES} images, K = {NUM_CLASSES}"
    return [
        row(
            "find_label_issues, hard predictions, against cleanlab n_jobs=1",
            "20 x",
            f"{what}, {np.count_nonzero(differing)} of {differing.size:,} pixels differ",
            runs,
            lambda: find_label_issues(*arrays, verbose=False),
            lambda: cleanlab_issues(*arrays, n_jobs=1, verbose=False),
        ),
        row(
            "get_label_quality_scores (softmin), hard predictions, against cleanlab",
            "1.5 x",
            what,
            2 * runs + 1,
            lambda: get_label_quality_scores(*arrays, verbose=False),
            lambda: cleanlab_scores(*arrays, verbose=False),
        ),
    ]


def record_row(runs: int) -> Row:
    """Weigh the record of a group of hard predictions against one that has all places."""
    labels, pred_probs = draw_hard(4)
    params = parameters(Case(labels, pred_probs))
    whole = Extent((0,) * labels.ndim, labels.shape)
    summary = summarize(whole, [whole], lambda _: (labels, pred_probs), params)
    candidates = summary.candidates.position.size + summary.candidates.agreeing.size
    record = to_arrays(summary)
    size = sum(array.nbytes for array in record.values())
    packed = sum(array.nbytes for name, array in record.items() if name.startswith(LISTS))
    former = size - packed + FORMER_BYTES * candidates
    taken = medians(runs, pack=lambda: to_arrays(summary))
    return Row(
        "bytes of a record of hard predictions / of one with every place",
        "0.35",
        f"{size / former:.3f}",
        f"4 images, {size / labels.size:.2f} bytes a pixel against {former / labels.size:.2f}; "
        f"made in {1e9 * taken['pack'] / labels.size:.0f} ns a pixel",
    )


def first_answer(name: str) -> float:
    """Return the seconds of the first call in a process that finds nothing compiled."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-c", FIRST_ANSWER.format(name=name)]
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(ran.stdout)


def compiling_rows(runs: int) -> list[Row]:
    """Take the time of first answers, which is what there is to compile."""
    return [
        Row(
            f"first {name}, nothing compiled",
            "5 s",
            f"{statistics.median(first_answer(name) for _ in range(runs)):.1f} s",
            f"one image of 64 x 64, float32, medians of {runs}",
        )
        for name in ("find_label_issues", "audit")
    ]


def rows(runs: int = 3) -> list[Row]:
    return [*hard_rows(runs), record_row(runs), *compiling_rows(runs)]


if __name__ == "__main__":
    print_rows(rows(), "kernels")
