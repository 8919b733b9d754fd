"""The job lines labels and predictions up by name and by label, wherever they are stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from zarr.storage import LocalStore

from dask_labelqc import InputError, OutputError
from dask_labelqc.cli import labelqc
from dask_labelqc.pipeline import audit_zarr, plan_audit
from dask_labelqc.segmentation import audit as audit_arrays
from tests.pipeline.datasets import audit, check
from tests.segmentation.aligned import coordinates, in_zarr, shuffled
from tests.segmentation.containers import smallest_groups
from tests.stores import CountingStore
from tests.strategies import make_case

CASE = make_case(7, (5, 6, 6), 4)
DIMS, PROBS = ("image", "y", "x"), ("image", "class", "y", "x")
COORDS = coordinates(CASE.labels)
ORDER = {"image": [3, 0, 4, 1, 2], "y": [5, 4, 3, 2, 1, 0]}
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}


def write(
    path: Path, order: Any, axes: Any = (0, 1, 2, 3), zarr_format: int = 3, coords: Any = COORDS
) -> Any:
    """Labels in one group, the predictions out of order in another."""
    of_labels, of_probs = path / "given.zarr", path / "predicted.zarr"
    in_zarr(CASE.labels, DIMS, coords, zarr_format, of_labels, "labels")
    moved = shuffled(CASE.pred_probs, PROBS, COORDS, order, axes)
    in_zarr(*moved, zarr_format, of_probs, "pred_probs")
    return of_labels / "labels", of_probs / "pred_probs"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (3, 0, 2, 1)], ids=["plain", "transposed"])
@pytest.mark.parametrize("dims", [("image",), ("y",), ("image", "y")])
def test_other_orders(zarr_format: Any, axes: Any, dims: Any, tmp_path: Path) -> None:
    stored = write(tmp_path, {dim: ORDER[dim] for dim in dims}, axes, zarr_format)
    with smallest_groups():
        report = audit(stored, tmp_path / "out", **DENSE)
    assert report.num_groups > 1
    found = check(tmp_path / "out", CASE)
    for dim in DIMS:
        np.testing.assert_array_equal(found[dim], COORDS[dim])


def test_shuffled_images_are_read_once(tmp_path: Path) -> None:
    labels, _ = write(tmp_path, {})
    store = CountingStore(LocalStore(tmp_path / "shuffled.zarr"))
    order = {"image": ORDER["image"]}
    moved = shuffled(CASE.pred_probs, PROBS, COORDS, order, (0, 1, 2, 3))
    probs = in_zarr(*moved, 3, store, "pred_probs")
    store.reads.clear()
    audit((labels, probs), tmp_path / "out")
    assert set(store.chunk_reads("pred_probs").values()) == {1}
    assert len(store.chunk_reads("pred_probs")) == 5
    check(tmp_path / "out", CASE)


def test_in_processes(client: Any, tmp_path: Path) -> None:
    audit(write(tmp_path, ORDER), tmp_path / "out", client=client)
    check(tmp_path / "out", CASE)


def test_indexes_that_differ_leave_nothing_behind(tmp_path: Path) -> None:
    stored = write(tmp_path, {}, coords=COORDS | {"image": np.arange(5)})
    message = (
        "pred_probs: the labels along 'image' differ from those of labels: 5 of 5 that labels has "
        "are not in pred_probs, the first is 0; 5 of 5 that pred_probs has are not in labels, the "
        "first is 100; select the same"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        audit(stored, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_resume_with_another_order_is_refused(tmp_path: Path) -> None:
    stored = write(tmp_path, ORDER)
    audit(stored, tmp_path / "out")
    audit(stored, tmp_path / "out", resume=True)
    write(tmp_path, {})
    with pytest.raises(
        OutputError, match=r"made by other inputs .*: pred_probs.order was '\w+' and"
    ):
        audit(stored, tmp_path / "out", resume=True)


def test_dates_and_scaled_places(tmp_path: Path) -> None:
    """Coordinates are compared as they are meant, however each store has encoded them."""
    coords = {
        "image": pd.date_range("2024-02-28", periods=5).values,
        "y": 50 - 0.25 * np.arange(6),
        "x": np.arange(6.0),
    }
    probs = xr.DataArray(CASE.pred_probs, coords, PROBS, "pred_probs")
    labels = xr.DataArray(CASE.labels, coords, DIMS, "labels")
    scaled = {"dtype": "i2", "scale_factor": 0.25, "add_offset": 50.0, "_FillValue": -9}
    units = {"units": "seconds since 1970-01-01", "dtype": "i8"}
    options = {"consolidated": False, "zarr_format": 2}
    labels.to_dataset().to_zarr(
        tmp_path / "given", encoding={"y": scaled, "image": units}, **options
    )
    probs.isel(image=[4, 1, 0, 2, 3]).to_dataset().to_zarr(tmp_path / "predicted", **options)
    stored = tmp_path / "given" / "labels", tmp_path / "predicted" / "pred_probs"
    audit(stored, tmp_path / "out")
    found = check(tmp_path / "out", CASE)
    xr.testing.assert_equal(found.label_issues.coords.to_dataset(), labels.coords.to_dataset())
    assert "scale_factor" not in found.y.attrs
    assert found.y.dtype == np.float64


def test_a_coordinate_that_cannot_be_decoded(tmp_path: Path) -> None:
    stored = write(tmp_path, {})
    zarr.open_group(tmp_path / "given.zarr")["image"].attrs["units"] = "days since the flood"
    with pytest.raises(InputError, match=r"labels: what lies .* as coordinates, image, cannot"):
        audit(stored, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# One scene.

SCENE = make_case(8, (1, 6, 9), 3)


def write_scene(path: Path, *, names: bool = True, **attributes: Any) -> Any:
    group = zarr.open_group(path, mode="w")
    dims = {"dimension_names": ("y", "x")} if names else {}
    group.create_array("labels", data=SCENE.labels[0], chunks=(3, 9), **dims)
    dims = {"dimension_names": ("band", "y", "x")} if names else {}
    group.create_array("pred_probs", data=SCENE.pred_probs[0], chunks=(3, 2, 9), **dims)
    group["labels"].attrs.update(attributes)
    return path / "labels", path / "pred_probs"


@pytest.mark.parametrize("names", [True, False])
def test_one_scene(names: bool, tmp_path: Path) -> None:
    stored = write_scene(tmp_path / "in", names=names)
    with smallest_groups():
        report = audit(stored, tmp_path / "out", **DENSE)
    assert (report.num_images, report.num_pixels, report.num_groups) == (1, 54, 3)
    found = xr.open_zarr(tmp_path / "out")
    expected = audit_arrays(
        SCENE.labels[0], SCENE.pred_probs[0], pixel_scores=True, predicted_label=True
    )
    assert found.label_issues.dims == ("y", "x")
    assert found.image_score.dims == ("image",)
    for name, values in expected.data_vars.items():
        np.testing.assert_array_equal(found[name], values)
    assert found.attrs["image_dim"] == "none"
    assert found.attrs["class_dim"] == ("band" if names else 0)


def test_one_scene_is_resumed(tmp_path: Path) -> None:
    stored = write_scene(tmp_path / "in")
    with smallest_groups():
        chunk = tmp_path / "in" / "pred_probs" / "c" / "0" / "2" / "0"
        kept = chunk.read_bytes()
        chunk.write_bytes(b"damaged")
        with pytest.raises(InputError, match="cannot be decoded"):
            audit(stored, tmp_path / "out", n_jobs=1, **DENSE)
        chunk.write_bytes(kept)
        audit(stored, tmp_path / "whole", **DENSE)
        report = audit(stored, tmp_path / "out", resume=True, **DENSE)
    assert report.num_resumed == 2
    found, expected = xr.open_zarr(tmp_path / "out"), xr.open_zarr(tmp_path / "whole")
    xr.testing.assert_identical(found.load(), expected.load())


def test_said_on_the_command_line(tmp_path: Path) -> None:
    case = make_case(9, (3, 5), 3)
    group = zarr.open_group(tmp_path / "in", mode="w")
    group.create_array("labels", data=case.labels)
    group.create_array("pred_probs", data=np.ascontiguousarray(case.pred_probs.transpose(1, 0, 2)))
    stored = [str(tmp_path / "in" / name) for name in ("labels", "pred_probs")]
    for options, dim, num_images in (
        (["--image-dim", "none"], "none", 1),
        (["--image-dim", "0", "--class-dim", "0"], 0, 3),
    ):
        output = str(tmp_path / f"out {dim}")
        command = ["audit", *stored, output, *options, "--quiet", "--workers", "0"]
        result = CliRunner().invoke(labelqc, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        found = xr.open_zarr(output)
        assert found.attrs["image_dim"] == dim
        assert found.sizes["image"] == num_images
        np.testing.assert_array_equal(
            found.label_issues, audit_arrays(case.labels, case.pred_probs).label_issues
        )
    plan = plan_audit(*stored, image_dim=False)
    assert plan.shape == (1, 3, 3, 5)
    shown = CliRunner().invoke(labelqc, ["info", *stored, "--image-dim", "none"])
    assert "1 of 3 x 5 pixels" in shown.output


def test_an_image_dimension_called_class(tmp_path: Path) -> None:
    names = {"dimension_names": ("class", "y", "x")}
    labels = zarr.create_array(tmp_path / "labels", data=CASE.labels, **names)
    names = {"dimension_names": ("class", "band", "y", "x")}
    probs = zarr.create_array(tmp_path / "probs", data=CASE.pred_probs, **names)
    message = "labels: got dimensions ('class', 'y', 'x'); 'class' is what outputs call the"
    with pytest.raises(InputError, match=re.escape(message)):
        audit((labels, probs), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_what_is_not_in_zarr(name: str, tmp_path: Path) -> None:
    stored = dict(zip(("labels", "pred_probs"), write(tmp_path, {}), strict=True))
    message = (
        f"{name}: got ndarray, it must be the path or URL of a Zarr array, or an open one; "
        "dask_labelqc.segmentation.audit takes arrays that are not in Zarr"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        audit_zarr(**stored | {name: CASE.labels}, output=tmp_path / "out")
    group = zarr.open_group(tmp_path / "given.zarr")
    message = f"{name}: got a Zarr group; name the array in it, such as group['labels'] (it has "
    with pytest.raises(InputError, match=re.escape(message + "'image', 'labels', 'x', 'y')")):
        audit_zarr(**stored | {name: group}, output=tmp_path / "out")
