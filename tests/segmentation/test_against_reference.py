"""The public functions against the reference, in every container and every chunking."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.segmentation import audit, find_label_issues, get_label_quality_scores
from tests import reference
from tests.segmentation.containers import every_container, smallest_groups, zarr_arrays
from tests.strategies import Case, cases, chunkings, make_case

QUIET = {"verbose": False}
everything = partial(audit, pixel_scores=True, predicted_label=True)

CASES = {
    "image": make_case(1, (3, 6, 8), 4),
    "signal": make_case(2, (5, 12), 3, dtype="f8", label_dtype="u1", ignored=(255,), void=0.3),
    "volume": make_case(3, (2, 4, 6, 2), 5, dtype="f2", label_dtype=">i2", ignored=(-1,), void=0.2),
    "scaled": make_case(4, (3, 6, 8), 7, dtype="u1", label_dtype="u8", resolution=8),
    "scaled_wide": make_case(5, (4, 6, 8), 2, dtype=">u2", label_dtype="?"),
    "downsampled": make_case(6, (3, 6, 8), 4, downsample=2, ignored=(3,), void=0.2),
    "majority": make_case(7, (3, 6, 9), 4, downsample=3, label_downsample="majority"),
    "ties": make_case(8, (3, 6, 8), 3, resolution=4, mistakes=1.0),
}


def check(found: xr.Dataset, case: Case, **arguments: Any) -> None:
    """Compare every output: equal but for the softmin, whose weights are rounded."""
    expected = reference.audit(case.labels, case.pred_probs, **case.arguments, **arguments)
    for name, variable in found.items():
        values = getattr(expected, str(name))
        if name == "image_score":
            np.testing.assert_allclose(variable, values, rtol=1e-12)
        else:
            np.testing.assert_array_equal(variable, values, err_msg=str(name))
    assert len(found) == 10


@every_container
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("groups", ["usual", "smallest"])
def test_audit(container: Any, name: str, groups: str, tmp_path: Path) -> None:
    case = CASES[name]
    with smallest_groups() if groups == "smallest" else dask.config.set({}):
        found = everything(*container(case.labels, case.pred_probs, tmp_path), **case.arguments)
        check(found.compute(scheduler="sync"), case)


@every_container
@pytest.mark.parametrize("name", ["image", "downsampled", "volume"])
def test_single_functions(container: Any, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    arrays = container(case.labels, case.pred_probs, tmp_path)
    expected = reference.audit(case.labels, case.pred_probs, **case.arguments)
    mask = find_label_issues(*arrays, **case.arguments, **QUIET)
    softmin, pixels = get_label_quality_scores(
        *arrays, **case.arguments | {"downsample": 1}, **QUIET
    )
    fraction, same_pixels = get_label_quality_scores(
        *arrays, **case.arguments, method="num_pixel_issues", **QUIET
    )
    with dask.config.set(scheduler="sync"):
        np.testing.assert_array_equal(mask, expected.label_issues)
        np.testing.assert_allclose(softmin, expected.image_score, rtol=1e-12)
        np.testing.assert_array_equal(pixels, expected.pixel_scores)
        np.testing.assert_array_equal(fraction, 1 - expected.image_issue_fraction)
        np.testing.assert_array_equal(same_pixels, expected.pixel_scores)


@given(cases(), st.sampled_from([0.1, 2.0]), st.sampled_from([1, 3]), st.sampled_from([None, 1, 4]))
def test_numpy(case: Case, temperature: float, n_jobs: int, batch_size: int | None) -> None:
    found = everything(
        case.labels,
        case.pred_probs,
        **case.arguments,
        temperature=temperature,
        n_jobs=n_jobs,
        batch_size=batch_size,
    )
    check(found, case, temperature=temperature)


@given(cases(), st.data())
def test_dask_with_any_chunks(case: Case, data: st.DataObject) -> None:
    labels = da.from_array(case.labels, chunks=data.draw(chunkings(case.labels.shape)))
    probs = da.from_array(case.pred_probs, chunks=data.draw(chunkings(case.pred_probs.shape)))
    batch_size = data.draw(st.sampled_from([None, 1, 4]))
    found = everything(labels, probs, **case.arguments, batch_size=batch_size)
    check(found.compute(scheduler="sync"), case)


@given(cases(), st.data())
def test_zarr_with_any_chunks(case: Case, data: st.DataObject) -> None:
    chunks = tuple(c[0] for c in data.draw(chunkings(case.pred_probs.shape)))
    label_chunks = tuple(c[0] for c in data.draw(chunkings(case.labels.shape)))
    arrays = zarr_arrays(case.labels, case.pred_probs, chunks=chunks, label_chunks=label_chunks)
    batch_size = data.draw(st.sampled_from([None, 1, 4]))
    with smallest_groups():
        found = everything(*arrays, **case.arguments, batch_size=batch_size)
        check(found.compute(scheduler="sync"), case)


@every_container
def test_logits(container: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((3, 5, 6, 8))).astype("f4")
    labels = rng.integers(0, 5, (3, 6, 8))
    expected = reference.audit(labels, logits, from_logits=True)
    found = everything(*container(labels, logits, tmp_path), from_logits=True)
    found = found.compute(scheduler="sync")
    np.testing.assert_array_equal(found.label_issues, expected.label_issues)
    np.testing.assert_array_equal(found.predicted_label, expected.predicted_label)
    np.testing.assert_allclose(found.pixel_scores, expected.pixel_scores, rtol=1.2e-7)
    np.testing.assert_allclose(found.image_score, expected.image_score, rtol=1e-6)
    np.testing.assert_allclose(found.confident_threshold, expected.confident_threshold, rtol=1e-6)


@pytest.mark.parametrize("lazy", [False, True])
def test_scale_factor_in_the_attributes(lazy: bool) -> None:
    case = make_case(dtype="u1")
    stored = (case.pred_probs // 2).astype("u1")
    stored[:, 0] += (127 - stored.sum(axis=1)).astype("u1")
    case = Case(case.labels, stored)
    labels = xr.DataArray(case.labels, dims=("n", "y", "x"))
    predicted = xr.DataArray(stored, dims=("n", "k", "y", "x"), attrs={"scale_factor": 1 / 127})
    check(everything(labels, predicted), case, scale=1 / 127)
    if lazy:
        given, probs = zarr_arrays(case.labels, stored)
        probs.attrs["scale_factor"] = 1 / 127
        for source in (given, da.from_zarr(given)):
            check(everything(source, probs).compute(scheduler="sync"), case, scale=1 / 127)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 16, 16), (2, 16, 16), (7, 1, 1), (1, 13, 17)])
@pytest.mark.parametrize("lazy", [False, True])
def test_shapes_whose_sizes_are_on_the_edge_of_a_dtype(shape: Any, lazy: bool) -> None:
    case = make_case(0, shape, 2)
    arrays = case.labels, case.pred_probs
    if lazy:
        arrays = tuple(da.from_array(a, chunks=a.shape) for a in arrays)
    check(everything(*arrays).compute(scheduler="sync"), case)


def test_an_image_of_65536_pixels() -> None:
    case = make_case(0, (1, 256, 256), 2, mistakes=0.9)
    found = everything(case.labels, case.pred_probs)
    assert found.image_issue_count == found.label_issues.sum() > 1000


def test_an_image_of_void_pixels_only() -> None:
    case = make_case(ignored=(9,), void=0.0)
    case.labels[1] = 9
    found = everything(case.labels, case.pred_probs, ignore_index=9)
    assert np.isnan(found.image_score[1])
    assert np.isnan(found.image_issue_fraction[1])
    assert np.isnan(found.pixel_scores[1]).all()
    assert not found.label_issues[1].any()
    check(found, case)


def test_perfect_labels_have_no_issues() -> None:
    case = make_case(mistakes=0.0)
    found = everything(case.labels, case.pred_probs)
    assert not found.label_issues.any()
    check(found, case)
