"""What results take over from labels: what describes the place, nothing of how they are encoded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rioxarray
import xarray as xr
import zarr

from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.segmentation import (
    audit,
    filter_by_class,
    find_label_issues,
    get_label_quality_scores,
)
from tests.pipeline.datasets import VARIABLES
from tests.stores import CountingStore
from tests.strategies import make_case

pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata"),  # as xarray writes it
    pytest.mark.filterwarnings("ignore:The data type"),  # strings
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # in rioxarray
]
QUIET = {"verbose": False}
ENCODED = {
    "_FillValue": 255,
    "missing_value": 255,
    "scale_factor": 1.0,
    "add_offset": 0.0,
    "valid_range": [0, 3],
    "valid_min": 0,
    "flag_values": [0, 1, 2, 3],
    "flag_meanings": "sky road car tree",
    "units": "1",
    "long_name": "land cover",
    "dtype": "uint8",
    "_Unsigned": "true",
    "coordinates": "day",
    "cell_methods": "time: mean",
}
CASE = make_case(11, (3, 6, 8), 4, label_dtype="u1")
SCENE = {"image": 1}


def labels(path: Path | None = None, **attributes: Any) -> xr.DataArray:
    """Labels on a map, as a file would have them that nothing was decoded of."""
    coords = {
        "image": ["tile a", "tile b", "tile c"],
        "y": ("y", 5e6 - 10.0 * np.arange(6), {"units": "metre", "standard_name": "projection_y"}),
        "x": ("x", 3e5 + 10.0 * np.arange(8), {"units": "metre", "long_name": "easting"}),
        "day": ("image", pd.date_range("2024-05-01", periods=3), {"long_name": "day of the photo"}),
    }
    given = xr.DataArray(CASE.labels, coords, ("image", "y", "x"), "labels")
    given = given.rio.write_crs("EPSG:32632", grid_mapping_name="utm")
    return given.assign_attrs(ENCODED | attributes)


def predictions() -> xr.DataArray:
    coords = {"band": ("band", ["sky", "road", "car", "tree"], {"long_name": "cover"})}
    return xr.DataArray(CASE.pred_probs, coords, ("image", "band", "y", "x"), "pred_probs")


EXPECTED = audit(CASE.labels, CASE.pred_probs, pixel_scores=True, predicted_label=True)


def made(lazy: bool = False, **scene: Any) -> xr.Dataset:
    given, predicted = labels().isel(scene), predictions().isel(scene)
    if lazy:
        given, predicted = given.chunk(), predicted.chunk()
    return audit(given, predicted, pixel_scores=True, predicted_label=True)


def same(found: xr.Dataset) -> None:
    """Hold every value against those of plain arrays, as they come back."""
    for name, values in EXPECTED.data_vars.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("lazy", [False, True])
def test_through_zarr(lazy: bool, tmp_path: Path) -> None:
    dataset = made(lazy)
    dataset.to_zarr(tmp_path / "out")
    found = xr.open_zarr(tmp_path / "out").load()
    same(found)
    xr.testing.assert_identical(found, dataset.load())


def test_through_netcdf(tmp_path: Path) -> None:
    dataset = made()
    dataset.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as found:
        same(found)
        xr.testing.assert_equal(found, dataset)
        assert found.attrs.keys() == dataset.attrs.keys()
        assert found.label_issues.attrs == {"grid_mapping": "utm"}


@pytest.mark.parametrize("scene", [{}, SCENE], ids=["images", "one scene"])
def test_through_a_raster(scene: Any, tmp_path: Path) -> None:
    dataset, given = made(**scene), labels().isel(scene)
    for name, dtype in (("label_issues", "u1"), ("pixel_scores", "f4"), ("predicted_label", "u1")):
        path = tmp_path / f"{name}.tif"
        dataset[name].astype(dtype).rio.to_raster(path)
        with rioxarray.open_rasterio(path, masked=True) as found:
            assert found.rio.crs == given.rio.crs
            assert found.rio.transform() == given.rio.transform()
            assert found.rio.encoded_nodata is None
            values = dataset[name].values.reshape(found.shape)
            np.testing.assert_array_equal(found.values, values.astype("f4"))


def test_masks_and_scores_are_written_as_they_are(tmp_path: Path) -> None:
    given, predicted = labels(), predictions()
    mask = find_label_issues(given, predicted, **QUIET)
    scores, pixels = get_label_quality_scores(given, predicted, **QUIET)
    one = filter_by_class(1, mask, given, predicted)
    for number, values in enumerate((mask, pixels, scores, one)):
        values.to_dataset(name="values").to_zarr(tmp_path / str(number))
        found = xr.open_zarr(tmp_path / str(number))["values"]
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
    assert mask.any()
    assert mask.attrs == pixels.attrs == one.attrs == {"grid_mapping": "utm"}
    assert scores.attrs == {}
    assert set(scores.coords) == {"image", "day", "utm"}


def test_what_is_taken_over() -> None:
    dataset, given = made(), labels()
    for name in ("label_issues", "pixel_scores", "predicted_label"):
        assert dataset[name].attrs == {"grid_mapping": "utm"}
        assert dataset[name].encoding == {}
        xr.testing.assert_identical(dataset[name].coords.to_dataset(), given.coords.to_dataset())
    assert dataset.x.attrs == {"units": "metre", "long_name": "easting"}
    others = set(dataset.data_vars) - {"label_issues", "pixel_scores", "predicted_label"}
    assert all(dataset[name].attrs == {} for name in others)
    assert dataset.rio.crs.to_epsg() == 32632


@pytest.mark.parametrize("place", ["attrs", "encoding"])
def test_grid_mapping_wherever_it_is(place: str) -> None:
    given = labels()
    given.attrs, given.encoding = dict(ENCODED), {"_FillValue": 255, "chunks": (1, 2, 3)}
    getattr(given, place)["grid_mapping"] = "utm"
    mask = find_label_issues(given, predictions(), **QUIET)
    assert mask.attrs == {"grid_mapping": "utm"}
    assert mask.encoding == {}


def test_class_names_are_taken_over() -> None:
    dataset = made()
    for dim in ("class", "given_class", "predicted_class"):
        assert dataset[dim].values.tolist() == ["sky", "road", "car", "tree"]
        assert dataset[dim].attrs == {"long_name": "cover"}
    assert dataset.class_count.sel({"class": "car"}) == EXPECTED.class_count[2]
    pair = {"given_class": "sky", "predicted_class": "tree"}
    assert dataset.issue_matrix.sel(pair) == EXPECTED.issue_matrix[0, 3]
    plain = audit(labels(), predictions().drop_vars("band"))
    assert "class" not in plain.coords


@pytest.mark.parametrize("name", ["class", "image_score", "predicted_class"])
def test_coordinates_called_as_outputs_are(name: str) -> None:
    dataset = audit(labels().assign_coords({name: 3}), predictions())
    np.testing.assert_array_equal(dataset.image_score, EXPECTED.image_score)
    assert dataset["class"].values.tolist() == ["sky", "road", "car", "tree"]


# The job, and an audit of arrays in Zarr.


def stored(path: Path, zarr_format: int = 3, scene: dict | None = None) -> tuple[Path, Path]:
    """Both in one group; what says how the labels are encoded is put there as it is."""
    given, predicted = labels().isel(scene or {}), predictions().isel(scene or {})
    plain = given.drop_attrs(deep=False)
    packed = {"dtype": "i4", "scale_factor": 10.0, "add_offset": 3e5, "_FillValue": -1}
    dataset = xr.Dataset({"labels": plain, "pred_probs": predicted})
    dataset.to_zarr(path, zarr_format=zarr_format, encoding={"x": packed})
    attributes = {k: v for k, v in ENCODED.items() if k not in ("coordinates", "scale_factor")}
    zarr.open_group(path)["labels"].attrs.update(attributes)
    return path / "labels", path / "pred_probs"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_job(zarr_format: int, tmp_path: Path) -> None:
    audit_zarr(
        *stored(tmp_path / "in", zarr_format),
        tmp_path / "out",
        write_pixel_scores=True,
        write_predicted_label=True,
        progress=False,
    )
    found = xr.open_zarr(tmp_path / "out").load()
    assert set(found.data_vars) == set(VARIABLES)
    same(found)
    expected = made()
    carried, wanted = (
        d.coords.to_dataset().drop_vars("utm").drop_attrs(deep=False) for d in (found, expected)
    )
    xr.testing.assert_identical(carried, wanted)
    for name in ("label_issues", "pixel_scores", "predicted_label"):
        assert found[name].attrs == {"grid_mapping": "utm"}
        assert "_FillValue" not in found[name].encoding or name == "pixel_scores"
    assert found.rio.crs.to_epsg() == 32632
    assert "scale_factor" not in {**found.x.encoding, **found.x.attrs}
    found = found.drop_attrs(deep=False)
    found.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as again:
        same(again)
    found.label_issues.astype("u1").rio.to_raster(tmp_path / "out.tif")
    with rioxarray.open_rasterio(tmp_path / "out.tif") as raster:
        assert raster.rio.transform() == labels().rio.transform()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_job_of_one_scene(zarr_format: int, tmp_path: Path) -> None:
    report = audit_zarr(
        *stored(tmp_path / "in", zarr_format, SCENE), tmp_path / "out", progress=False
    )
    found = xr.open_zarr(tmp_path / "out")
    assert found.label_issues.dims == ("y", "x")
    assert found.image.values.tolist() == ["tile b"]
    assert found["class"].values.tolist() == ["sky", "road", "car", "tree"]
    assert report.num_images == 1
    expected = made(**SCENE)
    np.testing.assert_array_equal(found.label_issues, expected.label_issues)


def test_an_audit_of_arrays_in_zarr(tmp_path: Path) -> None:
    given, predicted = (zarr.open_array(path, mode="r") for path in stored(tmp_path / "in"))
    found = audit(given, predicted, pixel_scores=True, predicted_label=True).load()
    same(found)
    assert (found.ignore_index, made().ignore_index) == ([255], [])  # the labels' own _FillValue
    coordinates = (a.coords.to_dataset().drop_vars("utm") for a in (found, made()))
    xr.testing.assert_identical(*(c.drop_attrs(deep=False) for c in coordinates))
    assert found.label_issues.attrs == {"grid_mapping": "utm"}


def test_what_lies_beside_is_read_no_more_than_needed(tmp_path: Path) -> None:
    """Both arrays in one group: their coordinates are the same, and only an audit wants them."""
    stored(tmp_path / "in")
    store = CountingStore(zarr.storage.LocalStore(tmp_path / "in"))
    group = zarr.open_group(store, mode="r")
    arrays = group["labels"], group["pred_probs"]
    store.reads.clear()
    find_label_issues(*arrays)
    assert not [key for key in store.reads if "/c/" in key]


def test_nothing_is_said_while_coordinates_are_carried(tmp_path: Path) -> None:
    paths = stored(tmp_path / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit_zarr(*paths, tmp_path / "out", progress=False)
