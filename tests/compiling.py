"""The kernels that most tests need, compiled once for all processes of a run.

Each process that starts would compile them all, at the same time as the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.object_detection import from_lists
from dask_labelqc.object_detection.filter import find_label_issues
from dask_labelqc.segmentation import audit
from tests.classification.examples import draw_examples
from tests.inspectors.recording import record
from tests.object_detection.boxes import make_lists
from tests.strategies import make_case

SECONDS = 1800


def images(**keywords: Any) -> None:
    case = make_case(**keywords)
    audit(case.labels, case.pred_probs, pixel_scores=True, predicted_label=True, **case.arguments)


def logits(dtype: str) -> None:
    case = make_case()
    audit(case.labels, case.pred_probs.astype(dtype), from_logits=True)


def recorded(dtype: str) -> None:
    with TemporaryDirectory() as folder:
        record(Path(folder, "output"), make_case(dtype=dtype))


def examples() -> None:
    labels, pred_probs = draw_examples(num_examples=100, dtype=np.float32)
    find_label_issues_batched(labels, pred_probs, verbose=False)


def boxes() -> None:
    find_label_issues(from_lists(*make_lists(0)))


MANY = 257
"""More classes than a byte tells apart."""
PARTS: list[Callable[[], None]] = [
    partial(images, downsample=2, ignored=(3,), void=0.2),
    boxes,
    partial(images, dtype="f8", downsample=2),
    partial(images, downsample=2, num_classes=MANY),
    partial(images, dtype="f8", downsample=2, num_classes=MANY),
    partial(images, dtype="f8", label_dtype="u1"),
    partial(images, num_classes=MANY),
    partial(images, dtype="f8", num_classes=MANY),
    partial(images, dtype="f2", label_dtype="i2"),
    partial(images, dtype="u1", label_dtype="u8", resolution=8),
    partial(images, dtype="u2", label_dtype="?", num_classes=2),
    partial(logits, "f4"),
    partial(logits, "f8"),
    examples,
    partial(recorded, "f4"),
    partial(recorded, "f8"),
    images,
]
"""What takes longest comes first."""


def compile_once(folder: Path) -> None:
    """Compile what no other process has begun with, and wait for what others have."""
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(PARTS):
        try:
            (folder / f"{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            part()
        finally:  # an error is no reason for others to wait
            (folder / f"{number}-done").touch()
    deadline = time.monotonic() + SECONDS
    while len(list(folder.glob("*-done"))) < len(PARTS):
        assert time.monotonic() < deadline, "another process did not compile its part"
        time.sleep(0.05)
