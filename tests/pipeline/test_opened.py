"""One face to the outputs of audits of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.pipeline import audit_zarr, open_audit
from tests.pipeline.datasets import write_case
from tests.ragged import ragged_case, write_ragged
from tests.strategies import make_case

SHAPES = [(3, 4), (7, 5), (1, 2), (6, 6)]
DENSE = {"write_pixel_scores": True, "write_predicted_label": True, "progress": False}


def test_images_of_every_size(tmp_path: Path) -> None:
    case = ragged_case(SHAPES, mistakes=0.5)
    path, expected = write_ragged(tmp_path / "in", case), case.expected()
    audit_zarr(path / "labels", path / "pred_probs", tmp_path / "out", **DENSE)
    found = open_audit(tmp_path / "out")
    assert (len(found), found.ids.tolist()) == (4, case.table.ids.tolist())
    table = found.table
    assert list(zip(table.height, table.width, strict=True)) == SHAPES
    np.testing.assert_array_equal(table.image_issue_count, expected["image_issue_count"])
    order = np.argsort(expected["image_score"], kind="stable")
    assert found.worst(2).index.tolist() == [f"image-{i}" for i in order[:2]]
    for i, image in enumerate(found):
        assert image.label_issues.dims == ("y", "x")
        np.testing.assert_array_equal(image.label_issues, expected["label_issues"][i])
        np.testing.assert_array_equal(image.pixel_scores, expected["pixel_scores"][i])
        assert float(image.image_score) == table.image_score.iloc[i]
    xr.testing.assert_identical(found.image("image-3"), image)
    assert repr(found) == (
        f"<ImageAudit of 4 images of 1 x 2 to 6 x 6 pixels, {found.num_issues} label issues "
        f"({found.num_issues / 85:.2%})>"
    )
    assert "image-" in found._repr_html_()


def test_images_of_one_size_with_coordinates(tmp_path: Path) -> None:
    case = make_case(1, (3, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    group = zarr.open_group(tmp_path / "in", mode="r+")
    for name, dim, values in (
        ("image", "image", np.array([10, 20, 30])),
        ("y", "y", np.linspace(4.0, 1.0, 4)),
    ):
        group.create_array(name, data=values, dimension_names=(dim,))
    audit_zarr(*stored, tmp_path / "out", **DENSE)
    found, whole = open_audit(tmp_path / "out"), xr.open_zarr(tmp_path / "out")
    assert found.ids.tolist() == [10, 20, 30]
    image = found.image(20)
    xr.testing.assert_equal(image.label_issues, whole.label_issues.sel(image=20))
    assert image.y.values.tolist() == [4.0, 3.0, 2.0, 1.0]
    assert set(image.dims) == {"y", "x"}
    assert found.table.loc[20, ["height", "width"]].tolist() == [4, 6]
    assert repr(found).startswith("<ImageAudit of 3 images of 4 x 6 pixels, ")


def test_one_scene(tmp_path: Path) -> None:
    case = make_case(2, (1, 4, 6), 3)
    group = zarr.create_group(tmp_path / "in")
    group.create_array("labels", data=case.labels[0], dimension_names=("y", "x"))
    group.create_array("pred_probs", data=case.pred_probs[0], dimension_names=("class", "y", "x"))
    labels, probs = tmp_path / "in/labels", tmp_path / "in/pred_probs"
    audit_zarr(labels, probs, tmp_path / "out", **DENSE)
    found = open_audit(tmp_path / "out")
    (image,) = found
    assert image.label_issues.shape == (4, 6)
    xr.testing.assert_identical(found.image(0), image)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", ragged_case(SHAPES))
    audit_zarr(path / "labels", path / "pred_probs", tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="got 'image-9', which is none of the 4 images, such as"):
        open_audit(tmp_path / "out").image("image-9")


def test_what_is_no_audit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no output of an audit at"):
        open_audit(tmp_path / "nothing")
    path = write_ragged(tmp_path / "in", ragged_case(SHAPES))
    with pytest.raises(InputError, match=r"it has no image_score, .* no complete audit of images"):
        open_audit(path)
