"""Small datasets in Zarr for the job, and its output as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.pipeline import JobReport, audit_zarr
from tests import reference
from tests.strategies import Case

SPATIAL = ("z", "y", "x")
WHOLE: Any = {"write_empty_chunks": True}
"""Zarr leaves chunks out that hold nothing but the fill value; what is left out is warned of."""

VARIABLES = {
    "label_issues": (("image", "y", "x"), "bool"),
    "pixel_scores": (("image", "y", "x"), "float32"),
    "predicted_label": (("image", "y", "x"), "uint8"),
    "image_score": (("image",), "float64"),
    "image_issue_fraction": (("image",), "float64"),
    "image_issue_count": (("image",), "int64"),
    "confident_threshold": (("class",), "float64"),
    "class_count": (("class",), "int64"),
    "class_issue_count": (("class",), "int64"),
    "issue_matrix": (("given_class", "predicted_class"), "int64"),
}
"""Of an output, with all that can be asked for, and their data types."""


class Stored(NamedTuple):
    """Where the two arrays of a dataset are."""

    labels: Path
    pred_probs: Path


def dims_of(labels: np.ndarray) -> tuple[str, ...]:
    return ("image", *SPATIAL[4 - labels.ndim :])


def write(
    path: Path,
    labels: np.ndarray,
    pred_probs: np.ndarray,
    *,
    chunks: Sequence[int] | None = None,
    label_chunks: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    **keywords: Any,
) -> Stored:
    """Write both arrays to a group; `order` transposes the predictions, by named dimensions."""
    dims = dims_of(labels)
    names = (dims[0], "class", *dims[1:])
    axes = range(pred_probs.ndim) if order is None else order
    group = zarr.open_group(path, mode="w")
    group.create_array(
        "labels",
        data=labels,
        chunks=tuple(label_chunks or (1, *labels.shape[1:])),
        dimension_names=dims,
        config=WHOLE,
    )
    shape = tuple(chunks or (1, *pred_probs.shape[1:]))
    group.create_array(
        "pred_probs",
        data=np.ascontiguousarray(pred_probs.transpose(axes)),
        chunks=tuple(shape[axis] for axis in axes),
        dimension_names=tuple(names[axis] for axis in axes),
        config=WHOLE,
        **keywords,
    )
    return Stored(path / "labels", path / "pred_probs")


def write_case(path: Path, case: Case, **keywords: Any) -> Stored:
    return write(path, case.labels, case.pred_probs, **keywords)


def mend(path: Path, case: Case, **keywords: Any) -> None:
    """Put a case in the place of a damaged one: only the files that differ are written."""
    whole = path.with_name(f"{path.name}-whole")
    write_case(whole, case, **keywords)
    for name, data in files(whole).items():
        file = path / name
        if not file.exists() or file.read_bytes() != data:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def audit(stored: Stored, output: Path, **arguments: Any) -> JobReport:
    """Run the job silently, each block a group of its own if `smallest_groups` is in use."""
    defaults: dict[str, Any] = {"progress": False, "group_bytes": 1}
    return audit_zarr(*stored, output, **(defaults | arguments))


def files(path: Path) -> dict[str, bytes]:
    """Every file below a path, but for what Zarr leaves behind of a write that was killed."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.suffix != ".partial"
    }


def check(output: Path, case: Case, **arguments: Any) -> xr.Dataset:
    """Compare every output with the reference: equal but for the softmin, of rounded weights."""
    expected = reference.audit(case.labels, case.pred_probs, **case.arguments, **arguments)
    found = xr.open_zarr(output)
    for name, variable in found.data_vars.items():
        values = getattr(expected, str(name))
        if name == "image_score":
            np.testing.assert_allclose(variable, values, rtol=0, atol=1e-12)
        else:
            np.testing.assert_array_equal(variable, values, err_msg=str(name))
    assert found.attrs["num_issues"] == expected.label_issues.sum()
    assert found.attrs["num_selected"] == expected.num_selected
    return found
