"""Examples that are masked or NaN take part in nothing; others are matched by their index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import InputError
from dask_labelqc.classification import LabelInspector, find_label_issues_batched
from tests.classification import reference
from tests.classification.examples import SCORES, arguments, draw_examples
from tests.clusters import local_cluster
from tests.strategies import examples


def drop_out(seed: int, labels: Any, pred_probs: Any) -> Any:
    """Masked labels, float labels with NaN, and masked predictions of the same examples."""
    rng = np.random.default_rng(seed)
    out = rng.random(labels.size) < 0.3
    values = np.where(out, 77, labels)
    decoded = np.where(out, np.nan, labels)
    garbage = np.where(out[:, None], np.nan, pred_probs).astype(pred_probs.dtype)
    hidden = out[:, None] & (rng.random(pred_probs.shape) < 0.5)
    hidden[out, 0] = True
    return {
        "masked labels": (np.ma.array(values, mask=out), garbage),
        "float labels": (decoded, garbage),
        "float32, masked too": (np.ma.array(decoded.astype(">f4"), mask=out), pred_probs),
        "masked predictions": (labels, np.ma.array(garbage, mask=hidden)),
        "both": (np.ma.array(values, mask=out), np.ma.array(garbage, mask=hidden)),
    }


@examples(6)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    score=st.sampled_from(SCORES),
    calibrated=st.booleans(),
)
def test_they_take_part_in_nothing(seed: int, dtype: Any, score: Any, calibrated: Any) -> None:
    labels, pred_probs = draw_examples(seed, 150, 4, dtype, noise=0.4)
    kwargs = arguments(*score, calibrated)
    for name, (given_labels, predicted) in drop_out(seed, labels, pred_probs).items():
        expected = reference.find_label_issues(
            given_labels, predicted, method=score[0], adjust=score[1], calibrated=calibrated
        )
        in_memory = find_label_issues_batched(given_labels, predicted, **kwargs)
        assert in_memory.tolist() == expected.tolist(), name
        lazy = (da.from_array(given_labels, chunks=40), da.from_array(predicted, chunks=(35, 3)))
        assert find_label_issues_batched(*lazy, **kwargs).tolist() == expected.tolist(), name
        there = np.flatnonzero(reference.codes_of(given_labels) >= 0)
        there = there[~np.ma.getmaskarray(predicted)[there].any(axis=1)]
        inspector = LabelInspector(num_class=4, **kwargs)
        inspector.update_confident_thresholds(given_labels, predicted)
        scores = inspector.score_label_quality(*lazy)
        assert np.flatnonzero(~np.isnan(scores)).tolist() == there.tolist(), name
        assert set(inspector.get_label_issues()) <= set(there.tolist())
        assert set(expected) <= set(inspector.get_label_issues())


def test_on_a_cluster() -> None:
    labels, pred_probs = draw_examples(0, 150, 4)
    with local_cluster(processes=False, default=True):
        for given_labels, predicted in drop_out(0, labels, pred_probs).values():
            found = find_label_issues_batched(
                given_labels, da.from_array(predicted, chunks=(50, 4)), verbose=False
            )
            expected = reference.find_label_issues(given_labels, predicted)
            assert found.tolist() == expected.tolist()


def test_when_all_are_left_out_there_is_no_issue() -> None:
    _, pred_probs = draw_examples(0, 20, 3)
    mask = find_label_issues_batched(
        np.full(20, np.nan), pred_probs, verbose=False, return_mask=True
    )
    assert mask.tolist() == [False] * 20


@pytest.mark.parametrize("value", [1.5, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("lazy", [False, True])
def test_fractions_are_no_labels(value: Any, lazy: Any) -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    labels = labels.astype(float)
    labels[[41, 60]] = value
    labels = da.from_array(labels, chunks=200) if lazy else labels
    with pytest.raises(InputError) as caught:
        find_label_issues_batched(labels, pred_probs, verbose=False)
    assert str(caught.value) == (
        "labels: 2 of the 100 labels of examples 0 to 99 are no whole numbers, the first is "
        f"{value} at example 41"
    )


def test_a_mask_is_left_as_it_was() -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    given_labels = np.ma.array(labels, mask=labels == 1)
    predicted = np.ma.array(pred_probs, mask=pred_probs < 0.01)
    before = given_labels.mask.copy(), predicted.mask.copy()
    find_label_issues_batched(given_labels, predicted, verbose=False)
    np.testing.assert_array_equal(given_labels.mask, before[0])
    np.testing.assert_array_equal(predicted.mask, before[1])


@pytest.mark.filterwarnings("ignore:pred_probs.*should sum to 1")  # after rounding
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u2"])
@pytest.mark.parametrize("labels_dtype", ["i2", "i8", "u4", "f8"])
def test_byte_orders(dtype: Any, labels_dtype: Any, tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 300, 5)
    pred_probs = (pred_probs * 65535).round() if dtype == "u2" else pred_probs
    little = labels.astype(f"<{labels_dtype}"), pred_probs.astype(f"<{dtype}")
    big = labels.astype(f">{labels_dtype}"), pred_probs.astype(f">{dtype}")
    expected = find_label_issues_batched(*little, verbose=False)
    assert expected.size
    stored = [zarr.create_array(tmp_path / str(a.ndim), data=a) for a in big]
    lazy = [da.from_array(a, chunks=(100, 5)[: a.ndim]) for a in big]
    for some in (big, stored, lazy):
        assert find_label_issues_batched(*some, verbose=False).tolist() == expected.tolist()
        inspector = LabelInspector(num_class=5, verbose=False)
        inspector.update_confident_thresholds(*some)
        inspector.score_label_quality(*some)
        assert set(expected) <= set(inspector.get_label_issues())


def as_xarray(labels: Any, pred_probs: Any, lazy: bool = False) -> Any:
    names = [f"image-{i:03}" for i in range(labels.size)]
    if lazy:
        labels, pred_probs = da.from_array(labels, chunks=70), da.from_array(pred_probs, chunks=40)
    return (
        xr.DataArray(labels, {"example": names}, ("example",)),
        xr.DataArray(pred_probs, {"example": names}, ("example", "class")),
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_another_order_of_the_index_is_followed(lazy: Any) -> None:
    plain = draw_examples(0, 200, 4)
    expected = find_label_issues_batched(*plain, verbose=False)
    labels, pred_probs = as_xarray(*plain, lazy)
    order = np.random.default_rng(0).permutation(200)
    for predicted in (pred_probs[order], pred_probs[::-1].T):
        found = find_label_issues_batched(labels, predicted, verbose=False)
        assert found.tolist() == expected.tolist()
        inspector = LabelInspector(num_class=4, verbose=False)
        inspector.update_confident_thresholds(labels, predicted)
        inspector.score_label_quality(labels, predicted)
        assert set(expected) <= set(inspector.get_label_issues())


def test_indexes_of_other_examples_are_refused() -> None:
    labels, pred_probs = as_xarray(*draw_examples(0, 50, 4))
    other = pred_probs.assign_coords(example=[f"image-{i:03}" for i in range(3, 53)])
    with pytest.raises(InputError) as caught:
        find_label_issues_batched(labels, other, verbose=False)
    assert str(caught.value).startswith(
        "pred_probs: the labels along 'example' differ from those of labels: 3 of 50 that labels "
        "has are not in pred_probs, the first is 'image-000'; 3 of 50 that pred_probs has are not "
        "in labels, the first is 'image-050'; select the same ones of both"
    )
    twice = pred_probs.assign_coords(example=["image-007"] * 50)
    message = (
        "pred_probs: the label 'image-007' stands along 'example' more than once, and labels and "
        "pred_probs do not have the same labels in the same order"
    )
    with pytest.raises(InputError, match=f"^{message}; "):
        find_label_issues_batched(labels, twice, verbose=False)
    longer = xr.concat([pred_probs, pred_probs.assign_coords(example=np.arange(50))], "example")
    message = (
        "pred_probs: the labels along 'example' differ from those of labels: 50 of 100 that "
        "pred_probs has are not in labels, the first is 0"
    )
    with pytest.raises(InputError, match=f"^{message}; "):
        find_label_issues_batched(labels, longer, verbose=False)
    expected = find_label_issues_batched(labels.values, pred_probs.values, verbose=False)
    unnamed = find_label_issues_batched(labels, other.drop_vars("example"), verbose=False)
    assert unnamed.tolist() == expected.tolist()


def test_dims_go_by_name_where_both_have_names(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(5, 6, 6, noise=0.9)
    expected = find_label_issues_batched(labels, pred_probs, verbose=False)
    assert expected.size > 0
    names = {"dimension_names": ("class", "example")}
    stored = zarr.create_array(tmp_path / "p", data=pred_probs.T.copy(), **names)
    named = zarr.create_array(tmp_path / "y", data=labels, dimension_names=("example",))
    given_labels = xr.DataArray(labels, dims="example")
    predicted = xr.DataArray(pred_probs.T, dims=("class", "example"))
    for pair in ((given_labels, stored), (named, predicted), (named, stored)):
        assert find_label_issues_batched(*pair, verbose=False).tolist() == expected.tolist()
        inspector = LabelInspector(num_class=6, verbose=False)
        inspector.update_confident_thresholds(*pair)
        assert inspector.get_confident_thresholds().tolist() == fresh(labels, pred_probs)


def fresh(labels: Any, pred_probs: Any) -> Any:
    inspector = LabelInspector(num_class=6, verbose=False)
    inspector.update_confident_thresholds(labels, pred_probs)
    return inspector.get_confident_thresholds().tolist()


def test_a_mask_has_no_attributes_of_how_labels_are_stored(tmp_path: Path) -> None:
    plain = draw_examples(0, 50, 4)
    labels, pred_probs = as_xarray(*plain)
    labels.attrs = {"_FillValue": 255, "valid_range": [0, 3], "flag_values": [0], "crs": "x"}
    mask = find_label_issues_batched(labels, pred_probs, verbose=False, return_mask=True)
    assert mask.attrs == {"crs": "x"}
    mask.to_zarr(tmp_path / "mask.zarr", zarr_format=2)
    again = xr.open_zarr(tmp_path / "mask.zarr").label_issues
    assert again.dtype == bool
    np.testing.assert_array_equal(again, mask)
