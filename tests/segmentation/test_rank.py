from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zarr.storage import MemoryStore

from dask_labelqc.segmentation import issues_from_scores
from tests import reference
from tests.segmentation.containers import never_computing

SCORES = arrays(
    np.float64,
    st.integers(0, 20),
    elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, np.nan]) | st.floats(0, 1),
)


def as_zarr(values: np.ndarray) -> zarr.Array:
    return zarr.create_array(MemoryStore(), data=values, chunks=(2,) * values.ndim)


CONTAINERS = pytest.mark.parametrize(
    "container", [np.asarray, da.from_array, as_zarr, xr.DataArray], ids=lambda f: f.__name__
)


@given(SCORES, st.sampled_from([0, 0.1, 0.25, 1]) | st.floats(0, 1))
def test_images_below_the_threshold_lowest_first(scores: np.ndarray, threshold: float) -> None:
    found = issues_from_scores(scores, threshold=threshold)
    np.testing.assert_array_equal(found, reference.issues_from_scores(scores, threshold=threshold))


@CONTAINERS
def test_images_of_any_container(container: Any) -> None:
    scores = container(np.array([0.3, 0.05, 0.5, 0.05, 0.01]))
    found = issues_from_scores(scores, threshold=0.3)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [4, 1, 3]


@CONTAINERS
def test_pixels_of_any_container(container: Any) -> None:
    pixels = np.random.default_rng(0).random((3, 4, 5)).astype("f4")
    pixels[0, 0, 0] = np.nan
    with never_computing():
        found = issues_from_scores(np.zeros(3), container(pixels), threshold=0.25)
    assert found.dtype == bool
    kinds = {np.asarray: np.ndarray, xr.DataArray: xr.DataArray}
    assert isinstance(found, kinds.get(container, da.Array))
    np.testing.assert_array_equal(found, reference.issues_from_scores(None, pixels, 0.25))


def test_the_default_threshold() -> None:
    assert issues_from_scores(np.array([0.1, 0.09])).tolist() == [1]
