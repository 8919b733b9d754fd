from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.object_detection import audit, columnar_dataset, from_lists, rank, summary
from dask_labelqc.object_detection.dataset import COLUMNS
from dask_labelqc.storage.gaps import missing_objects


def test_columns_hold_the_lists(lists: Any) -> None:
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


def test_predictions_as_one_array() -> None:
    """cleanlab takes (K, M, 5) arrays and arrays of objects as well as lists."""
    box = np.array([0.0, 0.0, 9.0, 9.0, 0.9])
    labels = [{"bboxes": [box[:4]], "labels": [1]}]
    cube = np.tile(box, (1, 2, 1, 1))
    objects = np.empty(2, object)
    objects[:] = [box[None], box[None]]
    found = [rank.get_label_quality_scores(labels, form) for form in (cube, [objects])]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.fixture
def columns(lists: Any) -> Any:
    dataset = from_lists(*lists(0, 3))
    return {name: dataset[name].values for name in dataset.data_vars}


def test_columns_are_checked(columns: Any) -> None:
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
        ("given_boxes", lambda b: b.astype(str), "given_boxes has dtype <U.*; it must be numbers"),
        ("predicted_scores", lambda s: s.astype(bool), "predicted_scores has dtype bool"),
    ],
)
def test_columns_must_fit(columns: Any, name: str, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rank.get_label_quality_scores(_as_dataset(columns, name, change))


def _as_dataset(columns: Any, name: str, change: Any) -> Any:
    """A dataset whose dimensions do not have to fit."""
    changed = {key: change(c) if key == name else c for key, c in columns.items()}
    variables = {
        key: ([f"{key}_{axis}" for axis in range(column.ndim)], column)
        for key, column in changed.items()
    }
    return xr.Dataset(variables, {"class": np.arange(4)})


def test_boxes_the_other_way_round() -> None:
    """Four boxes of four corners fit either way; the names say which."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (4, 2))
    boxes = np.hstack([corners, corners + rng.uniform(20, 40, (4, 2))])
    labels = [{"bboxes": boxes, "labels": np.zeros(4, int)}]
    dataset = from_lists(labels, [[np.hstack([boxes[::-1], np.full((4, 1), 0.9)])]])
    expected = rank.compute_badloc_box_scores(labels=dataset, alpha=0.5)
    turned = dataset.transpose("corner", ...)
    assert turned["given_boxes"].dims == ("corner", "given_box")
    found = rank.compute_badloc_box_scores(labels=turned, alpha=0.5)
    xr.testing.assert_identical(found, expected)


def test_columns_that_do_not_fit_and_no_names(columns: Any) -> None:
    with pytest.raises(InputError, match=r"columns do not fit each other: .*given_box"):
        columnar_dataset(columns | {"given_classes": columns["given_classes"][1:]}, 4)
    with pytest.raises(InputError, match=r"columns do not fit each other: .*image"):
        columnar_dataset(columns, 4, image_coords={"image_name": [], "image_id": [1, 2, 3]})


def test_a_path_of_an_array(lists: Any, tmp_path: Path) -> None:
    from_lists(*lists(0, 3)).to_zarr(tmp_path / "boxes.zarr", consolidated=False)
    with pytest.raises(InputError, match=r"there is no Zarr group at .*given_boxes"):
        rank.get_label_quality_scores(tmp_path / "boxes.zarr" / "given_boxes")


def stored(lists: Any, path: Any, zarr_format: int = 3, **zero_filled: Any) -> Any:
    """Thirty images in chunks of 10; the fill value of `zero_filled` is 0, as others write it."""
    labels, predictions = lists(0, 30, given=9)
    dataset = from_lists(labels, predictions)
    chunks = {"image_edge": 10, "given_box": 10, "predicted_box": 10}
    for name, variable in dataset.variables.items():
        variable.encoding["chunks"] = tuple(chunks.get(d, n) for d, n in variable.sizes.items())
        if zero_filled.get(name):
            variable.encoding["fill_value"] = 0
    dataset.to_zarr(path, consolidated=False, zarr_format=zarr_format)
    return dataset


CALLS = [
    rank.get_label_quality_scores,
    audit,
    summary.class_label_distribution,
    summary.object_counts_per_image,
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "given_crowd"])
def test_chunks_that_are_gone_are_an_error(
    lists: Any, tmp_path: Path, name: str, call: Any
) -> None:
    dataset = stored(lists, tmp_path / "boxes.zarr")
    gone = tmp_path / "boxes.zarr" / name / "c" / "1"
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    total = -(-len(dataset[name]) // 10)
    offsets = dataset[f"{name.split('_')[0]}_offsets"].values
    first, last = (np.searchsorted(offsets, [10, 19], side="right") - 1).tolist()
    images = "images 10 to 19" if name.endswith("offsets") else f"images {first} to {last}"
    place = "1.0" if name.endswith("boxes") else "1"
    message = rf"{name}: 1 of {total} chunks are not in the store, {place} \({images}\): they would"
    for source in (tmp_path / "boxes.zarr", zarr.open_group(tmp_path / "boxes.zarr", mode="r")):
        with pytest.raises(InputError, match=message):
            call(source)


@pytest.mark.parametrize("side", ["given", "predicted"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_that_read_as_a_class_are_a_warning(
    lists: Any, tmp_path: Path, side: Any, zarr_format: Any
) -> None:
    """They may have been left out, since all in them is of class 0; who knows."""
    name = f"{side}_classes"
    stored(lists, tmp_path / "boxes.zarr", zarr_format, **{name: True})
    keys = ("c/0", "c/1") if zarr_format == 3 else ("0", "1")
    for key in keys:
        (tmp_path / "boxes.zarr" / name / key).unlink()
    message = (
        rf"{name}: 2 of \d+ chunks are not .* 0 \(images 0 to \d+\), 1 \(.*\): read as class 0"
    )
    with pytest.warns(LabelQCWarning, match=message) as caught:
        rank.get_label_quality_scores(tmp_path / "boxes.zarr")
    assert len(caught) == 1


@pytest.mark.parametrize("empty", [20, 21])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_offsets_of_zeros_that_were_left_out(tmp_path: Path, zarr_format: Any, empty: int) -> None:
    """Before a zero all are zeros; of those that a box follows on, nobody knows."""
    nothing = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    box = {"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([1])}
    predictions = [[np.zeros((0, 5)), np.array([[1, 1, 9, 9, 0.9]])]] * 30
    dataset = from_lists([nothing] * empty + [box] * (30 - empty), predictions)
    dataset["given_offsets"].encoding |= {"fill_value": 0, "chunks": (7,)}
    with zarr.config.set({"array.write_empty_chunks": False}):
        dataset.to_zarr(tmp_path / "boxes.zarr", consolidated=False, zarr_format=zarr_format)
    assert missing_objects(zarr.open_array(tmp_path / "boxes.zarr/given_offsets")) == [
        (0,),
        (1,),
        (2,),
    ]
    if empty == 21:
        scores = rank.get_label_quality_scores(tmp_path / "boxes.zarr")
        np.testing.assert_array_equal(scores, rank.get_label_quality_scores(dataset.load()))
        return
    advice = r"If it was, .* write the array again with a fill value that is not in it, such as -1"
    with pytest.raises(InputError, match=rf"given_offsets: 3 of 5 chunks .* to the end\? {advice}"):
        rank.get_label_quality_scores(tmp_path / "boxes.zarr")


def test_what_is_all_zeros_is_in_the_store(tmp_path: Path) -> None:
    """One class, no crowd, nothing predicted, and images without boxes at the start."""
    nothing = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    labels = [nothing] * 9 + [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    dataset = from_lists(labels, [[np.zeros((0, 5))]] * 10)
    dataset["given_crowd"] = ("given_box", np.array([False]))
    dataset.chunk(image_edge=3).to_zarr(tmp_path / "boxes.zarr", consolidated=False)
    expected = rank.get_label_quality_scores(dataset)
    found = rank.get_label_quality_scores(tmp_path / "boxes.zarr")
    np.testing.assert_array_equal(found, expected)
    again = xr.open_zarr(tmp_path / "boxes.zarr", consolidated=False)
    assert {name: again[name].dtype for name in again} == {n: dataset[n].dtype for n in dataset}


def test_a_chunk_that_is_gone_is_noticed_through_xarray_too(lists: Any, tmp_path: Path) -> None:
    for name in ("given_classes", "given_boxes", "predicted_scores"):
        stored(lists, tmp_path / name)
        gone = tmp_path / name / name / "c" / "1"
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        dataset = xr.open_zarr(tmp_path / name, consolidated=False)
        with pytest.raises(InputError, match=r"image \d+, .* box \d+: .* is (-1|nan|\[nan)"):
            rank.get_label_quality_scores(dataset).compute()


def test_crowd_column_is_used(columns: Any) -> None:
    plain = rank.compute_badloc_box_scores(labels=columnar_dataset(columns, 4))
    crowd = np.zeros(len(columns["given_classes"]), bool)
    crowd[0] = True
    marked = rank.compute_badloc_box_scores(
        labels=columnar_dataset(columns | {"given_crowd": crowd}, 4)
    )
    assert np.isnan(marked[0])
    np.testing.assert_array_equal(marked[1:], plain[1:])
