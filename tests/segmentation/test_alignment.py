"""Arrays that say the same in another order get the same answer, or the error that says why not."""

from __future__ import annotations

import re
from typing import Any

import dask
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.errors import InputError
from dask_labelqc.segmentation import (
    audit,
    common_label_issues,
    display_issues,
    filter_by_class,
    find_label_issues,
    get_label_quality_scores,
)
from tests.segmentation.aligned import NAMED, coordinates, in_zarr, indexed, shuffled
from tests.segmentation.containers import smallest_groups
from tests.stores import CountingStore
from tests.strategies import examples, make_case

QUIET = {"verbose": False}
DIMS, PROBS = ("image", "y", "x"), ("image", "class", "y", "x")
CASE = make_case(4, (5, 6, 6), 4)  # H = W: a transposed array has the same shape
COORDS = coordinates(CASE.labels)
EXPECTED = find_label_issues(CASE.labels, CASE.pred_probs, **QUIET)
ORDER = {"image": [3, 0, 4, 1, 2], "y": [5, 4, 3, 2, 1, 0]}
AXES = (3, 0, 2, 1)

both = pytest.mark.parametrize("of_probs", NAMED.values(), ids=NAMED)
mixes = [
    pytest.param(one, other, id=f"{name}-{other_name}")
    for name, one in NAMED.items()
    for other_name, other in NAMED.items()
]
every_mix = pytest.mark.parametrize(("of_labels", "of_probs"), mixes)


def out_of_order(build: Any) -> Any:
    """The predictions with shuffled images, y the other way round, and x before y."""
    return build(*shuffled(CASE.pred_probs, PROBS, COORDS, ORDER, AXES))


@every_mix
def test_find_label_issues(of_labels: Any, of_probs: Any) -> None:
    assert EXPECTED.any()
    mask = find_label_issues(of_labels(CASE.labels, DIMS, COORDS), out_of_order(of_probs), **QUIET)
    np.testing.assert_array_equal(np.asarray(mask), EXPECTED)


@every_mix
def test_scores(of_labels: Any, of_probs: Any) -> None:
    arrays = of_labels(CASE.labels, DIMS, COORDS), out_of_order(of_probs)
    scores, pixels = get_label_quality_scores(*arrays, **QUIET)
    expected = get_label_quality_scores(CASE.labels, CASE.pred_probs, **QUIET)
    np.testing.assert_array_equal(np.asarray(pixels), expected[1])
    np.testing.assert_array_equal(np.asarray(scores), expected[0])


@examples(20)
@given(st.data())
def test_any_containers_in_any_order(data: st.DataObject) -> None:
    """The answer is that of the plain arrays in the order of the labels."""
    shape = data.draw(st.sampled_from([(3, 4), (4, 3, 3), (2, 2, 3, 2)]))
    case = make_case(data.draw(st.integers(0, 99)), shape, 3)
    drawn = data.draw(indexed(case.labels, case.pred_probs))
    with smallest_groups(), dask.config.set(scheduler="sync"):
        found = audit(drawn.labels, drawn.pred_probs, pixel_scores=True).compute()
        mask = find_label_issues(drawn.labels, drawn.pred_probs, **QUIET)
        np.testing.assert_array_equal(np.asarray(mask), found.label_issues.values)
    expected = audit(case.labels, case.pred_probs, pixel_scores=True)
    for name, wanted in expected.data_vars.items():
        np.testing.assert_array_equal(found[name], wanted)
    assert found.label_issues.dims == (
        drawn.labels.dims if isinstance(drawn.labels, xr.DataArray) else drawn.dims
    )


