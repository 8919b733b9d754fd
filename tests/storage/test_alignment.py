"""Which dimensions and positions of two arrays belong together, and what is said if none do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError
from dask_labelqc.storage.alignment import Lineup, line_up
from dask_labelqc.storage.dimensions import describe

LABELS, PROBS = ("image", "y", "x"), ("image", "class", "y", "x")


def array(dims: Any, shape: Any = None, **coords: Any) -> Any:
    """A DataArray, or without names the shape of a NumPy array."""
    shape = shape or tuple({"image": 2, "class": 3, "y": 4, "x": 5}.get(d, 6) for d in dims)
    if dims is None:
        return np.zeros(shape)
    return xr.DataArray(np.zeros(shape), coords, dims)


def found(labels: Any, pred_probs: Any, **arguments: Any) -> Lineup:
    return line_up([describe(labels, "labels")], describe(pred_probs, "pred_probs"), **arguments)


def fails(message: str) -> Any:
    return pytest.raises(InputError, match=re.escape(message))


@pytest.mark.parametrize(
    ("labels", "probs", "arguments", "expected"),
    [
        (LABELS, PROBS, {}, ((0, 1, 2), (0, 1, 2, 3))),
        (LABELS, ("x", "class", "image", "y"), {}, ((0, 1, 2), (2, 1, 3, 0))),
        (("n", "h", "w"), ("w", "h", "k", "n"), {}, ((0, 1, 2), (3, 2, 1, 0))),
        # Named as places are: one scene.
        (("y", "x"), ("band", "y", "x"), {}, ((None, 0, 1), (None, 0, 1, 2))),
        (("Lat", "Lon"), ("Lon", "Lat", "band"), {}, ((None, 0, 1), (None, 2, 1, 0))),
        (("z", "y", "x"), ("z", "y", "x", "k"), {}, ((None, 0, 1, 2), (None, 3, 0, 1, 2))),
        (("x",), ("k", "x"), {}, ((None, 0), (None, 0, 1))),
        # Said by name, or by number.
        (("t", "x"), ("k", "t", "x"), {"image_dim": False}, ((None, 0, 1), (None, 0, 1, 2))),
        (("y", "x", "t"), ("k", "t", "y", "x"), {"image_dim": "t"}, ((2, 0, 1), (1, 0, 2, 3))),
        (("y", "x"), ("k", "y", "x"), {"image_dim": "y"}, ((0, 1), (1, 0, 2))),
        (("y", "x"), ("k", "y", "x"), {"image_dim": -1}, ((1, 0), (2, 0, 1))),
        (LABELS, PROBS, {"class_dim": "class"}, ((0, 1, 2), (0, 1, 2, 3))),
        # Called as the classes usually are.
        (("class", "y", "x"), ("class", "y", "band", "x"), {}, ((0, 1, 2), (0, 2, 1, 3))),
    ],
)  # fmt: skip
def test_by_name(labels: Any, probs: Any, arguments: Any, expected: Any) -> None:
    lineup = found(array(labels), array(probs), **arguments)
    assert (lineup.labels.axes, lineup.pred_probs.axes) == expected
    assert not any(o is not None for o in (*lineup.labels.order, *lineup.pred_probs.order))


@pytest.mark.parametrize(
    ("labels", "probs", "arguments", "expected"),
    [
        ((2, 4, 5), (2, 3, 4, 5), {}, ((0, 1, 2), (0, 1, 2, 3))),
        ((4, 5), (3, 4, 5), {}, ((None, 0, 1), (None, 0, 1, 2))),
        ((3, 5), (3, 3, 5), {}, ((0, 1), (0, 1, 2))),  # both fit: as cleanlab has it
        ((3, 5), (3, 3, 5), {"image_dim": False}, ((None, 0, 1), (None, 0, 1, 2))),
        ((3, 5), (3, 3, 5), {"image_dim": 0, "class_dim": 0}, ((0, 1), (1, 0, 2))),
        ((2, 4, 5), (2, 4, 5, 3), {"class_dim": -1}, ((0, 1, 2), (0, 3, 1, 2))),
        ((2, 4, 5), (3, 2, 4, 5), {"image_dim": False}, ((None, 0, 1, 2), (None, 0, 1, 2, 3))),
        ((4, 5, 2), (4, 5, 2, 3), {"image_dim": 2, "class_dim": 3}, ((2, 0, 1), (2, 3, 0, 1))),
        ((4, 5), (4, 5, 3), {"image_dim": False, "class_dim": 2}, ((None, 0, 1), (None, 2, 0, 1))),
    ],
)
def test_by_position(labels: Any, probs: Any, arguments: Any, expected: Any) -> None:
    lineup = found(np.zeros(labels), np.zeros(probs), **arguments)
    assert (lineup.labels.axes, lineup.pred_probs.axes) == expected


@pytest.mark.parametrize(
    ("labels", "probs", "expected"),
    [
        # Only one side has names: they say what is the class, and whether there are images.
        (array(("y", "x")), np.zeros((3, 4, 5)), ((None, 0, 1), (None, 0, 1, 2))),
        (array(LABELS), np.zeros((2, 3, 4, 5)), ((0, 1, 2), (0, 1, 2, 3))),
        (np.zeros((4, 5)), array(("y", "x", "class")), ((None, 0, 1), (None, 2, 0, 1))),
        (np.zeros((2, 4, 5)), array(("image", "y", "x", "class")), ((0, 1, 2), (0, 3, 1, 2))),
        (np.zeros((2, 4, 5)), array(("p", "q", "r", "s"), (2, 3, 4, 5)), ((0, 1, 2), (0, 1, 2, 3))),
        # xarray numbers dimensions that have no names.
        (
            xr.DataArray(np.zeros((2, 4, 5))),
            xr.DataArray(np.zeros((2, 3, 4, 5))),
            ((0, 1, 2), (0, 1, 2, 3)),
        ),
    ],
)
def test_names_of_one_side(labels: Any, probs: Any, expected: Any) -> None:
    lineup = found(labels, probs)
    assert (lineup.labels.axes, lineup.pred_probs.axes) == expected


@pytest.mark.parametrize(
    ("labels", "probs", "arguments", "message"),
    [
        (
            array(LABELS),
            array(("image", "class", "lat", "x")),
            {},
            "pred_probs: got dimensions ('image', 'class', 'lat', 'x'), they must be those of "
            "labels ('image', 'y', 'x') and one for the classes",
        ),
        (
            array(LABELS),
            array(PROBS),
            {"class_dim": "y"},
            "pred_probs: got dimensions ('image', 'class', 'y', 'x'), they must be",
        ),
        (
            array(LABELS),
            array(PROBS),
            {"class_dim": "band"},
            "class_dim: got 'band', it must be one of ('image', 'class', 'y', 'x'), or an axis of "
            "pred_probs of shape (2, 3, 4, 5)",
        ),
        (
            array(LABELS),
            array(PROBS),
            {"image_dim": "time"},
            "image_dim: got 'time', it must be one of ('image', 'y', 'x'), or an axis of labels of "
            "shape (2, 4, 5)",
        ),
        (
            np.zeros((2, 4)),
            np.zeros((2, 3, 4)),
            {"image_dim": 2},
            "image_dim: got 2, it must be an axis of labels of shape (2, 4)",
        ),
        (np.zeros((2, 4)), np.zeros((2, 3, 4)), {"image_dim": True}, "image_dim: got True, it"),
        (
            np.zeros((3, 5)),
            np.zeros((3, 3, 5)),
            {"class_dim": 0},
            "image_dim: labels of shape (3, 5) may be 3 images or one scene; say which: "
            "image_dim=0 or image_dim=False",
        ),
        (
            array(("y", "x", "time")),
            array(("y", "x", "time", "class")),
            {},
            "image_dim: labels has dimensions ('y', 'x', 'time'); whether 'time' counts images is "
            "not clear; say image_dim='time' or image_dim=False, the last for one scene",
        ),
        (
            array(("y", "x")),
            np.zeros((4, 3, 5)),
            {},
            "pred_probs: got shape (4, 3, 5), it must be (K, *spatial) for one scene: labels of "
            "shape (4, 5); image_dim names the dimension of images, if there is one",
        ),
    ],
)
def test_what_is_unclear(labels: Any, probs: Any, arguments: Any, message: str) -> None:
    with fails(message):
        found(labels, probs, **arguments)


IDS = ["a", "b", "c", "d", "e", "f"]


def by_image(ids: Any) -> tuple[xr.DataArray, xr.DataArray]:
    """Labels and predictions along an index of images."""
    first, second = ids
    return (
        array(("image", "u"), (len(first), 2), image=first),
        array(("image", "k", "u"), (len(second), 3, 2), image=second),
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IDS, [IDS[i] for i in (3, 1, 0, 2, 5, 4)]),
        (pd.date_range("2024", periods=3), pd.date_range("2024", periods=3)[[2, 0, 1]]),
        (np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.1, 0.2])),
        (np.arange(3, dtype="u1"), np.array([2, 0, 1], "i8")),
        (np.array([1.0, np.nan, 2.0]), np.array([np.nan, 1.0, 2.0])),
    ],
    ids=["strings", "dates", "floats", "other dtypes", "NaN"],
)
def test_labels_in_another_order(one: Any, other: Any) -> None:
    order = found(*by_image((one, other))).pred_probs.order
    assert list(np.asarray(other)[np.asarray(order[0])].astype(str)) == list(
        np.asarray(one).astype(str)
    )
    assert order[0].dtype == "u1"  # it travels with each task
    assert order[1:] == (None, None)


def test_labels_backwards_are_a_range() -> None:
    order = found(*by_image((IDS, IDS[::-1]))).pred_probs.order
    assert order == (range(5, -1, -1), None, None)


@pytest.mark.parametrize("other", [[0.0, 1.0, 2.0], np.array([0, 1, 2], "i2")])
def test_equal_labels_are_taken_as_they_are(other: Any) -> None:
    assert found(*by_image((np.arange(3), other))).pred_probs.order == (None, None, None)


def test_labels_of_several_levels() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=("site", "day"))
    coords = xr.Coordinates.from_pandas_multiindex(index, "image")
    labels = xr.DataArray(np.zeros((4, 2)), coords, ("image", "u"))
    probs = xr.DataArray(np.zeros((4, 3, 2)), coords, ("image", "k", "u"))
    order = found(labels, probs.isel(image=[2, 3, 0, 1])).pred_probs.order[0]
    assert order.tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("drop", ["labels", "pred_probs"])
def test_where_one_side_has_no_index_positions_decide(drop: str) -> None:
    labels, probs = by_image((IDS, IDS[::-1]))
    if drop == "labels":
        labels = labels.drop_vars("image")
    else:
        probs = probs.drop_indexes("image")
    assert found(labels, probs).pred_probs.order == (None, None, None)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            IDS,
            [*IDS[:4], "g", "h"],
            "pred_probs: the labels along 'image' differ from those of labels: 2 of 6 that labels "
            "has are not in pred_probs, the first is 'e'; 2 of 6 that pred_probs has are not in "
            "labels, the first is 'g'; select the same ones of both "
            "(xarray.align(..., join='inner')), or drop the coordinate 'image' of one to go by "
            "position",
        ),
        (IDS[:5], IDS, "1 of 6 that pred_probs has are not in labels, the first is 'f'; select"),
        (IDS, IDS[1:], "1 of 6 that labels has are not in pred_probs, the first is 'a'; select"),
        (
            pd.date_range("2024", periods=2),
            pd.date_range("2025", periods=2),
            "2 of 2 that labels has are not in pred_probs, the first is 2024-01-01 00:00:00;",
        ),
        (IDS, np.arange(6), "6 of 6 that labels has are not in pred_probs, the first is 'a'; 6"),
        (
            ["a", "b", "b"],
            ["b", "a", "b"],
            "labels: the label 'b' stands along 'image' more than once, and labels and pred_probs "
            "do not have the same labels in the same order",
        ),
        (["a", "b", "c"], ["b", "a", "a"], "pred_probs: the label 'a' stands along 'image' more"),
        (
            np.array([0.1, 0.2, 0.3], "f8"),
            np.array([0.1, 0.2, 0.3], "f4"),
            "3 of 3 that pred_probs has are not in labels, the first is 0.10000000149011612; none "
            "is off by more than 1.2e-08, so they may be the same but for rounding: give both the "
            "same numbers (assign_coords); select",
        ),
    ],
)
def test_labels_that_differ(one: Any, other: Any, message: str) -> None:
    with fails(message):
        found(*by_image((one, other)))


def test_numbers_that_differ_are_no_rounding() -> None:
    with pytest.raises(InputError) as error:
        found(*by_image(([0.1, 0.2], [0.1, 0.21])))
    assert "rounding" not in str(error.value)


def test_the_same_labels_twice_in_the_same_order() -> None:
    assert found(*by_image((["a", "a"], ["a", "a"]))).pred_probs.order == (None, None, None)


def test_the_others_follow_the_first() -> None:
    """Issues without names, labels and predictions with: these go by name all the same."""
    labels = array(("image", "y", "x"), image=["a", "b"])
    issues, probs = np.zeros((2, 4, 5)), array(("x", "y", "class", "image"), image=["b", "a"])
    lineup = line_up(
        [describe(issues, "issues"), describe(labels, "labels")], describe(probs, "pred_probs")
    )
    assert [layout.axes for layout in lineup.pixels] == [(0, 1, 2), (0, 1, 2)]
    assert lineup.pred_probs.axes == (3, 2, 1, 0)
    assert lineup.pred_probs.order == (range(1, -1, -1), None, None, None)


def test_each_follows_whoever_has_an_index() -> None:
    issues = array(("y", "image", "x"), image=["b", "a"])
    labels = array(("image", "y", "x"), image=["a", "b"])
    lineup = line_up(
        [describe(issues, "issues"), describe(labels, "labels")],
        describe(array(PROBS, image=["b", "a"]), "pred_probs"),
        image_dim="image",
    )
    first, second = lineup.pixels
    assert (first.axes, second.axes) == ((1, 0, 2), (0, 1, 2))
    assert second.order == (range(1, -1, -1), None, None)
    assert lineup.pred_probs.is_plain
    with fails("labels: got dimensions ('image', 'v', 'x'), they must be those of issues"):
        line_up([describe(issues, "issues"), describe(labels.rename(y="v"), "labels")])


def test_what_was_decided() -> None:
    labels, probs = by_image((IDS, IDS[::-1]))
    lineup = found(labels, probs)
    assert lineup.attributes() == {"image_dim": "image", "class_dim": "k"}
    assert found(np.zeros((4, 5)), np.zeros((3, 4, 5))).attributes() == {
        "image_dim": "none",
        "class_dim": 0,
    }
    assert found(array(LABELS), np.zeros((2, 3, 4, 5))).attributes()["class_dim"] == 1
    plain, other = found(*by_image((IDS, IDS))).fingerprint(), lineup.fingerprint()
    assert plain["pred_probs.order"] is None
    assert len(other["pred_probs.order"]) == 16
    again = found(*by_image((IDS, [IDS[i] for i in (1, 0, 2, 3, 4, 5)]))).fingerprint()
    assert again["pred_probs.order"] != other["pred_probs.order"]


def test_coordinates_of_one_group_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    group = zarr.open_group(MemoryStore(), mode="w")
    for name, dims, shape in (("labels", LABELS, (2, 4, 5)), ("probs", PROBS, (2, 3, 4, 5))):
        group.create_array(name, shape=shape, dtype="f4", dimension_names=dims)
    group.create_array("image", data=np.arange(2), dimension_names=("image",))
    monkeypatch.setattr(
        "dask_labelqc.storage.dimensions.coordinates_beside",
        lambda *_: pytest.fail("coordinates were read"),
    )
    assert found(group["labels"], group["probs"]).pred_probs.is_plain
