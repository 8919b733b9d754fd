"""A dataset that is large beside the memory of a process, and what that reaches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import zarr

from tests.pipeline.datasets import Stored

SHAPE = (24, 12, 512, 512)


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
