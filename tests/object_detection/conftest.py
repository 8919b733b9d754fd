from __future__ import annotations

from itertools import starmap
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.object_detection import from_lists


def make_lists(seed, num_images=10, num_classes=4, given=5, predicted=12, dtype=np.float64):
    """Draw labels and predictions with right, shifted, swapped, missing and double boxes."""
    rng = np.random.default_rng(seed)
    labels, predictions = [], []
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


def _predictions(rng, boxes, classes, num_classes, predicted, dtype):
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


@pytest.fixture(scope="session")
def lists():
    """Return the function that draws labels and predictions from a seed."""
    return make_lists


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """Return the function that gives the same boxes in every form that is taken."""

    def in_every_form(labels, predictions):
        dataset = from_lists(labels, predictions)
        path = tmp_path_factory.mktemp("boxes") / "boxes.zarr"
        # Chunks that fit neither the images nor the blocks.
        chunks = {
            "given_boxes": {"chunks": (7, 4)},
            "predicted_boxes": {"chunks": (11, 4)},
            "predicted_scores": {"chunks": (13,)},
        }
        dataset.to_zarr(path, consolidated=False, encoding=chunks)
        return {
            "numpy": dataset,
            "dask": dataset.chunk(given_box=5, predicted_box=9, image_edge=4),
            "path": str(path),
            "group": zarr.open_group(path, mode="r"),
            "xarray of zarr": xr.open_zarr(path, consolidated=False),
        }

    return in_every_form


class NoPool:
    """What cleanlab uses of a process pool, without processes."""

    def __init__(self, processes):
        pass

    def starmap(self, function, arguments):
        return list(starmap(function, arguments))

    def close(self):
        pass


@pytest.fixture
def cleanlab(monkeypatch):
    """Return cleanlab's modules, able to run on this NumPy and without starting processes."""
    from cleanlab.object_detection import filter as filter_
    from cleanlab.object_detection import rank, summary

    monkeypatch.setattr(filter_, "Pool", NoPool)
    monkeypatch.setattr(summary, "Pool", NoPool)
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    return SimpleNamespace(filter=filter_, rank=rank, summary=summary)
