"""Small datasets of examples and of boxes for the job, and what it must find in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr

from dask_labelqc import object_detection
from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.pipeline import audit_boxes_zarr, audit_examples_zarr
from tests.pipeline.datasets import WHOLE

NUM_EXAMPLES, NUM_IMAGES = 600, 60


class Dataset(NamedTuple):
    """Where a dataset is, and how it is audited in groups that are small."""

    job: Callable[..., Any]
    places: tuple[str, ...]
    arguments: dict[str, Any]
    check: Callable[[Path], xr.Dataset]

    def audit(self, output: Any, **arguments: Any) -> Any:
        return self.job(*self.places, output, **({"progress": False} | self.arguments | arguments))

    @property
    def run(self) -> dict[str, Any]:
        """What `killing` is told of it."""
        return {"job": self.job.__name__, "places": list(self.places), **self.arguments}


def make_examples(seed: int, num_examples: int = NUM_EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, num_examples)
    noise = rng.random(num_examples) < 0.2
    labels = np.where(noise, rng.integers(0, 4, num_examples), truth)
    probs = rng.random((num_examples, 4)) ** 3
    probs[np.arange(num_examples), truth] += 0.7
    return labels, (probs / probs.sum(axis=1, keepdims=True)).astype("f4")


def write_examples(path: Path, labels: np.ndarray, probs: np.ndarray, **arguments: Any) -> Dataset:
    """Write both in chunks that do not fit each other."""
    group = zarr.open_group(path, mode="w")
    group.create_array("labels", data=labels, chunks=(70,), config=WHOLE)
    group.create_array("pred_probs", data=probs, chunks=(50, probs.shape[1]), config=WHOLE)
    score = {n: v for n, v in arguments.items() if n in ("method", "adjust_pred_probs")}
    count = {n: v for n, v in arguments.items() if n == "estimation_method"}

    def check(output: Path) -> xr.Dataset:
        found = xr.open_zarr(output).load()
        expected = find_label_issues_batched(
            labels, probs, verbose=False, quality_score_kwargs=score, num_issue_kwargs=count
        )
        check_examples(found, expected, labels, probs)
        return found

    places = (str(path / "labels"), str(path / "pred_probs"))
    return Dataset(audit_examples_zarr, places, {"group_bytes": 1, **arguments}, check)


def check_examples(
    found: xr.Dataset, expected: np.ndarray, labels: np.ndarray, probs: np.ndarray
) -> None:
    """Every output follows from the issues, and those are the ones expected."""
    np.testing.assert_array_equal(found.issue_index, expected)
    mask = np.zeros(len(labels), bool)
    mask[expected] = True
    np.testing.assert_array_equal(found.label_issues, mask)
    matrix = np.zeros((probs.shape[1],) * 2, int)
    np.add.at(matrix, (labels[expected], probs[expected].argmax(1)), 1)
    np.testing.assert_array_equal(found.issue_matrix, matrix)
    np.testing.assert_array_equal(found.class_issue_count, matrix.sum(1))
    if "predicted_label" in found:
        np.testing.assert_array_equal(found.predicted_label, probs.argmax(1))
    assert found.attrs["num_issues"] == len(expected)


def make_boxes(seed: int, num_images: int = NUM_IMAGES) -> xr.Dataset:
    """Draw boxes of which the last images have most, and some images none."""
    rng = np.random.default_rng(seed)
    labels, predictions = [], []
    for i in range(num_images):
        count = int(rng.integers(0, 2 + 12 * i // num_images))
        corners = rng.uniform(0, 300, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 90, (count, 2))])
        classes = rng.integers(0, 3, count)
        labels.append({"bboxes": boxes, "labels": classes, "image_name": f"street-{i}"})
        seen = rng.random(count) < 0.8
        moved = boxes + rng.normal(0, 4, boxes.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guessed = np.where(rng.random(count) < 0.85, classes, rng.integers(0, 3, count))
        rows = np.hstack([moved, rng.random((count, 1)) ** 0.2])
        predictions.append([rows[seen & (guessed == k)] for k in range(3)])
    return object_detection.from_lists(labels, predictions, class_names=["car", "bus", "tram"])


def write_boxes(path: Path, dataset: xr.Dataset, **arguments: Any) -> Dataset:
    """Write boxes in chunks that fit neither images nor groups."""
    chunks = {
        "given_boxes": {"chunks": (17, 4)},
        "given_classes": {"chunks": (23,)},
        "predicted_boxes": {"chunks": (31, 4)},
        "predicted_scores": {"chunks": (13,)},
        "given_offsets": {"chunks": (7,)},
    }
    dataset.to_zarr(path, mode="w", consolidated=False, encoding=chunks)
    options = {n: v for n, v in arguments.items() if n not in ("block_boxes",)}

    def check(output: Path) -> xr.Dataset:
        found = xr.open_zarr(output).load()
        check_boxes(found, object_detection.audit(dataset, **options))
        return found

    return Dataset(audit_boxes_zarr, (str(path),), {"block_boxes": 40, **arguments}, check)


def check_boxes(found: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(found.data_vars) == set(expected.data_vars)
    for name, variable in expected.data_vars.items():
        assert (found[name].dims, found[name].dtype) == (variable.dims, variable.dtype), name
        np.testing.assert_array_equal(found[name], variable, err_msg=str(name))
    assert expected.attrs.items() <= found.attrs.items()
    assert found.attrs["num_issues"] == expected.label_issues.sum()


def make(kind: str, path: Path, seed: int = 0, **arguments: Any) -> Dataset:
    """Return a dataset of either kind."""
    if kind == "boxes":
        return write_boxes(path, make_boxes(seed), **arguments)
    return write_examples(path, *make_examples(seed), **{**DENSE, **arguments})


DENSE = {"write_label_quality": True, "write_predicted_label": True}
KINDS = ("examples", "twice", "boxes")


def of_kind(kind: str, path: Path, seed: int = 0) -> Dataset:
    """Return a dataset, "twice" one whose predictions are read a second time."""
    if kind == "twice":
        return make("examples", path, seed, method="normalized_margin", adjust_pred_probs=True)
    return make(kind, path, seed)
