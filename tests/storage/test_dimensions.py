"""What is known of the dimensions of an array, and of what lies beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError
from dask_labelqc.storage.dimensions import (
    coordinates_beside,
    describe,
    dimension_names,
    place_attributes,
)


def test_names_that_xarray_has_made_up() -> None:
    assert describe(xr.DataArray(np.zeros((2, 3))), "labels").names is None
    store = MemoryStore()
    xr.Dataset({"a": xr.DataArray(np.zeros((2, 3)))}).to_zarr(store, consolidated=False)
    array = zarr.open_group(store)["a"]
    assert array.metadata.dimension_names == ("dim_0", "dim_1")
    assert dimension_names(array) is None
    assert describe(xr.DataArray([0], dims="dim_1"), "labels").names == ("dim_1",)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_coordinates_are_decoded_as_xarray_does(zarr_format: int) -> None:
    coords = {
        "time": pd.date_range("2024-02-28", periods=3),
        "y": ("y", [1.5, np.nan], {"units": "metre"}),
        "place": ("y", [0.25, 0.5]),
        "area": (("time", "y"), np.arange(6.0).reshape(3, 2)),
        "run": 7,
    }
    dataset = xr.Dataset({"labels": (("time", "y"), np.zeros((3, 2), "u1"))}, coords)
    store = MemoryStore()
    packed = {"place": {"dtype": "i2", "scale_factor": 0.25, "_FillValue": -1}}
    dataset.to_zarr(store, zarr_format=zarr_format, consolidated=False, encoding=packed)
    labels = zarr.open_group(store)["labels"]
    names = (*coords, "labels_of_others")
    found = coordinates_beside(labels, "labels", names, ("time", "y"))
    xr.testing.assert_identical(found, dataset[list(coords)])
    only = coordinates_beside(labels, "labels", names, ("y",))
    assert set(only.coords) == {"y", "place", "run"}
    assert describe(labels, "labels").index("time").equals(dataset.indexes["time"])
    assert describe(labels, "labels").index("band") is None


def test_no_index_where_xarray_has_none() -> None:
    array = xr.DataArray([1, 2], {"x": [3, 4], "day": ("x", [5, 6])}, ("x",))
    assert describe(array, "labels").index("x").tolist() == [3, 4]
    assert describe(array.drop_indexes("x"), "labels").index("x") is None
    assert describe(array.drop_vars("x"), "labels").index("x") is None
    assert describe(array.values, "labels").index("x") is None


def test_a_coordinate_that_is_damaged(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    labels = group.create_array("labels", shape=(3,), dtype="u1", dimension_names=("x",))
    group.create_array("x", data=np.arange(3), dimension_names=("x",))
    (tmp_path / "x" / "c" / "0").write_bytes(b"damaged")
    with pytest.raises(
        InputError, match=r"labels: the coordinate 'x' beside it, file:.*, cannot be read"
    ):
        describe(labels, "labels").index("x")


def test_attributes_of_the_place() -> None:
    place = {"grid_mapping": "utm", "crs_wkt": "PROJCS", "proj:epsg": 4326}
    encoded = {"_FillValue": 255, "scale_factor": 2, "units": "1", "flag_values": [0], "dtype": 1}
    assert place_attributes(place | encoded) == place
