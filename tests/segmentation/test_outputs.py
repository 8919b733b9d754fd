"""An output that is added to the table comes out of every front, and is stored and documented."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.method import outputs
from dask_labelqc.method.outputs import Output, Part
from dask_labelqc.pipeline import audit_zarr, plan_audit
from dask_labelqc.segmentation import audit
from tests import reference
from tests.strategies import make_case

NONE = 99
"""A class that no pixel has."""


def disagreeing(scan: Any) -> Any:
    """The positions and labels of the pixels of a block that disagree with their prediction."""
    wrong = scan.given != scan.predicted
    return scan.position[wrong], scan.given[wrong]


def wrong_of_images(scan: Any) -> Any:
    position, _ = disagreeing(scan)
    images = scan.image_count.size
    pixels = scan.dense_score[0].size
    return np.bincount(position // pixels, minlength=images)


def wrong_of_classes(scan: Any) -> Any:
    return np.bincount(disagreeing(scan)[1], minlength=scan.class_count.size)


def highest_of_images(scan: Any) -> Any:
    return np.nan_to_num(scan.dense_score, nan=0.0).max(axis=1)


def no_highest(num_images: int, params: Any) -> Any:
    return np.zeros(num_images)


def highest(mine: Any, other: Any, params: Any) -> Any:
    return np.maximum(mine, other)


def doubtful(scan: Any) -> Any:
    return scan.dense_score < 0.5


def suggested(issues: Any) -> Any:
    classes = np.full(issues.extent.size, NONE, np.uint8)
    classes[issues.position] = issues.predicted
    return classes.reshape(issues.extent.shape)


def share(matrix: Any, count: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return matrix.sum(axis=1) / count


def part(*cells: Any) -> Any:
    return (Part("the_part", *cells),)


ADDED = {
    "image_wrong": Output(
        "image_wrong", "image", np.int64, "...", part("block", "image", wrong_of_images)
    ),
    "image_highest": Output(
        "image_highest",
        "image",
        np.float64,
        "...",
        part("block", "image", highest_of_images, highest, no_highest),
        np.sqrt,
    ),
    "class_wrong": Output(
        "class_wrong", "class", np.int64, "...", part("block", "dataset", wrong_of_classes)
    ),
    "class_share": Output(
        "class_share",
        "class",
        np.float64,
        "...",
        (outputs.MATRIX, *part("block", "dataset", attrgetter("pixel_count"))),
        share,
    ),
    "pixel_doubtful": Output(
        "pixel_doubtful", "pixel", np.bool_, "...", part("block", "pixel", doubtful), fill=False
    ),
    "suggested_label": Output(
        "suggested_label", "pixel", np.uint8, "...", part("issues", "pixel", suggested), fill=NONE
    ),
}


def expected(name: str, case: Any) -> Any:
    found = reference.audit(case.labels, case.pred_probs)
    wrong = reference.predicted(case.pred_probs) != case.labels
    scores = found.pixel_scores
    return {
        "image_wrong": wrong.sum(axis=(1, 2)),
        "image_highest": np.sqrt(scores.max(axis=(1, 2)).astype("f8")),
        "class_wrong": np.bincount(case.labels[wrong], minlength=4),
        "class_share": share(found.issue_matrix, np.bincount(case.labels.ravel(), minlength=4)),
        "pixel_doubtful": scores < 0.5,
        "suggested_label": np.where(found.label_issues, reference.predicted(case.pred_probs), NONE),
    }[name]


@pytest.fixture(params=sorted(ADDED))
def added(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Output:
    output = ADDED[request.param]
    monkeypatch.setattr(outputs, "OUTPUTS", (*outputs.OUTPUTS, output))
    return output


DIMS = {"pixel": ("image", "y", "x"), "image": ("image",), "class": ("class",)}


def test_a_new_output_comes_out_of_every_front(added: Output, tmp_path: Path) -> None:
    case = make_case(shape=(4, 6, 8))
    group = zarr.create_group(tmp_path / "in")
    names = ("image", "y", "x")
    labels = group.create_array("labels", data=case.labels, chunks=(2, 3, 8), dimension_names=names)
    pred_probs = group.create_array(
        "pred_probs",
        data=case.pred_probs,
        chunks=(1, 2, 3, 4),
        dimension_names=("image", "class", "y", "x"),
    )
    lazy = da.from_array(case.pred_probs, chunks=(2, 4, 3, 4))
    arrays = [(case.labels, case.pred_probs), (labels, pred_probs), (case.labels, lazy)]
    named = (
        xr.DataArray(case.labels, dims=names),
        xr.DataArray(case.pred_probs, dims=("image", "class", "y", "x")),
    )
    wanted = expected(added.name, case)
    for given in [*arrays, named]:
        found = audit(*given, pixel_scores=True)[added.name]
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == added.dtype
    assert found.dims == DIMS[added.over]

    report = audit_zarr(
        labels,
        pred_probs,
        tmp_path / "out",
        write_pixel_scores=True,
        group_bytes=1,
        progress=False,
    )
    stored = report.open()[added.name]
    np.testing.assert_array_equal(stored, wanted)
    assert stored.dims == DIMS[added.over]
    assert stored.dtype == np.dtype(added.dtype)
    if added.over == "pixel":
        array = zarr.open_array(tmp_path / "out" / added.name, mode="r")
        assert array.fill_value == added.fill
        assert array.chunks == (1, 3, 4)
    assert f"| `{added.name}` | {', '.join(DIMS[added.over])} |" in outputs.outputs_table()


def test_memory_is_planned_for_a_new_output_of_pixels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = make_case(shape=(4, 6, 8))
    group = zarr.create_group(tmp_path)
    arrays = [
        group.create_array(name, data=data, chunks=(1, *data.shape[1:]))
        for name, data in (("labels", case.labels), ("pred_probs", case.pred_probs))
    ]
    before = plan_audit(*arrays)
    monkeypatch.setattr(outputs, "OUTPUTS", (*outputs.OUTPUTS, ADDED["pixel_doubtful"]))
    after = plan_audit(*arrays)
    assert after.worker_bytes == before.worker_bytes + case.labels.size


def test_the_docstring_names_every_output() -> None:
    assert audit.__doc__ is not None
    for output in outputs.OUTPUTS:
        assert f"``{output.name}``" in audit.__doc__


def test_only_what_is_wanted_is_made() -> None:
    names = [output.name for output in outputs.every_output()]
    assert "pixel_scores" not in names
    asked = outputs.every_output(pixel_scores=True, predicted_label=False)
    assert {o.name for o in asked} - {*names} == {"pixel_scores"}
    assert [o.name for o in outputs.only_outputs("image_score")] == ["image_score"]
