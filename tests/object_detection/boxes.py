"""Lists of boxes that were given and predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

Lists = tuple[list[dict[str, np.ndarray]], list[list[np.ndarray]]]


def make_lists(
    seed: int,
    num_images: int = 10,
    num_classes: int = 4,
    given: int = 5,
    predicted: int = 12,
    dtype: DTypeLike = np.float64,
) -> Lists:
    """Draw labels and predictions with right, shifted, swapped, missing and double boxes."""
    rng = np.random.default_rng(seed)
    labels: list[dict[str, np.ndarray]] = []
    predictions: list[list[np.ndarray]] = []
    for _ in range(num_images):
        count = rng.integers(0, given + 1)
        corners = rng.uniform(0, 500, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 120, (count, 2))])
        classes = rng.integers(0, num_classes, count)
        if count > 1 and rng.random() < 0.3:
            boxes[1] = boxes[0] + 0.1
        labels.append({"bboxes": boxes.astype(dtype), "labels": classes})
        predictions.append(_predictions(rng, boxes, classes, num_classes, predicted, dtype))
    return labels, predictions


def _predictions(
    rng: np.random.Generator,
    boxes: np.ndarray,
    classes: np.ndarray,
    num_classes: int,
    predicted: int,
    dtype: DTypeLike,
) -> list[np.ndarray]:
    count = rng.integers(0, predicted + 1)
    corners = rng.uniform(0, 500, (count, 2))
    found = np.hstack([corners, corners + rng.uniform(5, 120, (count, 2))])
    found_classes = rng.integers(0, num_classes, count)
    if len(boxes):
        source = rng.integers(0, len(boxes), count)
        near = rng.random(count) < 0.7
        found[near] = (boxes[source] + rng.normal(0, 3, (count, 4)))[near]
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        same = near & (rng.random(count) < 0.8)
        found_classes[same] = classes[source][same]
    rows = np.hstack([found, rng.random((count, 1)) ** 0.15]).astype(dtype)
    return [rows[found_classes == k] for k in range(num_classes)]
