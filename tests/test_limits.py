"""Metadata may claim any shape: every function answers at once, by a plan or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import zarr

from dask_labelqc import audit_zarr, classification, object_detection, plan_audit, segmentation
from dask_labelqc.errors import InputError
from dask_labelqc.plan import spatial_factors
from dask_labelqc.segmentation.summary import (
    common_label_issues,
    display_issues,
    filter_by_class,
)

N = 10**12
TASKS = "which would be a graph of "
Arrays = dict[str, Any]


@pytest.fixture
def arrays(tmp_path: Path) -> Arrays:
    """Arrays of 10^12 images or examples; nothing is stored but the metadata."""
    group = zarr.open_group(tmp_path / "claimed.zarr", mode="w")
    shapes = {
        "labels": ((N, 8, 8), "u1"),
        "issues": ((N, 8, 8), "bool"),
        "pred_probs": ((N, 3, 8, 8), "f4"),
        "given": ((N,), "u1"),
        "predicted": ((N, 3), "f4"),
    }
    for name, (shape, dtype) in shapes.items():
        group.create_array(name, shape=shape, chunks=(1, *shape[1:]), dtype=dtype)
    return {name: group[name] for name in shapes} | {"out": tmp_path / "out"}


def test_the_plan(arrays: Arrays) -> None:
    plan = plan_audit(arrays["labels"], arrays["pred_probs"])
    assert plan.shape[0] == N
    assert plan.bytes_to_read == N * 3 * 64 * 4


FUNCTIONS: dict[str, tuple[str, Callable[[Arrays], Any]]] = {
    "audit_zarr": (
        "images alone takes",
        lambda a: audit_zarr(a["labels"], a["pred_probs"], a["out"]),
    ),
    "audit": (TASKS, lambda a: segmentation.audit(a["labels"], a["pred_probs"])),
    "find_label_issues": (
        TASKS,
        lambda a: segmentation.find_label_issues(a["labels"], a["pred_probs"]),
    ),
    "get_label_quality_scores": (
        TASKS,
        lambda a: segmentation.get_label_quality_scores(a["labels"], a["pred_probs"]),
    ),
    "issues_from_scores": (
        TASKS,
        lambda a: segmentation.issues_from_scores([0.5], a["pred_probs"], threshold=0.1),
    ),
    "common_label_issues": (
        TASKS,
        lambda a: common_label_issues(a["issues"], a["labels"], a["pred_probs"]),
    ),
    "filter_by_class": (
        TASKS,
        lambda a: filter_by_class(1, a["issues"], a["labels"], a["pred_probs"]),
    ),
    "display_issues": (
        TASKS,
        lambda a: display_issues(a["issues"], labels=a["labels"], pred_probs=a["pred_probs"]),
    ),
    "find_label_issues_batched": (
        "1,000,000,000,000 chunks",
        lambda a: classification.find_label_issues_batched(a["given"], a["predicted"]),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_of_each_function(name: str, arrays: Arrays) -> None:
    expected, function = FUNCTIONS[name]
    with pytest.raises(InputError) as raised:
        function(arrays)
    assert expected in str(raised.value)
    assert f"{N}" in str(raised.value)


def test_boxes(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "boxes.zarr", mode="w", attributes={"kind": "boxes"})
    names = xr.Dataset(coords={"class": [0, 1]})
    names.to_zarr(tmp_path / "boxes.zarr", mode="a", consolidated=False)
    columns = {"boxes": ("f4", 4), "classes": ("i4",), "scores": ("f4",), "offsets": ("i8",)}
    for side in ("given", "predicted"):
        for column, (dtype, *more) in columns.items():
            edges = column == "offsets"
            group.create_array(
                f"{side}_{column}",
                shape=(N + edges, *more),
                chunks=(1000, *more),
                dtype=dtype,
                dimension_names=("image_edge" if edges else f"{side}_box", "coordinate")[
                    : 1 + len(more)
                ],
            )
    with pytest.raises(InputError, match=r"given_offsets: \(1000000000001,\) of it would be in"):
        object_detection.audit(tmp_path / "boxes.zarr")


def test_the_factors_of_a_long_side() -> None:
    with pytest.raises(InputError, match=r"it may be 1, 2, 4, 5, .*, 1000000000000$"):
        spatial_factors(7, (10**12, 10**12))
