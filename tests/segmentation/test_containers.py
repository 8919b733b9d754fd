"""What goes in comes out, and nothing is computed or copied before it is asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.segmentation import (
    audit,
    find_label_issues,
    get_label_quality_scores,
    issues_from_scores,
)
from tests.clusters import local_cluster
from tests.segmentation.containers import (
    dims_of,
    in_memory_container,
    in_xarray,
    lazy_container,
    never_computing,
    smallest_groups,
    xarray_over_dask_any_order,
    xarray_over_numpy,
    zarr_arrays,
)
from tests.stores import CountingStore
from tests.strategies import make_case

CASE = make_case()
QUIET = {"verbose": False}
DENSE = {"pixel_scores": True, "predicted_label": True}


def answers(arrays: Any) -> dict:
    """Every answer that is not a Dataset, by what it is."""
    scores, pixels = get_label_quality_scores(*arrays, **QUIET)
    fractions, _ = get_label_quality_scores(*arrays, method="num_pixel_issues", **QUIET)
    return {
        "mask": find_label_issues(*arrays, **QUIET),
        "scores": scores,
        "fractions": fractions,
        "pixels": pixels,
        "below": issues_from_scores(scores, pixels, threshold=0.5),
    }


DTYPES = {"mask": "?", "scores": "f8", "fractions": "f8", "pixels": "f4", "below": "?"}


@in_memory_container
def test_in_memory_answers(container: Any, tmp_path: Path) -> None:
    labels, pred_probs = container(CASE.labels, CASE.pred_probs, tmp_path)
    with never_computing():
        found = answers((labels, pred_probs))
    wanted = xr.DataArray if isinstance(labels, xr.DataArray) else np.ndarray
    for name, values in found.items():
        assert type(values) is wanted, name
        assert isinstance(getattr(values, "data", values), np.ndarray | memoryview), name
        assert values.dtype == np.dtype(DTYPES[name]), name


@lazy_container
def test_lazy_answers_compute_nothing(container: Any, tmp_path: Path) -> None:
    labels, pred_probs = container(CASE.labels, CASE.pred_probs, tmp_path)
    with never_computing():
        found = answers((labels, pred_probs))
        dataset = audit(labels, pred_probs, pixel_scores=True, predicted_label=True)
    wanted = xr.DataArray if isinstance(labels, xr.DataArray) else da.Array
    for name, values in found.items():
        assert type(values) is wanted, name
        assert dask.is_dask_collection(values), name
        assert values.dtype == np.dtype(DTYPES[name]), name
        computed = values.compute(scheduler="sync")
        assert computed.dtype == values.dtype, name
        assert computed.shape == values.shape, name
    for name, variable in dataset.items():
        assert isinstance(variable.data, da.Array), name
        computed = variable.compute(scheduler="sync")
        assert (computed.dtype, computed.shape) == (variable.dtype, variable.shape), name


def test_building_reads_no_chunk() -> None:
    store = CountingStore()
    arrays = zarr_arrays(CASE.labels, CASE.pred_probs, store)
    store.reads.clear()
    answers(arrays)
    audit(*arrays)
    assert not store.chunk_reads("labels")
    assert not store.chunk_reads("pred_probs")


@pytest.mark.parametrize("container", [xarray_over_numpy, xarray_over_dask_any_order])
def test_xarray_keeps_dims_and_coords(container: Any, tmp_path: Path) -> None:
    labels, pred_probs = container(CASE.labels, CASE.pred_probs, tmp_path)
    found = answers((labels, pred_probs))
    for name in ("mask", "pixels", "below"):
        values = found[name]
        assert values.dims == labels.dims
        xr.testing.assert_identical(values.coords.to_dataset(), labels.coords.to_dataset())
        assert values.attrs == {}
    for name in ("scores", "fractions"):
        values = found[name]
        assert values.dims == ("image",)
        assert set(values.coords) == {"image", "day", "sensor"}
        assert values.attrs == {}
    names = [found[name].name for name in ("mask", "scores", "pixels")]
    assert names == ["label_issues", "image_score", "pixel_scores"]


def test_dataset_keeps_dims_and_coords_of_xarray() -> None:
    labels, pred_probs = in_xarray(CASE.labels, CASE.pred_probs)
    labels = labels.rename(image="scene", y="north")
    found = audit(labels, pred_probs.rename(image="scene", y="north"))
    assert found.label_issues.dims == ("scene", "north", "x")
    assert found.image_score.dims == ("scene",)
    coords = found.coords.to_dataset().drop_attrs()
    xr.testing.assert_identical(coords, labels.coords.to_dataset())


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4), (2, 3, 2, 4)])
def test_dataset_has_the_documented_variables(shape: tuple[int, ...]) -> None:
    case = make_case(0, shape, 300, dtype="f8", downsample=1)
    found = audit(case.labels, case.pred_probs, pixel_scores=True, predicted_label=True)
    per_pixel = dims_of(case.labels)
    expected = {
        "label_issues": (per_pixel, "?"),
        "pixel_scores": (per_pixel, "f8"),
        "predicted_label": (per_pixel, "u2"),
        "image_score": (("image",), "f8"),
        "image_issue_fraction": (("image",), "f8"),
        "image_issue_count": (("image",), "i8"),
        "confident_threshold": (("class",), "f8"),
        "class_count": (("class",), "i8"),
        "class_issue_count": (("class",), "i8"),
        "issue_matrix": (("given_class", "predicted_class"), "i8"),
    }
    assert {str(n): (v.dims, v.dtype.str[1:].replace("b1", "?")) for n, v in found.items()} == {
        name: (dims, dtype) for name, (dims, dtype) in expected.items()
    }
    assert set(audit(case.labels, case.pred_probs)) == set(expected) - {
        "pixel_scores",
        "predicted_label",
    }


def test_dataset_says_how_it_was_made() -> None:
    found = audit(CASE.labels, CASE.pred_probs, ignore_index=[9, -1], temperature=0.2)
    assert found.attrs["ignore_index"] == [-1, 9]
    assert found.attrs["temperature"] == 0.2
    assert found.attrs["downsample"] == 1
    assert "version" in found.attrs


def test_memmaps_are_not_copied(tmp_path: Path) -> None:
    case = make_case(0, (16, 64, 64), 2, mistakes=0.1)
    pred_probs = np.zeros((16, 200, 64, 64), np.float32)
    pred_probs[:, :2] = case.pred_probs
    np.save(tmp_path / "pred_probs.npy", pred_probs)
    mapped = np.load(tmp_path / "pred_probs.npy", mmap_mode="r")
    tracemalloc.start()
    try:
        find_label_issues(case.labels, mapped, n_jobs=1, **QUIET)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < mapped.nbytes / 8


def test_inputs_are_left_as_they_are() -> None:
    case = make_case(ignored=(3,), void=0.2, downsample=2)
    labels, pred_probs = case.labels.copy(), case.pred_probs.copy()
    audit(case.labels, case.pred_probs, **case.arguments)
    np.testing.assert_array_equal(labels, case.labels)
    np.testing.assert_array_equal(pred_probs, case.pred_probs)


def test_lazy_mask_goes_to_zarr(tmp_path: Path) -> None:
    arrays = zarr_arrays(CASE.labels, CASE.pred_probs, tmp_path / "data.zarr")
    mask = find_label_issues(*arrays, batch_size=2)
    mask.to_zarr(tmp_path / "mask.zarr", compute=True)
    stored = da.from_zarr(tmp_path / "mask.zarr").compute()
    np.testing.assert_array_equal(stored, find_label_issues(CASE.labels, CASE.pred_probs, **QUIET))


def test_lazy_dataset_goes_to_zarr(tmp_path: Path) -> None:
    arrays = zarr_arrays(CASE.labels, CASE.pred_probs)
    audit(*arrays, pixel_scores=True).to_zarr(tmp_path / "audit.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "audit.zarr", consolidated=False) as stored:
        xr.testing.assert_equal(
            stored.compute(), audit(CASE.labels, CASE.pred_probs, pixel_scores=True)
        )


def test_progress_is_shown_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    audit(CASE.labels, CASE.pred_probs)
    find_label_issues(CASE.labels, CASE.pred_probs, verbose=False)
    assert capsys.readouterr() == ("", "")
    find_label_issues(CASE.labels, CASE.pred_probs)
    assert capsys.readouterr().out == ""


def test_named_zarr_predictions_follow_the_dims_of_xarray_labels() -> None:
    case = make_case(3)
    labels = xr.DataArray(case.labels, dims=("n", "h", "w"))
    pred_probs = zarr.create_array(
        {},
        data=np.ascontiguousarray(case.pred_probs.transpose(2, 3, 0, 1)),
        dimension_names=("h", "w", "n", "class"),
    )
    mask = find_label_issues(labels, pred_probs)
    expected = find_label_issues(case.labels, case.pred_probs, verbose=False)
    np.testing.assert_array_equal(mask.values, expected)


@lazy_container
def test_a_lazy_dataset_computed_by_dask_itself(container: Any, tmp_path: Path) -> None:
    """Dask loses what one variable of a Dataset is and another is made of."""
    arrays = container(CASE.labels, CASE.pred_probs, tmp_path)
    found = audit(*arrays, **DENSE)
    (computed,) = dask.compute(found, scheduler="sync")
    xr.testing.assert_identical(computed, audit(*arrays, **DENSE).compute(scheduler="sync"))
    (kept,) = dask.persist(found, scheduler="sync")
    xr.testing.assert_identical(kept.compute(scheduler="sync"), computed)


def test_a_lazy_dataset_computed_by_a_client() -> None:
    found = audit(*zarr_arrays(CASE.labels, CASE.pred_probs), **DENSE)
    with local_cluster(threads=2, processes=False) as client:
        computed = client.compute(found).result()
    xr.testing.assert_identical(computed, found.compute(scheduler="sync"))


def test_dask_computes_a_dataset_from_one_read() -> None:
    store = CountingStore()
    arrays = zarr_arrays(CASE.labels, CASE.pred_probs, store)
    with smallest_groups():
        found = audit(*arrays, **DENSE)
    store.reads.clear()
    dask.compute(found, scheduler="sync")
    assert set(store.chunk_reads("pred_probs").values()) == {1}
