"""The same bits whatever the chunks, the scheduler and the workers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.segmentation import audit, find_label_issues, get_label_quality_scores
from tests.clusters import forking, local_cluster
from tests.segmentation.containers import smallest_groups, zarr_arrays
from tests.strategies import cases, chunkings, make_case

ARGUMENTS = {"pixel_scores": True, "predicted_label": True}
TIES = make_case(1, (6, 8, 8), 5, resolution=8, mistakes=0.7, ignored=(4,), void=0.2)
FINE = make_case(2, (6, 8, 8), 5, mistakes=0.7, downsample=2)
CASES = pytest.mark.parametrize("case", [TIES, FINE], ids=["ties", "downsampled"])


def in_memory(case: Any) -> xr.Dataset:
    return audit(case.labels, case.pred_probs, **case.arguments, **ARGUMENTS)


def same_bits(found: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(found) == set(expected)
    for name in expected:
        a, b = found[name].values, expected[name].values
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name


@CASES
@pytest.mark.parametrize("n_jobs", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_threads_and_batches_in_memory(case: Any, n_jobs: int, batch_size: int | None) -> None:
    found = audit(
        case.labels,
        case.pred_probs,
        **case.arguments,
        **ARGUMENTS,
        n_jobs=n_jobs,
        batch_size=batch_size,
    )
    same_bits(found, in_memory(case))


def test_rows_of_large_images_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask_labelqc.segmentation.inputs.WHOLE_IMAGE_BYTES", 1)
    case = make_case(3, (1, 520, 4), 3, dtype="f8", mistakes=0.5)
    found = in_memory(case)
    monkeypatch.undo()
    same_bits(found, in_memory(case))


@CASES
@pytest.mark.parametrize(
    "chunks",
    [(6, 5, 8, 8), (1, 5, 8, 8), (4, 2, 8, 8), (1, 1, 8, 8), (2, 5, 4, 8), (6, 5, 3, 3)],
)
@pytest.mark.parametrize("source", ["dask", "zarr"])
def test_chunks(case: Any, chunks: tuple[int, ...], source: str) -> None:
    if source == "dask":
        arrays = da.from_array(case.labels, chunks=4), da.from_array(case.pred_probs, chunks=chunks)
    else:
        arrays = zarr_arrays(case.labels, case.pred_probs, chunks=chunks, label_chunks=(4, 3, 5))
    with smallest_groups():
        found = audit(*arrays, **case.arguments, **ARGUMENTS)
    same_bits(found.compute(scheduler="sync"), in_memory(case))


@given(st.data(), st.sampled_from([0.05, 0.1, 3.0]))
def test_scores_of_any_chunks(data: st.DataObject, temperature: float) -> None:
    case = data.draw(cases(downsampling=False))
    arguments = {"ignore_index": case.ignore_index, "temperature": temperature, "verbose": False}
    pieces = data.draw(chunkings(case.labels.shape)), data.draw(chunkings(case.pred_probs.shape))
    expected = get_label_quality_scores(case.labels, case.pred_probs, **arguments)
    arrays = (case.labels, case.pred_probs)
    lazily = (da.from_array(a, chunks=c) for a, c in zip(arrays, pieces, strict=True))
    with smallest_groups():
        found = dask.compute(*get_label_quality_scores(*lazily, **arguments), scheduler="sync")
    for a, b in zip(found, expected, strict=True):
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())


def test_scores_of_a_low_temperature_are_float_sums() -> None:
    """Below 0.05 no integers hold the sums: where chunks split an image they agree to 1e-12."""
    arguments = {"temperature": 0.01, "verbose": False}
    expected, _ = get_label_quality_scores(FINE.labels, FINE.pred_probs, **arguments)
    arrays = da.from_array(FINE.labels), da.from_array(FINE.pred_probs, chunks=(6, 5, 3, 3))
    found, _ = get_label_quality_scores(*arrays, **arguments)
    np.testing.assert_allclose(found.compute(scheduler="sync"), expected, rtol=1e-12)


def test_the_order_of_the_pixels_does_not_matter_to_the_scores() -> None:
    case = make_case(5, (5, 37, 61), 4, ignored=(3,), void=0.3)
    arguments = {"ignore_index": 3, "verbose": False}
    order = np.random.default_rng(0).permutation(37 * 61)
    flat = case.labels.reshape(5, -1)[:, order], case.pred_probs.reshape(5, 4, -1)[..., order]
    expected, _ = get_label_quality_scores(case.labels, case.pred_probs, **arguments)
    found, _ = get_label_quality_scores(*flat, **arguments)
    assert found.tobytes() == expected.tobytes()


def test_the_order_of_the_images_does_not_matter() -> None:
    case = make_case(4, (5, 7, 7), 4)  # without ties
    order = np.array([3, 0, 4, 2, 1])
    mask = find_label_issues(case.labels, case.pred_probs, verbose=False)
    moved = find_label_issues(case.labels[order], case.pred_probs[order], verbose=False)
    np.testing.assert_array_equal(moved, mask[order])


def lazy(case: Any, path: Any) -> xr.Dataset:
    """The audit of Zarr arrays in files, a task for each chunk."""
    zarr_arrays(case.labels, case.pred_probs, path / "data.zarr", chunks=(1, 5, 8, 4))
    group = zarr.open_group(path / "data.zarr", mode="r")
    with smallest_groups():
        return audit(group["labels"], group["pred_probs"], **case.arguments, **ARGUMENTS)


@CASES
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_schedulers(case: Any, scheduler: str, tmp_path: Path) -> None:
    with forking(), dask.config.set(num_workers=2):
        found = lazy(case, tmp_path).compute(scheduler=scheduler)
    same_bits(found, in_memory(case))


@pytest.fixture(scope="module", params=["threads", "processes"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with local_cluster(2, processes=request.param == "processes", default=True) as client:
        yield client


@CASES
def test_clusters(case: Any, client: Client, tmp_path: Path) -> None:
    same_bits(lazy(case, tmp_path).compute(), in_memory(case))
    arrays = da.from_array(case.labels, chunks=(2, 8, 8)), da.from_array(case.pred_probs, chunks=3)
    found = audit(*arrays, **case.arguments, **ARGUMENTS).compute()
    same_bits(found, in_memory(case))


def test_errors_and_warnings_reach_the_client(client: Client, tmp_path: Path) -> None:
    case = make_case()
    pred_probs = case.pred_probs.copy()
    pred_probs[2, :, 5, 7] = [0.25, 0.25, 0, 0.25]
    arrays = zarr_arrays(case.labels, pred_probs, tmp_path / "sums.zarr")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        find_label_issues(*arrays).compute()
        deadline = time.monotonic() + 30  # from another process it may arrive later
        while not caught and time.monotonic() < deadline:
            time.sleep(0.05)
    assert {w.category for w in caught} == {LabelQCWarning}
    assert "the worst sum is 0.75 at image 2, pixel (5, 7)" in str(caught[0].message)
    pred_probs[1, 0, 3, 2] = np.nan
    arrays = zarr_arrays(case.labels, pred_probs, tmp_path / "nan.zarr")
    with pytest.raises(InputError, match=r"class 0 is nan at image 1, pixel \(3, 2\)"):
        find_label_issues(*arrays).compute()
