from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection import columnar_dataset, from_lists, rank


def test_columns_hold_the_lists(lists):
    labels, predictions = lists(0, 6)
    dataset = from_lists(labels, predictions, class_names=list("abcd"))
    given, predicted = dataset["given_offsets"].values, dataset["predicted_offsets"].values
    for i, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        mine = slice(*given[i : i + 2])
        np.testing.assert_array_equal(dataset["given_boxes"][mine], label["bboxes"])
        np.testing.assert_array_equal(dataset["given_classes"][mine], label["labels"])
        mine = slice(*predicted[i : i + 2])
        rows = np.concatenate(prediction)
        np.testing.assert_array_equal(dataset["predicted_boxes"][mine], rows[:, :4])
        np.testing.assert_array_equal(dataset["predicted_scores"][mine], rows[:, 4])
        classes = np.repeat(np.arange(4), list(map(len, prediction)))
        np.testing.assert_array_equal(dataset["predicted_classes"][mine], classes)
    assert dataset["class_name"].values.tolist() == list("abcd")


def test_predictions_as_one_array():
    """cleanlab takes (K, M, 5) arrays and arrays of objects as well as lists."""
    box = np.array([0.0, 0.0, 9.0, 9.0, 0.9])
    labels = [{"bboxes": [box[:4]], "labels": [1]}]
    cube = np.tile(box, (1, 2, 1, 1))
    objects = np.empty(2, object)
    objects[:] = [box[None], box[None]]
    found = [rank.get_label_quality_scores(labels, form) for form in (cube, [objects])]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.fixture
def columns(lists):
    dataset = from_lists(*lists(0, 3))
    return {name: dataset[name].values for name in dataset.data_vars}


def test_columns_are_checked(columns):
    without = {name: column for name, column in columns.items() if name != "given_boxes"}
    with pytest.raises(InputError, match=r"missing \['given_boxes'\], unknown \['typo'\]"):
        columnar_dataset(without | {"typo": 1}, 4)
    with pytest.raises(InputError, match="class_names has 1 names for 4 classes"):
        columnar_dataset(columns, 4, class_names=["a"])
    with pytest.raises(InputError, match="the columnar dataset has no 'given_boxes'"):
        rank.get_label_quality_scores(columnar_dataset(columns, 4).drop_vars("given_boxes"))
    with pytest.raises(InputError, match=r"the columnar dataset has no .*'class'"):
        rank.get_label_quality_scores(zarr.group())
    with pytest.raises(InputError, match=r"there is no Zarr group at 'nowhere\.zarr'"):
        rank.get_label_quality_scores("nowhere.zarr")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("given_offsets", lambda o: o[:, None], r"given_offsets has shape \(4, 1\)"),
        ("given_offsets", lambda o: o * 1.0, "given_offsets has .* dtype float64"),
        ("predicted_offsets", lambda o: o + 1, "predicted_offsets runs from 1 to "),
        ("given_offsets", lambda o: o[[0, 3, 1, 3]], r"given_offsets falls from \d+ to \d+ at"),
        ("given_offsets", lambda o: o[[0, 3]], "cuts 1 images, predicted_offsets 3"),
        ("given_boxes", lambda b: b[:, :3], r"given_boxes has shape \(\d+, 3\)"),
        ("predicted_scores", lambda s: s[1:], r"predicted_scores has shape .*; for \d+ boxes"),
        ("predicted_classes", lambda c: c * 1.0, "predicted_classes has dtype float64"),
    ],
)
def test_columns_must_fit(columns, name, change, message):
    with pytest.raises(InputError, match=message):
        rank.get_label_quality_scores(_as_dataset(columns, name, change))


def _as_dataset(columns, name, change):
    """A dataset whose dimensions do not have to fit."""
    changed = {key: change(c) if key == name else c for key, c in columns.items()}
    variables = {
        key: ([f"{key}_{axis}" for axis in range(column.ndim)], column)
        for key, column in changed.items()
    }
    return xr.Dataset(variables, {"class": np.arange(4)})


def test_crowd_column_is_used(columns):
    plain = rank.compute_badloc_box_scores(labels=columnar_dataset(columns, 4))
    crowd = np.zeros(len(columns["given_classes"]), bool)
    crowd[0] = True
    marked = rank.compute_badloc_box_scores(
        labels=columnar_dataset(columns | {"given_crowd": crowd}, 4)
    )
    assert np.isnan(marked[0])
    np.testing.assert_array_equal(marked[1:], plain[1:])