@examples(20)
@given(st.data())
def test_any_containers_of_the_summaries(data: st.DataObject) -> None:
    case = make_case(data.draw(st.integers(0, 99)), (3, 4, 4), 3)
    issues = np.random.default_rng(case.labels.sum()).random(case.labels.shape) < 0.5
    drawn = data.draw(indexed(issues, case.pred_probs))
    labels = drawn.another(case.labels, DIMS)
    if drawn.kind not in NAMED:  # labels and predictions with names, in orders of their own
        labels = NAMED["in_xarray"](case.labels, DIMS, {})
    arrays = drawn.labels, labels, drawn.pred_probs
    with dask.config.set(scheduler="sync"):
        table = common_label_issues(*arrays, **QUIET)
        mask = filter_by_class([0, 2], *arrays)
        np.testing.assert_array_equal(
            np.asarray(mask), filter_by_class([0, 2], issues, case.labels, case.pred_probs)
        )
    expected = common_label_issues(issues, case.labels, case.pred_probs, **QUIET)
    pd.testing.assert_frame_equal(table, expected)


@every_mix
def test_issues_in_another_order(of_labels: Any, of_probs: Any) -> None:
    """The mask of an audit of other tiles' order, with the dims the other way round."""
    issues = xr.DataArray(EXPECTED, COORDS, DIMS)
    issues = issues.isel(image=[2, 0, 1, 4, 3], x=slice(None, None, -1)).transpose(
        "image", "x", "y"
    )
    arrays = of_labels(CASE.labels, DIMS, COORDS), out_of_order(of_probs)
    table = common_label_issues(issues, *arrays, **QUIET)
    expected = common_label_issues(EXPECTED, CASE.labels, CASE.pred_probs, **QUIET)
    pd.testing.assert_frame_equal(table, expected)
    mask = filter_by_class(1, issues, *arrays)
    wanted = xr.DataArray(filter_by_class(1, EXPECTED, CASE.labels, CASE.pred_probs), COORDS, DIMS)
    assert wanted.any()
    assert mask.dims == issues.dims
    xr.testing.assert_equal(mask.compute(), wanted.reindex_like(issues).transpose(*issues.dims))


@both
def test_pictures(of_probs: Any) -> None:
    mpl.use("agg")
    issues = xr.DataArray(EXPECTED, COORDS, DIMS).isel(image=[2, 0, 1, 4, 3])
    arrays = {
        "labels": xr.DataArray(CASE.labels, COORDS, DIMS).transpose("x", "image", "y"),
        "pred_probs": out_of_order(of_probs),
    }
    expected = display_issues(
        EXPECTED[[2, 0, 1, 4, 3]],
        labels=CASE.labels[[2, 0, 1, 4, 3]],
        pred_probs=CASE.pred_probs[[2, 0, 1, 4, 3]],
    )
    found = display_issues(issues, **arrays)
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        for axis, wanted in zip(one.axes, other.axes, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), wanted.images[0].get_array())
    import matplotlib.pyplot as plt

    plt.close("all")


