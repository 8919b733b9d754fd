"""What the inputs say of themselves and does not fit together, or with what is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.segmentation import (
    audit,
    common_label_issues,
    filter_by_class,
    find_label_issues,
)
from tests.strategies import make_case

CASE = make_case(5, (4, 6, 8), 3)
LABELS, PROBS = ("image", "y", "x"), ("image", "class", "y", "x")
FLAGS = {"flag_values": [0, 1, 2], "flag_meanings": "sky road car"}


def stored(values: np.ndarray, chunks: tuple[int, ...], gone: str = "", **more: Any) -> zarr.Array:
    """An array in Zarr, of which a chunk may be gone."""
    array = zarr.create_array(
        MemoryStore(), data=values, chunks=chunks, config={"write_empty_chunks": True}, **more
    )
    if gone:
        asyncio.run(array.store.delete(f"c/{gone}"))
    return array


@pytest.mark.parametrize("attributes", [{"scale_factor": 2}, {"add_offset": 1}])
@pytest.mark.parametrize("in_zarr", [True, False])
def test_labels_that_stand_for_others(attributes: dict, in_zarr: bool) -> None:
    if in_zarr:
        labels: Any = stored(CASE.labels, (1, 6, 8), attributes=attributes)
    else:
        labels = xr.DataArray(CASE.labels, dims=LABELS, attrs=attributes)
    ((name, value),) = attributes.items()
    for function in (find_label_issues, audit):
        with pytest.raises(InputError, match=f"labels: {name} is {value}, so that the classes are"):
            function(labels, CASE.pred_probs)


@pytest.mark.parametrize("in_zarr", [True, False])
def test_attributes_of_predictions_that_are_not_obeyed(in_zarr: bool) -> None:
    for dtype, attributes, message in (
        ("f4", {"scale_factor": 0.5}, "scale_factor is 0.5 beside float32, where only integers"),
        ("f4", {"_FillValue": 0.5}, "_FillValue is 0.5, so that some predictions may be missing"),
        ("u1", {"_FillValue": 255}, "_FillValue is 255, so that some predictions may be missing"),
    ):
        values = CASE.pred_probs.astype(dtype)
        if in_zarr:
            probs: Any = stored(values, (1, 3, 6, 8), attributes=attributes)
        else:
            probs = xr.DataArray(values, dims=PROBS, attrs=attributes)
        with pytest.raises(InputError, match=f"pred_probs: {message}"):
            find_label_issues(CASE.labels, probs, verbose=False)


def test_a_fill_value_that_is_nan_says_nothing() -> None:
    probs = xr.DataArray(CASE.pred_probs, dims=PROBS, attrs={"_FillValue": np.nan})
    expected = find_label_issues(CASE.labels, CASE.pred_probs, verbose=False)
    found = find_label_issues(CASE.labels, probs, verbose=False)
    np.testing.assert_array_equal(found, expected)


def test_classes_in_another_order_than_their_ids() -> None:
    labels = xr.DataArray(CASE.labels, dims=LABELS)
    probs = xr.DataArray(CASE.pred_probs, dims=PROBS, coords={"class": [0, 1, 2]})
    with pytest.raises(InputError, match=r"pred_probs: the coordinate 'class' .* \[2, 1, 0\]"):
        find_label_issues(labels, probs.isel({"class": [2, 1, 0]}))
    expected = find_label_issues(CASE.labels, CASE.pred_probs, verbose=False)
    for bands in ([0, 1, 2], [1, 2, 3], [7, 3, 5]):  # numbers that are no class ids
        found = find_label_issues(labels, probs.assign_coords({"class": bands}), verbose=False)
        np.testing.assert_array_equal(found, expected)


def test_classes_in_another_order_than_their_names() -> None:
    labels = xr.DataArray(CASE.labels, dims=LABELS, attrs=FLAGS)
    probs = xr.DataArray(CASE.pred_probs, dims=PROBS, coords={"class": ["sky", "road", "car"]})
    find_label_issues(labels, probs, verbose=False)
    message = "pred_probs: their class 0 is 'car' by the coordinate .* and that of the labels 'sky'"
    with pytest.raises(InputError, match=message):
        find_label_issues(labels, probs.isel({"class": [2, 1, 0]}))
    other = probs.assign_coords({"class": ["Himmel", "Strasse", "Auto"]})
    find_label_issues(labels, other, verbose=False)


CHUNKS = (1, 3, 6, 8)
OTHERS = {"numpy": np.asarray, "dask": lambda a: da.from_array(a, chunks=(2, 6, 8))}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_predictions_that_are_gone_beside_other_labels(other: Any) -> None:
    labels = other(CASE.labels)
    for arguments, fill in (({"from_logits": True}, 0), ({}, 1 / 3)):
        probs = stored(CASE.pred_probs, CHUNKS, "2/0/0/0", fill_value=fill)
        with pytest.raises(InputError, match="the chunk 'c/2/0/0/0' is not in the store and all"):
            find_label_issues(labels, probs, **arguments)
    one = stored(CASE.pred_probs, (1, 1, 6, 8), "2/1/0/0")
    with pytest.warns(LabelQCWarning, match="chunks of class 1 are not in the store"):
        find_label_issues(labels, one)


def test_predictions_that_are_gone_of_ignored_pixels() -> None:
    labels = CASE.labels.astype("i8")
    labels[2] = 255
    whole = find_label_issues(labels, CASE.pred_probs, ignore_index=255, verbose=False)
    probs = stored(CASE.pred_probs, CHUNKS, "2/0/0/0")
    found = find_label_issues(labels, probs, ignore_index=255)
    np.testing.assert_array_equal(found.compute(scheduler="sync"), whole)


def test_labels_that_are_gone_beside_other_predictions() -> None:
    labels = stored(CASE.labels, (1, 6, 8), "2/0/0")
    with pytest.warns(LabelQCWarning, match="1 of 4 chunks are not in the store and read as class"):
        find_label_issues(labels, CASE.pred_probs)


def test_predictions_that_are_gone_in_the_summaries() -> None:
    mask = find_label_issues(CASE.labels, CASE.pred_probs, verbose=False)
    issues, labels = stored(mask, (1, 6, 8)), stored(CASE.labels, (1, 6, 8))
    probs = stored(CASE.pred_probs, CHUNKS, "2/0/0/0")
    for given in ((issues, labels, probs), (mask, CASE.labels, probs)):
        with pytest.raises(InputError, match="the chunk 'c/2/0/0/0' is not in the store and all"):
            filter_by_class(1, *given)
        with pytest.raises(InputError, match="the chunk 'c/2/0/0/0' is not in the store and all"):
            common_label_issues(*given, verbose=False)


@pytest.mark.parametrize(("images", "classes"), [(slice(0), slice(3)), (slice(4), slice(0))])
def test_summaries_of_nothing(images: slice, classes: slice) -> None:
    mask = np.zeros(CASE.labels.shape, bool)
    arrays = mask[images], CASE.labels[images], CASE.pred_probs[images, classes]
    with pytest.raises(InputError, match="there must be pixels, and K of 2"):
        common_label_issues(*arrays, verbose=False)
    with pytest.raises(InputError, match="there must be pixels, and K of 2"):
        filter_by_class(0, *arrays)
