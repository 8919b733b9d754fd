"""A dataset that is large beside the memory of a process, and what that reaches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import zarr

from dask_labelqc.object_detection import columnar_dataset
from tests.pipeline.datasets import Stored

SHAPE = (24, 12, 512, 512)
NUM_EXAMPLES, NUM_BOXES = 2**21, 2**20


def highest_memory() -> int:
    """Peak of this process alone; `ru_maxrss` begins at that of the process it was forked from."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def write_large(path: Path, wrong: float) -> Stored:
    """Smooth predictions, and a share of the labels wrong."""
    rng = np.random.default_rng(0)
    images, classes, *size = SHAPE
    coarse = rng.integers(0, classes, [n // 8 for n in size])
    likely = coarse.repeat(8, 0).repeat(8, 1)
    probs = np.full((1, classes, *size), 0.4 / (classes - 1), np.float32)
    np.put_along_axis(probs, likely[None, None], np.float32(0.6), 1)
    group = zarr.open_group(path, mode="w")
    labels = group.create_array("labels", shape=(images, *size), chunks=(1, *size), dtype="u1")
    stored = group.create_array("pred_probs", shape=SHAPE, chunks=(1, *SHAPE[1:]), dtype="f4")
    for i in range(images):
        mistaken = rng.random(likely.shape) < wrong
        labels[i] = np.where(mistaken, (likely + 1) % classes, likely)
        stored[i] = probs[0]
    return Stored(path / "labels", path / "pred_probs")


def write_large_examples(path: Path) -> Stored:
    """A fifth of the labels is wrong."""
    rng = np.random.default_rng(0)
    rows, classes = 2**19, SHAPE[1]
    truth = rng.integers(0, classes, rows)
    probs = np.full((rows, classes), 0.4 / (classes - 1), np.float32)
    probs[np.arange(rows), truth] = 0.6
    group = zarr.open_group(path, mode="w")
    labels = group.create_array("labels", shape=(NUM_EXAMPLES,), chunks=(rows,), dtype="u1")
    stored = group.create_array(
        "pred_probs", shape=(NUM_EXAMPLES, classes), chunks=(rows, classes), dtype="f4"
    )
    for start in range(0, NUM_EXAMPLES, rows):
        wrong = rng.random(rows) < 0.2
        labels[start : start + rows] = np.where(wrong, (truth + 1) % classes, truth)
        stored[start : start + rows] = probs
    return Stored(path / "labels", path / "pred_probs")


def write_large_boxes(path: Path) -> Path:
    """As many given as predicted boxes, eight of each an image; predictions are a little off."""
    rng = np.random.default_rng(0)
    num, each = NUM_BOXES // 2, 8
    corners = rng.uniform(0, 1000, (num, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 90, (num, 2))], axis=1)
    classes, offsets = rng.integers(0, 3, num), np.arange(0, num + 1, each)
    columns = {
        "given_boxes": boxes,
        "given_classes": classes,
        "given_offsets": offsets,
        "predicted_boxes": boxes + rng.uniform(0, 3),
        "predicted_classes": classes,
        "predicted_scores": rng.random(num),
        "predicted_offsets": offsets,
    }
    dataset = columnar_dataset(columns, 3).chunk(given_box=2**16, predicted_box=2**16)
    dataset.to_zarr(path, consolidated=False)
    return path
