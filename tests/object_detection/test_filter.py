from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from dask_labelqc.object_detection import audit, filter, passes, rank


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("seed", "num_classes"), [(0, 1), (1, 3), (2, 6), (3, 12)])
def test_issues_are_cleanlabs(
    cleanlab: Any, lists: Any, seed: int, num_classes: int, check: Any, dtype: Any
) -> None:
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


def test_one_image(cleanlab: Any, lists: Any) -> None:
    for seed in range(6):
        labels, predictions = lists(seed, 1)
        expected = cleanlab.filter.find_label_issues(labels, predictions)
        np.testing.assert_array_equal(filter.find_label_issues(labels, predictions), expected)


def test_average_precision_is_cleanlabs(cleanlab: Any, lists: Any) -> None:
    labels, predictions = lists(4, 20, 5)
    expected = cleanlab.filter._get_per_class_ap(labels, predictions)
    found = audit(labels, predictions)["average_precision"].values
    np.testing.assert_allclose(found * 0.25, list(expected.values()), rtol=1e-6)


@pytest.mark.parametrize("block_boxes", [1, 40, 10**6])
@pytest.mark.parametrize("matches_at_once", [10, 10**6])
def test_columnar_is_lists_in_any_blocks(
    lists: Any,
    sources: Any,
    monkeypatch: pytest.MonkeyPatch,
    block_boxes: Any,
    matches_at_once: Any,
) -> None:
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


def spurious_box() -> Any:
    """Twenty good boxes, and in one image a second box where nothing is predicted."""
    box, nowhere = [0.0, 0.0, 30.0, 30.0], [300.0, 300.0, 330.0, 330.0]
    labels = [{"bboxes": np.array([box]), "labels": np.array([0])} for _ in range(20)]
    labels[7] = {"bboxes": np.array([box, nowhere]), "labels": np.array([0, 0])}
    labels[12] = {"bboxes": np.array([box, box]), "labels": np.array([0, 0])}
    return labels, [[np.array([[*box, 0.97]]), np.zeros((0, 5))] for _ in labels]


def test_spurious_boxes_are_issues_when_they_have_a_weight(sources: Any) -> None:
    labels, predictions = spurious_box()
    weights = {"overlooked": 0.3, "badloc": 0.3, "swap": 0.3, "spurious": 0.1}
    without = {"overlooked": 0.3, "badloc": 0.3, "swap": 0.4, "spurious": 0.0}
    assert not filter.find_label_issues(labels, predictions).any()
    forms = [(labels, predictions), *((s,) for s in sources(labels, predictions).values())]
    for form in forms:
        none = filter.find_label_issues(*form, aggregation_weights=without)
        assert not np.asarray(none).any()
        found = filter.find_label_issues(*form, aggregation_weights=weights)
        assert np.flatnonzero(found).tolist() == [7, 12]
        audited = audit(*form, aggregation_weights=weights)["label_issues"]
        np.testing.assert_array_equal(audited, found)
        ranked = filter.find_label_issues(
            *form, aggregation_weights=weights, return_indices_ranked_by_score=True
        )
        assert np.asarray(ranked).tolist() == [7, 12]


def test_a_class_that_is_never_found_has_no_spurious_boxes() -> None:
    labels, predictions = spurious_box()
    for label in labels:
        label["labels"] = np.ones_like(label["labels"])
    weights = {"overlooked": 0.3, "badloc": 0.3, "swap": 0.3, "spurious": 0.1}
    plain = filter.find_label_issues(labels, predictions)
    found = filter.find_label_issues(labels, predictions, aggregation_weights=weights)
    np.testing.assert_array_equal(found, plain)


def test_the_weights_rank_the_issues(lists: Any) -> None:
    labels, predictions = lists(2, 30)
    weights = {"overlooked": 0.0, "badloc": 0.0, "swap": 0.1, "spurious": 0.9}
    options = {"aggregation_weights": weights}
    ranked = filter.find_label_issues(
        labels, predictions, return_indices_ranked_by_score=True, **options
    )
    scores = rank.get_label_quality_scores(labels, predictions, **options)
    assert (np.diff(scores[ranked]) >= 0).all()
    assert set(ranked) > set(np.flatnonzero(filter.find_label_issues(labels, predictions)))


def test_ranked_indices_follow_the_scores(lists: Any) -> None:
    labels, predictions = lists(2, 30)
    ranked = filter.find_label_issues(labels, predictions, return_indices_ranked_by_score=True)
    scores = rank.get_label_quality_scores(labels, predictions)
    assert (np.diff(scores[ranked]) >= 0).all()


def test_no_given_box_anywhere(cleanlab: Any) -> None:
    empty = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    predictions = [[np.array([[0, 0, 9, 9, p]])] for p in (0.2, 0.99, 1.0)]
    expected = cleanlab.filter.find_label_issues([empty] * 3, predictions)
    np.testing.assert_array_equal(filter.find_label_issues([empty] * 3, predictions), expected)
