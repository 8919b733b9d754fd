from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.storage.arrays import (
    BlockReader,
    dimension_names,
    fill_labels,
    location,
    open_array,
    pixel_scale,
    siblings,
)

DIMS = ("image", "class", "y", "x")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    group = zarr.create_group(tmp_path / "data.zarr")
    group.create_array("labels", data=np.zeros((2, 3), "u1"))
    return tmp_path / "data.zarr"


@pytest.mark.parametrize("form", [str, Path, "file://{}".format])
def test_open_array_at_a_path_or_url(dataset: Path, form: Any) -> None:
    array = open_array(form(dataset / "labels"), "labels")
    assert array.shape == (2, 3)
    assert array.read_only
    assert open_array(array, "labels") is array
    assert "data.zarr/labels" in location(array)


def test_no_array(dataset: Path) -> None:
    path = str(dataset / "nothing")
    message = re.escape(f"pred_probs: there is no Zarr array at {path!r}")
    with pytest.raises(InputError, match=message):
        open_array(path, "pred_probs")


def test_a_group_is_no_array(dataset: Path) -> None:
    message = f"labels: {str(dataset)!r} is a Zarr group; name the array in it, such as"
    with pytest.raises(InputError, match=re.escape(message)):
        open_array(dataset, "labels")


def test_damaged_metadata(dataset: Path) -> None:
    metadata = dataset / "labels" / "zarr.json"
    metadata.write_text(metadata.read_text()[:50])
    with pytest.raises(InputError, match=r"labels: the metadata of the Zarr array at .* are dama"):
        open_array(dataset / "labels", "labels")


def test_siblings(dataset: Path, tmp_path: Path) -> None:
    for array in (open_array(dataset / "labels", "labels"), zarr.open_group(dataset)["labels"]):
        group = siblings(array)
        assert group is not None
        assert set(group.array_keys()) == {"labels"}
    alone = zarr.create_array(tmp_path / "alone.zarr", data=np.zeros(3))
    assert siblings(alone) is None


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_scale_factor(zarr_format: Any) -> None:
    array = zarr.create_array(
        MemoryStore(), shape=(2,), dtype="u1", zarr_format=zarr_format, chunks=(2,)
    )
    assert pixel_scale(array.attrs) is None
    array.attrs["scale_factor"] = 1 / 128
    assert pixel_scale(array.attrs) == 1 / 128
    array.attrs["scale_factor"] = "a"
    with pytest.raises(InputError, match="pred_probs: scale_factor is 'a', it must be a number"):
        pixel_scale(array.attrs)
    array.attrs.update(scale_factor=1, add_offset=3)
    with pytest.raises(InputError, match="pred_probs: add_offset is 3, it must be 0"):
        pixel_scale(array.attrs)


@pytest.mark.parametrize(
    ("attributes", "dtype", "expected"),
    [
        ({}, "u1", ()),
        ({"_FillValue": None}, "f8", ()),
        ({"_FillValue": 255, "missing_value": 254}, "u1", (254, 255)),
        ({"_FillValue": np.uint8(255), "missing_value": np.array([1, 255])}, "u1", (1, 255)),
        ({"_FillValue": float("nan")}, "f4", ()),
        ({"_FillValue": -9999.0}, "f4", (-9999,)),
        ({"_FillValue": "AAAAAAAA+H8="}, "f4", ()),
        ({"_FillValue": "AAAAAACHw8A="}, "f8", (-9998,)),
        ({"_FillValue": True}, "?", (1,)),
    ],
)
def test_fill_labels(attributes: Any, dtype: Any, expected: Any) -> None:
    assert fill_labels(attributes, np.dtype(dtype)) == expected


@pytest.mark.parametrize("value", ["255", [1, "a"], {"a": 1}])
def test_fill_labels_that_are_no_number(value: Any) -> None:
    with pytest.raises(InputError, match=r"labels: the attribute missing_value is .*a number"):
        fill_labels({"missing_value": value}, np.dtype("u1"))


def test_dimension_names() -> None:
    def named(names: Any) -> zarr.Array:
        return zarr.create_array(MemoryStore(), shape=(2, 2), dtype="u1", dimension_names=names)

    assert dimension_names(named(("y", "x"))) == ("y", "x")
    assert dimension_names(named(("y", None))) is None
    assert dimension_names(named(("x", "x"))) is None
    assert dimension_names(named(None)) is None
    older = zarr.create_array(MemoryStore(), shape=(2, 2), dtype="u1", zarr_format=2)
    assert dimension_names(older) is None
    older.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    assert dimension_names(older) == ("y", "x")


@st.composite
def stored(draw: st.DrawFn) -> Any:
    """Labels and predictions (N, K, H, W), and the predictions stored with their axes permuted."""
    shape = tuple(draw(st.integers(1, 5)) for _ in range(4))
    labels = np.arange(shape[0] * shape[2] * shape[3]).reshape(shape[0], *shape[2:])
    probs = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    order = draw(st.permutations(range(4)))
    chunks = tuple(draw(st.integers(1, shape[axis])) for axis in order)
    arrays = (
        zarr.create_array(
            MemoryStore(),
            data=labels,
            chunks=tuple(draw(st.integers(1, n)) for n in labels.shape),
            dimension_names=("image", "y", "x"),
        ),
        zarr.create_array(
            MemoryStore(),
            data=np.ascontiguousarray(probs.transpose(order)),
            chunks=chunks,
            dimension_names=[DIMS[axis] for axis in order],
        ),
    )
    return labels, probs, arrays


def extent(draw: st.DrawFn, outer: Extent) -> Extent:
    start = tuple(draw(st.integers(a, b - 1)) for a, b in zip(outer.start, outer.stop, strict=True))
    stop = tuple(draw(st.integers(a + 1, b)) for a, b in zip(start, outer.stop, strict=True))
    return Extent(start, stop)


@given(stored(), st.data())
def test_reads_any_block_of_any_region(drawn: Any, data: st.DataObject) -> None:
    labels, probs, arrays = drawn
    reader = BlockReader.of(*arrays)
    assert reader.shape == probs.shape
    assert reader.chunk == tuple(
        arrays[1].chunks[dimension_names(arrays[1]).index(dim)] for dim in ("image", "y", "x")
    )
    region = extent(data.draw, Extent((0, 0, 0), labels.shape))
    blocks = [extent(data.draw, region) for _ in range(4)]
    ahead = data.draw(st.integers(0, 3))
    with (
        patch.object(BlockReader, "ahead", ahead),
        reader.for_region(region, blocks) as read,
    ):
        for block in blocks:
            own, predicted = read(block)
            image, *pixels = block.slices
            np.testing.assert_array_equal(own, labels[block.slices])
            np.testing.assert_array_equal(predicted, probs[(image, slice(None), *pixels)])
            assert predicted.flags.c_contiguous


def test_without_names_the_order_is_taken_as_it_is() -> None:
    labels = zarr.create_array(MemoryStore(), shape=(2, 3, 4), dtype="u1")
    probs = zarr.create_array(MemoryStore(), shape=(2, 5, 3, 4), dtype="f4")
    assert BlockReader.of(labels, probs).lineup.pred_probs.is_plain
