"""Put cases on record in some way, and compare what is made of that with a stored run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from dask_labelqc import SegmentationInspector, finish_audit
from dask_labelqc.pipeline import JobReport
from tests.strategies import Case


def names(case: Case) -> list[str]:
    """Ids that sort in the order of the images."""
    return [f"tile_{number:04}" for number in range(len(case.labels))]


def inspector(output: Path, case: Case, **arguments: Any) -> SegmentationInspector:
    return SegmentationInspector(
        output, case.pred_probs.shape[1], ignore_index=case.ignore_index, **arguments
    )


def put(inspecting: SegmentationInspector, case: Case, images: Sequence[int]) -> None:
    """Take in images of a case, in this order, as one batch."""
    ids, chosen = names(case), list(images)
    inspecting.update(
        [ids[i] for i in chosen], case.labels[chosen], pred_probs=case.pred_probs[chosen]
    )


def record(output: Path, case: Case, *batches: Sequence[int], **arguments: Any) -> None:
    """Put batches of a case on record, by one inspector."""
    with inspector(output, case, **arguments) as inspecting:
        for images in batches or (range(len(case.labels)),):
            put(inspecting, case, images)


def finish(output: Path, **arguments: Any) -> JobReport:
    report = finish_audit(output, **{"progress": False, "n_jobs": 2, **arguments})
    assert isinstance(report, JobReport)
    return report


def same_answers(output: Path, expected: Path) -> xr.Dataset:
    """Compare an output with that of a stored run, bit by bit; that may lack the ids."""
    found, wanted = xr.open_zarr(output), xr.open_zarr(expected)
    assert set(found.variables) == {*wanted.variables, "image_id"}
    assert set(found.coords) == set(wanted.coords)
    for name, variable in wanted.data_vars.items():
        if name != "image_id":
            assert found[name].dims == variable.dims, name
            assert found[name].dtype == variable.dtype, name
            assert found[name].values.tobytes() == variable.values.tobytes(), name
    for name in ("num_issues", "num_selected"):
        assert found.attrs[name] == wanted.attrs[name]
    return found
