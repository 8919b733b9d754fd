"""Each chunk of the predictions is read once; twice only where the sums demand it."""

from __future__ import annotations

import re
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.segmentation import audit, find_label_issues, get_label_quality_scores
from tests import reference
from tests.segmentation.containers import smallest_groups, zarr_arrays
from tests.stores import CountingStore
from tests.strategies import make_case

LAYOUTS = [
    {"chunks": (1, 4, 6, 8)},
    {"chunks": (2, 4, 3, 4)},
    {"chunks": (1, 1, 6, 8)},
    {"chunks": (1, 3, 4, 5)},
    {"chunks": (3, 4, 6, 8), "label_chunks": (1, 2, 3)},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("downsample", [1, 2])
@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_all_outputs_from_one_read(
    layout: Any, downsample: Any, batch_size: Any, scheduler: Any
) -> None:
    case = make_case(shape=(5, 6, 8), downsample=downsample)
    store = CountingStore()
    arrays = zarr_arrays(case.labels, case.pred_probs, store, **layout)
    with smallest_groups():
        found = audit(
            *arrays,
            downsample=downsample,
            pixel_scores=True,
            predicted_label=True,
            batch_size=batch_size,
        )
    store.reads.clear()
    found.compute(scheduler=scheduler)
    reads = store.chunk_reads("pred_probs")
    assert len(reads) == arrays[1].nchunks
    assert set(reads.values()) == {1}


def test_mask_and_scores_together_are_two_graphs_and_two_reads() -> None:
    case = make_case()
    store = CountingStore()
    arrays = zarr_arrays(case.labels, case.pred_probs, store)
    mask = find_label_issues(*arrays)
    store.reads.clear()
    mask.compute(scheduler="sync")
    assert set(store.chunk_reads("pred_probs").values()) == {1}
    dask.compute(*get_label_quality_scores(*arrays), scheduler="sync")
    assert set(store.chunk_reads("pred_probs").values()) == {2}


def sigmoids() -> tuple[np.ndarray, np.ndarray]:
    """Independent probabilities of each class, so high that the cut lies far above one half."""
    rng = np.random.default_rng(3)
    pred_probs = (0.7 + 0.3 * rng.random((3, 4, 6, 8))).astype("f4")
    labels = rng.integers(0, 4, (3, 6, 8))
    return labels, pred_probs


def warns() -> Any:
    return pytest.warns(LabelQCWarning, match="should sum to 1")


def test_numpy_where_the_cut_lies_above_the_bound() -> None:
    labels, pred_probs = sigmoids()
    expected = reference.audit(labels, pred_probs)
    lowest = np.sort(expected.pixel_scores.ravel())
    assert lowest[expected.num_selected - 1] > 0.75  # or this is not the case it is meant to be
    with warns():
        found = audit(labels, pred_probs, pixel_scores=True)
    np.testing.assert_array_equal(found.label_issues, expected.label_issues)
    np.testing.assert_array_equal(found.issue_matrix, expected.issue_matrix)
    np.testing.assert_array_equal(found.pixel_scores, expected.pixel_scores)


@pytest.mark.parametrize("downsample", [1, 2])
def test_zarr_where_the_cut_lies_above_the_bound_is_read_twice(downsample: int) -> None:
    labels, pred_probs = sigmoids()
    store = CountingStore()
    arrays = zarr_arrays(labels, pred_probs, store, chunks=(1, 2, 6, 4))
    expected = reference.audit(labels, pred_probs, downsample=downsample)
    with smallest_groups():
        found = audit(*arrays, pixel_scores=True, downsample=downsample)
    assert found.label_issues.data.numblocks == (3, 1, 2)
    store.reads.clear()
    with warns():
        found = found.compute(scheduler="sync")
    np.testing.assert_array_equal(found.label_issues, expected.label_issues)
    np.testing.assert_array_equal(found.issue_matrix, expected.issue_matrix)
    if downsample == 1:  # the cells of the small grid are renormalised: their bound holds
        assert set(store.chunk_reads("pred_probs").values()) == {2}
    else:
        assert set(store.chunk_reads("pred_probs").values()) == {1}


def test_dask_where_the_cut_lies_above_the_bound_cannot_be_read_again() -> None:
    labels, pred_probs = sigmoids()
    mask = find_label_issues(labels, da.from_array(pred_probs, chunks=(1, 4, 6, 8)))
    message = (
        "pred_probs: the probabilities sum to more than 1 and the cut falls above a score of "
        "0.505, so that they have to be read again, which a Dask array does not allow"
    )
    with warns(), pytest.raises(InputError, match=re.escape(message)):
        mask.compute(scheduler="sync")


def test_a_cut_below_the_bound_needs_no_second_read_whatever_the_sums() -> None:
    case = make_case(mistakes=0.1)
    pred_probs = np.minimum(case.pred_probs * np.float32(1.2), 1)
    store = CountingStore()
    arrays = zarr_arrays(case.labels, pred_probs, store)
    store.reads.clear()
    with warns():
        mask = find_label_issues(*arrays).compute(scheduler="sync")
    expected = reference.audit(case.labels, pred_probs)
    np.testing.assert_array_equal(mask, expected.label_issues)
    assert set(store.chunk_reads("pred_probs").values()) == {1}
    lazy = find_label_issues(case.labels, da.from_array(pred_probs))
    with warns():
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected.label_issues)
