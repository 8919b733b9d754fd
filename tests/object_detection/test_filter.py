from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from dask_labelqc.object_detection import audit, filter, passes, rank


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("seed", "num_classes"), [(0, 1), (1, 3), (2, 6), (3, 12)])
def test_issues_are_cleanlabs(cleanlab, lists, seed, num_classes, check, dtype):
    labels, predictions = lists(seed, 15, num_classes, given=4, dtype=dtype)
    options = {"overlapping_label_check": check}
    expected = cleanlab.filter.find_label_issues(labels, predictions, **options)
    found = filter.find_label_issues(labels, predictions, **options)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    options["return_indices_ranked_by_score"] = True
    ranked = filter.find_label_issues(labels, predictions, **options)
    theirs = cleanlab.filter.find_label_issues(labels, predictions, **options)
    np.testing.assert_array_equal(ranked, theirs)


def test_one_image(cleanlab, lists):
    for seed in range(6):
        labels, predictions = lists(seed, 1)
        expected = cleanlab.filter.find_label_issues(labels, predictions)
        np.testing.assert_array_equal(filter.find_label_issues(labels, predictions), expected)


def test_average_precision_is_cleanlabs(cleanlab, lists):
    labels, predictions = lists(4, 20, 5)
    expected = cleanlab.filter._get_per_class_ap(labels, predictions)
    found = audit(labels, predictions)["average_precision"].values
    np.testing.assert_allclose(found * 0.25, list(expected.values()), rtol=1e-6)


@pytest.mark.parametrize("block_boxes", [1, 40, 10**6])
@pytest.mark.parametrize("matches_at_once", [10, 10**6])
def test_columnar_is_lists_in_any_blocks(lists, sources, monkeypatch, block_boxes, matches_at_once):
    monkeypatch.setattr(passes, "MATCHES_AT_ONCE", matches_at_once)
    labels, predictions = lists(8, 12, 5)
    mask = filter.find_label_issues(labels, predictions)
    indices = filter.find_label_issues(labels, predictions, return_indices_ranked_by_score=True)
    assert 0 < mask.sum() < len(mask)
    for form, source in sources(labels, predictions).items():
        found = filter.find_label_issues(source, block_boxes=block_boxes)
        assert isinstance(found, xr.DataArray)
        assert dask.is_dask_collection(found) == (form != "numpy")
        np.testing.assert_array_equal(found.values, mask)
        ranked = filter.find_label_issues(
            source, return_indices_ranked_by_score=True, block_boxes=block_boxes
        )
        assert isinstance(ranked, np.ndarray if form == "numpy" else da.Array)
        np.testing.assert_array_equal(np.asarray(ranked), indices)


def test_ranked_indices_follow_the_scores(lists):
    labels, predictions = lists(2, 30)
    ranked = filter.find_label_issues(labels, predictions, return_indices_ranked_by_score=True)
    scores = rank.get_label_quality_scores(labels, predictions)
    assert (np.diff(scores[ranked]) >= 0).all()


def test_no_given_box_anywhere(cleanlab):
    empty = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    predictions = [[np.array([[0, 0, 9, 9, p]])] for p in (0.2, 0.99, 1.0)]
    expected = cleanlab.filter.find_label_issues([empty] * 3, predictions)
    np.testing.assert_array_equal(filter.find_label_issues([empty] * 3, predictions), expected)