FUNCTIONS = {
    "find_label_issues": lambda labels, probs: find_label_issues(labels, probs, **QUIET),
    "scores": lambda labels, probs: get_label_quality_scores(labels, probs, **QUIET),
    "audit": audit,
    "common_label_issues": lambda labels, probs: common_label_issues(EXPECTED, labels, probs),
    "filter_by_class": lambda labels, probs: filter_by_class(1, EXPECTED, labels, probs),
    "display_issues": lambda labels, probs: display_issues(
        EXPECTED, labels=labels, pred_probs=probs
    ),
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def fails(message: str) -> Any:
    return pytest.raises(InputError, match=re.escape(message))


@every_function
@every_mix
def test_indexes_that_differ(function: Any, of_labels: Any, of_probs: Any) -> None:
    other = COORDS | {"y": COORDS["y"] + 0.5}
    with fails(
        "pred_probs: the labels along 'y' differ from those of labels: 1 of 6 that labels has are "
        "not in pred_probs, the first is 0.0; 1 of 6 that pred_probs has are not in labels, the "
        "first is 3.0; select the same"
    ):
        function(of_labels(CASE.labels, DIMS, COORDS), of_probs(CASE.pred_probs, PROBS, other))


@every_mix
def test_issues_whose_index_differs(of_labels: Any, of_probs: Any) -> None:
    issues = xr.DataArray(EXPECTED, COORDS | {"image": np.arange(5)}, DIMS)
    arrays = of_labels(CASE.labels, DIMS, COORDS), of_probs(CASE.pred_probs, PROBS, {})
    with fails("labels: the labels along 'image' differ from those of issues: 5 of 5 that issues"):
        common_label_issues(issues, *arrays)
    with fails("pred_probs: the labels along 'image' differ from those of issues"):
        display_issues(issues, pred_probs=of_probs(CASE.pred_probs, PROBS, COORDS))


@every_function
@every_mix
def test_dimensions_that_differ(function: Any, of_labels: Any, of_probs: Any) -> None:
    names = ("image", "class", "lat", "x")
    with fails(f"pred_probs: got dimensions {names}, they must be those of labels"):
        function(of_labels(CASE.labels, DIMS, {}), of_probs(CASE.pred_probs, names, {}))


def test_shuffled_images_are_read_once() -> None:
    store = CountingStore()
    values, dims, coords = shuffled(CASE.pred_probs, PROBS, COORDS, ORDER, (0, 1, 2, 3))
    probs = in_zarr(values, dims, coords, 3, store, "pred_probs")
    labels = in_zarr(CASE.labels, DIMS, COORDS, 3)
    store.reads.clear()
    with smallest_groups():
        mask = find_label_issues(labels, probs)
        assert not store.chunk_reads("pred_probs")
        np.testing.assert_array_equal(mask.compute(scheduler="sync"), EXPECTED)
    assert set(store.chunk_reads("pred_probs").values()) == {1}
    assert len(store.chunk_reads("pred_probs")) == 5


# One scene.

SCENE = make_case(5, (1, 6, 9), 3)
ONE = SCENE.labels[0], SCENE.pred_probs[0]


def scene_arrays(build: Any) -> Any:
    coords = {"y": 0.5 * np.arange(6), "x": np.arange(9)}
    values, dims, moved = shuffled(
        ONE[1], ("band", "y", "x"), coords, {"y": [5, 4, 3, 2, 1, 0]}, (1, 2, 0)
    )
    return build(ONE[0], ("y", "x"), coords), build(values, dims, moved)


SCENES = {name: scene_arrays(build) for name, build in NAMED.items()} | {
    "numpy": ONE,
    "dask": tuple(dask.array.from_array(a) for a in ONE),
    "zarr": tuple(zarr.create_array({}, data=a) for a in ONE),
}
every_scene = pytest.mark.parametrize("arrays", SCENES.values(), ids=SCENES)


@every_scene
def test_one_scene_is_one_image(arrays: Any) -> None:
    expected = audit(SCENE.labels, SCENE.pred_probs, pixel_scores=True, predicted_label=True)
    found = audit(*arrays, pixel_scores=True, predicted_label=True).compute()
    for name, values in expected.items():
        per_pixel = values.dims == DIMS
        assert found[name].dims == (("y", "x") if per_pixel else values.dims), name
        wanted = values.values[0] if per_pixel else values.values
        np.testing.assert_array_equal(found[name], wanted)
    assert found.attrs["image_dim"] == "none"
    assert found.attrs["class_dim"] in ("band", 0)
    mask = find_label_issues(*arrays, **QUIET)
    assert mask.shape == (6, 9)
    np.testing.assert_array_equal(np.asarray(mask), expected.label_issues.values[0])
    scores, pixels = get_label_quality_scores(*arrays, **QUIET)
    assert (scores.shape, pixels.shape) == ((1,), (6, 9))


@every_scene
def test_summaries_of_one_scene(arrays: Any) -> None:
    issues = find_label_issues(*ONE, **QUIET)
    table = common_label_issues(issues, *arrays, **QUIET)
    expected = common_label_issues(issues[None], SCENE.labels, SCENE.pred_probs, **QUIET)
    pd.testing.assert_frame_equal(table, expected)
    mask = filter_by_class(1, issues, *arrays)
    wanted = filter_by_class(1, issues[None], SCENE.labels, SCENE.pred_probs)[0]
    np.testing.assert_array_equal(np.asarray(mask), wanted)
    mpl.use("agg")
    (figure,) = display_issues(issues, labels=arrays[0], pred_probs=arrays[1])
    assert figure.axes[2].images[0].get_array().shape == (6, 9, 3)
    import matplotlib.pyplot as plt

    plt.close("all")


def test_what_names_cannot_say() -> None:
    """Both ways to see the arrays fit, or none is that of cleanlab."""
    case = make_case(6, (3, 5), 3)
    square = case.labels, case.pred_probs
    assert audit(*square).attrs["image_dim"] == 0
    rows = audit(*square)
    scene = audit(case.labels, case.pred_probs.transpose(1, 0, 2), image_dim=False)
    assert scene.image_score.shape == (1,)
    assert rows.image_score.shape == (3,)
    np.testing.assert_array_equal(rows.label_issues, scene.label_issues)
    last = np.moveaxis(CASE.pred_probs, 1, -1)
    found = find_label_issues(CASE.labels, last, class_dim=-1, **QUIET)
    np.testing.assert_array_equal(found, EXPECTED)
    table = common_label_issues(EXPECTED, CASE.labels, last, class_dim=-1, **QUIET)
    expected = common_label_issues(EXPECTED, CASE.labels, CASE.pred_probs, **QUIET)
    pd.testing.assert_frame_equal(table, expected)
    np.testing.assert_array_equal(
        filter_by_class(1, EXPECTED, CASE.labels, last, class_dim=-1),
        filter_by_class(1, EXPECTED, CASE.labels, CASE.pred_probs),
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_images_last(lazy: bool) -> None:
    """Ties and positions are those of (N, *spatial); the answer has the labels' dimensions."""
    labels = xr.DataArray(CASE.labels, COORDS, DIMS).transpose("y", "x", "image")
    labels = labels.chunk(2) if lazy else labels
    found = audit(labels, out_of_order(NAMED["in_xarray"]), image_dim="image")
    assert found.label_issues.dims == ("y", "x", "image")
    assert found.image_score.dims == ("image",)
    np.testing.assert_array_equal(found.label_issues.transpose(*DIMS).values, EXPECTED)
    expected = audit(CASE.labels, CASE.pred_probs).image_score.values
    np.testing.assert_array_equal(found.image_score, expected)


def test_rows_of_a_scene_as_images() -> None:
    labels, probs = SCENES["in_xarray"]
    found = audit(labels, probs, image_dim="y")
    assert found.image_score.dims == ("y",)
    assert found.attrs["image_dim"] == "y"


def test_a_scene_taken_from_many_keeps_its_name() -> None:
    labels = xr.DataArray(CASE.labels, COORDS, DIMS).isel(image=2)
    probs = xr.DataArray(CASE.pred_probs, COORDS, PROBS).isel(image=2)
    found = audit(labels, probs)
    assert found.image.values.tolist() == [114]
    assert found.label_issues.dims == ("y", "x")
    scores, mask = get_label_quality_scores(labels, probs, **QUIET)
    assert scores.image.values.tolist() == [114]
    assert mask.image.item() == 114


@pytest.mark.parametrize("name", ["class", "given_class", "predicted_class"])
def test_dimensions_called_as_those_of_the_output(name: str) -> None:
    labels = xr.DataArray(CASE.labels, dims=(name, "y", "x"))
    probs = xr.DataArray(CASE.pred_probs, dims=(name, "band", "y", "x"))
    with fails(
        f"labels: got dimensions ({name!r}, 'y', 'x'); {name!r} is what outputs call the "
        f"dimension of the classes: rename it in both arrays, such as labels.rename({{{name!r}: "
    ):
        audit(labels, probs)
    np.testing.assert_array_equal(find_label_issues(labels, probs, **QUIET), EXPECTED)
    scene = labels.rename({name: "image"})
    with fails("'image' is what outputs call the dimension of the image that a scene is"):
        audit(scene, probs.rename({name: "image"}), image_dim=False)
