"""Datasets of examples to find label issues in, and the ways to score them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

SCORES = [
    ("self_confidence", False),
    ("self_confidence", True),
    ("normalized_margin", False),
    ("normalized_margin", True),
    ("confidence_weighted_entropy", False),
]


def draw_examples(
    seed: int = 0,
    num_examples: int = 2000,
    num_classes: int = 10,
    dtype: DTypeLike = np.float64,
    steps: int | None = None,
    absent: Sequence[int] = (),
    noise: float = 0.2,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels that mostly agree with the predictions.

    With `steps`, probabilities are multiples of 1 / steps, so that there are many ties. No label
    is one of the `absent` classes.
    """
    rng = np.random.default_rng(seed)
    pred_probs = rng.dirichlet(np.full(num_classes, 0.3), num_examples)
    if steps is not None:
        pred_probs = np.array([rng.multinomial(steps, row) for row in pred_probs]) / steps
    labels = pred_probs.argmax(axis=1)
    wrong = rng.random(num_examples) < noise
    labels[wrong] = rng.integers(0, num_classes, wrong.sum())
    present = np.setdiff1d(np.arange(num_classes), absent)
    labels = np.where(np.isin(labels, absent), rng.choice(present, num_examples), labels)
    return labels, pred_probs.astype(dtype)


def arguments(method: str, adjust: bool, calibrated: bool) -> dict[str, Any]:
    estimation = "off_diagonal_calibrated" if calibrated else "off_diagonal"
    return {
        "quality_score_kwargs": {"method": method, "adjust_pred_probs": adjust},
        "num_issue_kwargs": {"estimation_method": estimation},
        "verbose": False,
    }
