"""What is masked, NaN or the fill value of labels takes part in nothing, as what is ignored."""

from __future__ import annotations

import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import matplotlib
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.segmentation import audit, find_label_issues, get_label_quality_scores
from dask_labelqc.segmentation.summary import (
    common_label_issues,
    display_issues,
    filter_by_class,
)
from tests.clusters import local_cluster
from tests.segmentation.containers import every_container, halves, smallest_groups, thirds
from tests.strategies import Case, cases, examples, make_case

matplotlib.use("agg")

CASE = make_case(60, ignored=(9,), void=0.3)
LOST = CASE.labels == 9
FLOATS = np.where(LOST, np.nan, CASE.labels).astype("f4")
RAW = audit(CASE.labels, CASE.pred_probs, validate="none").label_issues.values | LOST
"""Flags, also where nothing takes part."""

FUNCTIONS: dict[str, Any] = {
    "find_label_issues": partial(find_label_issues, verbose=False),
    "softmin": partial(get_label_quality_scores, verbose=False),
    "num_pixel_issues": partial(get_label_quality_scores, method="num_pixel_issues", verbose=False),
    "audit": partial(audit, pixel_scores=True, predicted_label=True),
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def computed(answer: Any) -> Any:
    with dask.config.set(scheduler="sync"):
        return answer.compute() if isinstance(answer, xr.Dataset) else dask.compute(answer)[0]


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, xr.Dataset):
        xr.testing.assert_equal(found.drop_vars(set(found.coords)), expected)
        return
    alike = (found, expected) if isinstance(expected, tuple) else ((found,), (expected,))
    for a, b in zip(*alike, strict=True):
        assert type(np.asarray(a)) is np.ndarray
        np.testing.assert_array_equal(a, b)


# Labels that were decoded to float


@every_container
@every_function
def test_nan_in_place_of_labels(container: Any, function: Any, tmp_path: Path) -> None:
    """In every container; blocks are stored one by one, or the sums differ by their order."""
    arrays = container(FLOATS, CASE.pred_probs, tmp_path)
    expected = function(CASE.labels, CASE.pred_probs, ignore_index=9)
    with smallest_groups():
        found = computed(function(*arrays))
    if isinstance(found, xr.Dataset):
        xr.testing.assert_equal(rename(found), expected)
    else:
        assert_same(found, expected)


def rename(found: xr.Dataset) -> xr.Dataset:
    return found.drop_vars(set(found.coords))


@every_container
@every_function
def test_a_fraction_is_no_label(container: Any, function: Any, tmp_path: Path) -> None:
    labels = FLOATS.copy()
    labels[1, 4, 5] = 1.5
    message = (
        "labels: got 1.5 at image 1, pixel (4, 5); labels of dtype float32 must be whole "
        "numbers, the classes, or NaN"
    )
    with pytest.raises(InputError, match=re.escape(message)), smallest_groups():
        computed(function(*container(labels, CASE.pred_probs, tmp_path)))


def test_infinity_is_no_label() -> None:
    labels = FLOATS.copy()
    labels[0, 0, 0] = np.inf
    with pytest.raises(InputError, match=r"labels: got inf at image 0, pixel \(0, 0\); labels of"):
        audit(labels, CASE.pred_probs)
    audit(labels, CASE.pred_probs, validate="none")


def test_whole_numbers_that_are_no_class() -> None:
    labels = FLOATS.copy()
    labels[2, 5, 6:] = 255
    message = (
        "labels: 2 of 48 pixels in image 2 are outside 0..3 and not ignored, the first is 255 at "
        "image 2, pixel (5, 6); ignore_index=255 leaves such pixels out"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        audit(labels, CASE.pred_probs, batch_size=1)
    assert audit(labels, CASE.pred_probs, ignore_index=255).class_count.sum() < 144


# Masked arrays


def masked_numpy(labels: Any, pred_probs: Any, path: Any) -> Any:
    return labels, pred_probs


def masked_dask(labels: Any, pred_probs: Any, path: Any) -> Any:
    return (
        da.from_array(labels, chunks=(1, *labels.shape[1:])),
        da.from_array(pred_probs, chunks=(1, *pred_probs.shape[1:])),
    )


def masked_dask_cut_everywhere(labels: Any, pred_probs: Any, path: Any) -> Any:
    return (
        da.from_array(labels, chunks=thirds(labels.shape)),
        da.from_array(pred_probs, chunks=halves(pred_probs.shape)),
    )


def masked_beside_dask(labels: Any, pred_probs: Any, path: Any) -> Any:
    return labels, masked_dask_cut_everywhere(labels, pred_probs, path)[1]


def masked_in_xarray(labels: Any, pred_probs: Any, path: Any) -> Any:
    """Blocks that turn out to be masked: of what is known to be, xarray makes NaN by itself."""
    labels, pred_probs = (
        array.map_blocks(np.ma.copy, dtype=array.dtype, meta=np.empty((0,) * array.ndim))
        for array in masked_dask_cut_everywhere(labels, pred_probs, path)
    )
    return (
        xr.DataArray(labels, dims=DIMS),
        xr.DataArray(pred_probs, dims=("image", "class", "y", "x")),
    )


def labels_masked_in_xarray(labels: Any, pred_probs: Any, path: Any) -> Any:
    return xr.DataArray(labels, dims=DIMS), pred_probs


DIMS = ("image", "y", "x")
MASKED = {
    f.__name__: f
    for f in (
        masked_numpy,
        masked_dask,
        masked_dask_cut_everywhere,
        masked_beside_dask,
        masked_in_xarray,
        labels_masked_in_xarray,
    )
}
masked_container = pytest.mark.parametrize("container", MASKED.values(), ids=MASKED)


def masked_labels() -> tuple[np.ndarray, np.ndarray]:
    return np.ma.MaskedArray(CASE.labels, LOST), CASE.pred_probs


def masked_predictions() -> tuple[np.ndarray, np.ndarray]:
    """One class is masked, and no probability."""
    mask = np.zeros(CASE.pred_probs.shape, bool)
    mask[:, 2] = LOST
    hidden = np.where(mask, np.float32(np.nan), CASE.pred_probs)
    return np.where(LOST, 1, CASE.labels), np.ma.MaskedArray(hidden, mask)


every_mask = pytest.mark.parametrize("masked", [masked_labels, masked_predictions])


@masked_container
@every_mask
@every_function
def test_masked_arrays(container: Any, masked: Any, function: Any, tmp_path: Path) -> None:
    expected = function(CASE.labels, CASE.pred_probs, ignore_index=9)
    found = computed(function(*container(*masked(), tmp_path)))
    if isinstance(found, xr.Dataset):
        assert not isinstance(found.label_issues.values, np.ma.MaskedArray)
        if masked is masked_predictions:
            found, expected = (ds.drop_vars("predicted_label") for ds in (found, expected))
        xr.testing.assert_equal(found, expected)
    else:
        assert_same(found, expected)


@examples(15)
@given(cases(), st.data())
def test_any_mask_is_as_good_as_an_ignored_label(case: Case, data: st.DataObject) -> None:
    lost = np.isin(case.labels, case.ignore_index)
    arguments = case.arguments | {"pixel_scores": True}
    expected = audit(case.labels, case.pred_probs, **arguments)
    arguments["ignore_index"] = None
    labels: Any = case.labels
    probs: Any = case.pred_probs
    kind = data.draw(st.sampled_from(["labels", "predictions", "floats"]))
    if kind == "floats":
        labels = np.where(lost, np.nan, case.labels.astype("f8"))
    else:
        labels = np.where(lost, 0, case.labels)
        mask = np.broadcast_to(lost[:, None], probs.shape)
        if kind == "labels":
            labels = np.ma.MaskedArray(labels, lost)
        else:
            # NumPy's own fill value is no number of half precision: Dask would warn.
            probs = np.ma.MaskedArray(probs, mask, fill_value=0)
    if data.draw(st.booleans()):
        labels, probs = da.from_array(labels, chunks=2), da.from_array(probs, chunks=2)
    found = computed(audit(labels, probs, **arguments))
    xr.testing.assert_equal(found, expected)


def test_nothing_hidden_is_looked_at() -> None:
    """Neither labels nor predictions behind a mask may be anything in particular."""
    labels = np.ma.MaskedArray(np.where(LOST, -77, CASE.labels), LOST)
    probs = np.where(LOST[:, None], np.float32(np.nan), CASE.pred_probs)
    probs = np.ma.MaskedArray(probs, np.isnan(probs))
    expected = audit(CASE.labels, CASE.pred_probs, ignore_index=9)
    for given_labels, predicted in ((labels, probs), (labels.data, probs)):
        xr.testing.assert_equal(audit(given_labels, predicted), expected)
    logits = np.ma.MaskedArray(np.log(probs.data + np.float32(1e-6)), probs.mask)
    found = audit(labels, logits, from_logits=True)
    np.testing.assert_array_equal(found.class_count, expected.class_count)


# Fill values in the attributes of labels


def zarr_labels(labels: np.ndarray, attributes: dict, zarr_format: Any = 3) -> zarr.Array:
    group = zarr.open_group(MemoryStore(), mode="w", zarr_format=zarr_format)
    return group.create_array("labels", data=labels, chunks=(1, 6, 8), attributes=attributes)


def zarr_probs() -> zarr.Array:
    return zarr.create_array(MemoryStore(), data=CASE.pred_probs, chunks=(1, 4, 6, 8))


@pytest.mark.parametrize(
    ("dtype", "attributes"),
    [
        ("i8", {"_FillValue": 9}),
        ("u1", {"missing_value": 9}),
        ("i2", {"_FillValue": 300, "missing_value": [9, -5]}),
        ("f4", {"_FillValue": 9.0}),
        ("f8", {"_FillValue": "AAAAAAAAIkA="}),  # 9.0 as xarray writes it
        ("f8", {"_FillValue": "AAAAAAAA+H8=", "missing_value": 9}),  # NaN
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fill_values_of_zarr_labels(dtype: Any, attributes: Any, zarr_format: Any) -> None:
    labels = zarr_labels(CASE.labels.astype(dtype), attributes, zarr_format)
    expected = audit(CASE.labels, CASE.pred_probs, ignore_index=9)
    for probs in (zarr_probs(), da.from_array(CASE.pred_probs, chunks=(1, 4, 6, 8))):
        found = audit(labels, probs).compute()
        xr.testing.assert_equal(found, expected)


def test_zarr_and_xarray_agree_on_fill_values(tmp_path: Path) -> None:
    data = xr.Dataset({"labels": (("image", "y", "x"), CASE.labels)})
    stored_as = {"encoding": {"labels": {"_FillValue": 9}}, "zarr_format": 3}
    data.to_zarr(tmp_path / "data.zarr", consolidated=False, **stored_as)
    decoded = xr.open_zarr(tmp_path / "data.zarr", consolidated=False).labels
    assert decoded.dtype == "f8"
    expected = audit(decoded, CASE.pred_probs).compute()
    stored = zarr.open_array(tmp_path / "data.zarr/labels", mode="r")
    assert audit(stored, CASE.pred_probs).attrs == expected.attrs
    np.testing.assert_array_equal(audit(stored, CASE.pred_probs).class_count, expected.class_count)
    assert expected.class_count.sum() == (~LOST).sum()


def test_a_fill_value_in_words() -> None:
    labels = zarr_labels(CASE.labels, {"_FillValue": "none"})
    with pytest.raises(InputError, match="labels: the attribute _FillValue is 'none', it must be"):
        audit(labels, zarr_probs())


FILL = (
    "labels: 0 is their fill value and one of the classes 0..3: its pixels take part in nothing; "
    "if it is a class, open the labels with xarray's mask_and_scale=False"
)


def decoded_labels(tmp_path: Path) -> xr.DataArray:
    """xarray takes the fill value of Zarr 2 arrays, often 0, for one of its own."""
    labels = np.where(LOST, 0, CASE.labels)
    group = zarr.open_group(tmp_path / "older.zarr", mode="w", zarr_format=2)
    array = group.create_array("labels", data=labels, chunks=(1, 6, 8), fill_value=0)
    array.attrs["_ARRAY_DIMENSIONS"] = ["image", "y", "x"]
    return xr.open_zarr(tmp_path / "older.zarr", consolidated=False).labels


def calls(labels: Any, top: int = 1) -> dict[str, Any]:
    issues, probs = RAW, CASE.pred_probs
    return {
        **{name: partial(f, labels, probs) for name, f in FUNCTIONS.items()},
        "common": partial(common_label_issues, issues, labels, probs, verbose=False),
        "filter": partial(filter_by_class, 1, issues, labels, probs),
        "display": partial(display_issues, issues, labels=labels, pred_probs=probs, top=top),
    }


@pytest.mark.parametrize("name", calls(None))
def test_a_class_that_is_the_fill_value(name: str, tmp_path: Path) -> None:
    decoded = decoded_labels(tmp_path)
    assert decoded.dtype.kind == "f"
    attribute = zarr_labels(np.where(LOST, 0, CASE.labels), {"_FillValue": 0})
    for labels in (decoded, decoded.load(), attribute):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            calls(labels)[name]()
        assert [w.category for w in caught] == [LabelQCWarning]
        assert str(caught[0].message).startswith(FILL)


@every_function
def test_no_warning_where_the_fill_value_is_no_class_or_ignored(
    function: Any, tmp_path: Path
) -> None:
    decoded = decoded_labels(tmp_path)
    function(decoded, CASE.pred_probs, ignore_index=0)
    function(zarr_labels(CASE.labels, {"_FillValue": 9}), CASE.pred_probs)
    undecoded = xr.open_zarr(tmp_path / "older.zarr", mask_and_scale=False, consolidated=False)
    found = computed(function(undecoded.labels, CASE.pred_probs))
    labels = np.where(LOST, 0, CASE.labels)
    expected = function(labels, CASE.pred_probs)
    if isinstance(found, xr.Dataset):
        xr.testing.assert_equal(found, expected)
    else:
        assert_same(found, expected)


# The summaries

PLAIN = (RAW & ~LOST, CASE.labels, CASE.pred_probs)


def summaries(issues: Any, labels: Any, pred_probs: Any) -> tuple[Any, list[Any]]:
    with dask.config.set(scheduler="sync"):
        table = common_label_issues(issues, labels, pred_probs, verbose=False, top=100)
        masks = [filter_by_class(k, issues, labels, pred_probs) for k in range(4)]
        return table, [np.asarray(mask) for mask in masks]


def assert_same_summaries(found: Any, expected: Any) -> None:
    assert found[0].equals(expected[0])
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(a, b)


@every_container
def test_summaries_of_labels_with_nan(container: Any, tmp_path: Path) -> None:
    labels, pred_probs = container(FLOATS, CASE.pred_probs, tmp_path)
    assert_same_summaries(summaries(RAW, labels, pred_probs), summaries(*PLAIN))


@masked_container
@every_mask
def test_summaries_of_masked_arrays(container: Any, masked: Any, tmp_path: Path) -> None:
    labels, pred_probs = container(*masked(), tmp_path)
    assert_same_summaries(summaries(RAW, labels, pred_probs), summaries(*PLAIN))


def test_summaries_of_masked_flags() -> None:
    issues = np.ma.MaskedArray(RAW, LOST)
    for flags in (issues, da.from_array(issues, chunks=(2, 3, 4))):
        assert_same_summaries(summaries(flags, *PLAIN[1:]), summaries(*PLAIN))


def test_summaries_of_labels_with_a_fill_value() -> None:
    labels = zarr_labels(CASE.labels, {"_FillValue": 9})
    assert_same_summaries(summaries(RAW, labels, zarr_probs()), summaries(*PLAIN))


@pytest.mark.parametrize("name", ["common", "filter", "display"])
def test_a_fraction_in_a_summary(name: str) -> None:
    labels = FLOATS.copy()
    labels[1, 4, 5] = 1.5
    with pytest.raises(InputError, match=r"labels: got 1\.5 at image 1, pixel \(4, 5\); labels of"):
        calls(labels, top=3)[name]()


def panels(*arrays: Any) -> list[np.ndarray]:
    issues, labels, pred_probs = arrays
    with dask.config.set(scheduler="sync"):
        figures = display_issues(issues, labels=labels, pred_probs=pred_probs, top=3)
    return [np.asarray(axis.images[0].get_array()) for f in figures for axis in f.axes]


@pytest.mark.parametrize("lazy", [False, True])
def test_pictures_of_what_is_masked(lazy: bool) -> None:
    def wrapped(*arrays: Any) -> Any:
        return tuple(da.from_array(a, chunks=2) for a in arrays) if lazy else arrays

    expected = panels(*PLAIN)
    for labels in (FLOATS, masked_labels()[0]):
        found = panels(*wrapped(PLAIN[0], labels, CASE.pred_probs))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    found = panels(*wrapped(np.ones_like(LOST), *masked_predictions()))
    for given_panel, predicted, flags, lost in zip(
        found[0::3], found[1::3], found[2::3], LOST, strict=True
    ):
        assert not (given_panel[lost] == 0).all(axis=-1).any()
        assert (predicted[lost] == 0).all()
        assert (flags[lost] == 255).all()
        assert (flags[~lost] == (255, 0, 0)).all()
    (flags,) = wrapped(np.ma.MaskedArray(np.ones_like(LOST), LOST))
    for a, b in zip(panels(flags, None, None), panels(~LOST, None, None), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">u2", "f2"])
def test_summaries_of_any_byte_order(dtype: str) -> None:
    probs = CASE.pred_probs if dtype[1] == "f" or dtype == "f2" else CASE.pred_probs * 65535
    native = np.dtype(dtype).newbyteorder("=")
    arrays = PLAIN[0], CASE.labels, probs.astype(native)
    for labels in (CASE.labels.astype(">i2"), CASE.labels):
        found = PLAIN[0], labels, probs.astype(dtype)
        assert_same_summaries(summaries(*found), summaries(*arrays))
        for a, b in zip(panels(*found), panels(*arrays), strict=True):
            np.testing.assert_array_equal(a, b)
        lazily = (*found[:2], da.from_array(found[2], chunks=2))
        assert_same_summaries(summaries(*lazily), summaries(*arrays))


def test_masks_go_to_the_workers_of_a_cluster() -> None:
    """Arrays in memory are sent there block by block."""
    labels, _ = masked_labels()
    probs = da.from_array(CASE.pred_probs, chunks=(1, 4, 6, 8))
    with local_cluster(threads=2, processes=False, default=True):
        table = common_label_issues(np.ma.MaskedArray(RAW, LOST), labels, probs, verbose=False)
    assert table.equals(summaries(*PLAIN)[0].head(len(table)))
    assert table.num_pixel_issues.sum() == (RAW & ~LOST).sum()
