"""Every kind of bad input ends in one clear message that says what and where."""

from __future__ import annotations

import asyncio
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.segmentation import (
    audit,
    find_label_issues,
    get_label_quality_scores,
    issues_from_scores,
)
from tests.segmentation.containers import (
    every_container,
    never_computing,
    smallest_groups,
    zarr_arrays,
)
from tests.strategies import Case, make_case

FUNCTIONS = {
    "find_label_issues": partial(find_label_issues, verbose=False),
    "softmin": partial(get_label_quality_scores, verbose=False),
    "num_pixel_issues": partial(get_label_quality_scores, method="num_pixel_issues", verbose=False),
    "audit": audit,
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def fails(message: str) -> Any:
    return pytest.raises(InputError, match=re.escape(message))


def run(function: Any, arrays: Any, **arguments: Any) -> Any:
    """Compute the answer with a task for each chunk; a Dataset by its own method."""
    with smallest_groups(), dask.config.set(scheduler="sync"):
        answer = function(*arrays, **arguments)
        return answer.compute() if isinstance(answer, xr.Dataset) else dask.compute(answer)[0]


def as_named_zarr(array: np.ndarray, attrs: dict) -> zarr.Array:
    return zarr.create_array(MemoryStore(), data=array, attributes=attrs)


# What can be seen without the data: at once, also for lazy arrays.


def as_zarr(array: np.ndarray) -> zarr.Array:
    chunks = tuple(max(n, 1) for n in array.shape)
    return zarr.create_array(MemoryStore(), data=array, chunks=chunks)


every_source = pytest.mark.parametrize("source", [np.asarray, da.from_array, as_zarr])


@every_function
@every_source
@pytest.mark.parametrize(
    ("labels", "pred_probs", "message"),
    [
        ((3,), (3, 2), "labels: got shape (3,), it must be (N, *spatial)"),
        (
            (1,) * 5,
            (1, 2, 1, 1, 1, 1),
            "labels: got shape (1, 1, 1, 1, 1), at most 3 spatial dimensions are supported",
        ),
        (
            (3, 4, 4),
            (3, 4, 4),
            "pred_probs: got shape (3, 4, 4), it must be (N, K, *spatial) with one dimension more "
            "than labels, which have shape (3, 4, 4)",
        ),
        (
            (3, 4, 4),
            (3, 2, 4, 5),
            "pred_probs: got shape (3, 2, 4, 5), it must be (N, K, *spatial) with the N and "
            "spatial shape of labels (3, 4, 4)",
        ),
        ((2, 4, 4), (3, 2, 4, 4), "pred_probs: got shape (3, 2, 4, 4), it must be"),
        ((3, 4, 4), (3, 1, 4, 4), "pred_probs: got shape (3, 1, 4, 4), K = 1 classes"),
        ((0, 4, 4), (0, 2, 4, 4), "labels: got shape (0, 4, 4), the dataset is empty"),
        ((3, 0, 4), (3, 2, 0, 4), "labels: got shape (3, 0, 4), the dataset is empty"),
    ],
)
def test_shapes(function: Any, source: Any, labels: Any, pred_probs: Any, message: str) -> None:
    arrays = source(np.zeros(labels, int)), source(np.zeros(pred_probs, "f4"))
    with never_computing(), fails(message):
        function(*arrays)


@every_function
@every_source
@pytest.mark.parametrize(
    ("label_dtype", "dtype", "message"),
    [
        ("c8", "f4", "labels: got dtype complex64, it must be an integer dtype"),
        ("i8", "i4", "pred_probs: got dtype int32, it must be float16, float32, float64, or uint8"),
        ("i8", "u4", "pred_probs: got dtype uint32"),
        ("i8", "?", "pred_probs: got dtype bool"),
        ("i8", "c8", "pred_probs: got dtype complex64"),
    ],
)
def test_dtypes(function: Any, source: Any, label_dtype: Any, dtype: Any, message: str) -> None:
    arrays = source(np.zeros((3, 4, 4), label_dtype)), source(np.zeros((3, 2, 4, 4), dtype))
    with never_computing(), fails(message):
        function(*arrays)


@pytest.mark.parametrize("name", ["labels", "pred_probs"])
@pytest.mark.parametrize("value", ["path.zarr", None, 3])
def test_what_is_no_array(name: str, value: Any) -> None:
    arrays = {"labels": CASE.labels, "pred_probs": CASE.pred_probs} | {name: value}
    with fails(f"{name}: got {type(value).__name__}, it must be a NumPy, Zarr, Dask or xarray"):
        audit(**arrays)


every_name = pytest.mark.parametrize("name", ["labels", "pred_probs"])


@every_function
@every_name
def test_a_group_in_place_of_an_array(function: Any, name: str) -> None:
    group = zarr_arrays(CASE.labels, CASE.pred_probs)[0].store_path.store
    arrays = {"labels": CASE.labels, "pred_probs": CASE.pred_probs}
    with fails(
        f"{name}: got a Zarr group; name the array in it, such as group['labels'] (it has "
        "'labels', 'pred_probs')"
    ):
        function(**arrays | {name: zarr.open_group(group)})
    with fails(
        f"{name}: got a Dataset; name the variable in it, such as dataset['labels'] (it has 'p')"
    ):
        function(**arrays | {name: xr.Dataset({"p": ("x", [1])})})


@every_function
def test_arrays_of_several_shapes_on_one_side(function: Any) -> None:
    labels = [CASE.labels[0], CASE.labels[1, :5], CASE.labels[2]]
    with fails("pred_probs: got ndarray, it must be a list of one array for each image"):
        function(labels, CASE.pred_probs)
    with fails("labels: got ndarray, it must be a list of one array for each image"):
        function(CASE.labels, (CASE.pred_probs[0], CASE.pred_probs[1, :2], CASE.pred_probs[2]))
    mask = find_label_issues(list(CASE.labels), list(CASE.pred_probs), verbose=False)
    np.testing.assert_array_equal(
        mask, find_label_issues(CASE.labels, CASE.pred_probs, verbose=False)
    )


@every_function
@every_name
@pytest.mark.parametrize("named", [False, True])
def test_chunks_of_unknown_size(function: Any, name: str, named: bool) -> None:
    array = da.from_array(getattr(CASE, name))
    array = array[da.from_array(np.array([True, True, True]))]
    rest = str(array.shape[1:])[1:]
    with fails(
        f"{name}: got a Dask array with chunks of unknown size, shape (nan, {rest}; call its "
        "compute_chunk_sizes(), which computes it once"
    ):
        function(
            **{"labels": CASE.labels, "pred_probs": CASE.pred_probs}
            | {name: xr.DataArray(array) if named else array}
        )


CASE = make_case()
LAZY = tuple(da.from_array(a) for a in (CASE.labels, CASE.pred_probs))


@every_function
@pytest.mark.parametrize("arrays", [(CASE.labels, CASE.pred_probs), LAZY], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validate": "some"}, "validate: got 'some', it must be one of full, labels, none"),
        ({"validate": True}, "validate: got True"),
        (
            {"label_downsample": "median"},
            "label_downsample: got 'median', it must be one of mean, majority",
        ),
        ({"ignore_index": 1.5}, "ignore_index: got 1.5, it must be an integer or several"),
        ({"ignore_index": [3, "a"]}, "ignore_index: got 'a', it must be an integer or several"),
        ({"ignore_index": "255"}, "ignore_index: got '255', it must be an integer or several"),
        ({"ignore_index": True}, "ignore_index: got True, it must be an integer or several"),
        ({"batch_size": 0}, "batch_size: got 0, it must be an integer of 1 or more"),
        ({"batch_size": 2.5}, "batch_size: got 2.5, it must be an integer of 1 or more"),
    ],
)
def test_arguments(function: Any, arrays: Any, arguments: Any, message: str) -> None:
    with never_computing(), fails(message):
        function(*arrays, **arguments)


@every_function
@pytest.mark.parametrize("n_jobs", [0, -1, 1.5])
def test_n_jobs(function: Any, n_jobs: Any) -> None:
    with fails(f"n_jobs: got {n_jobs!r}, it must be an integer of 1 or more"):
        function(CASE.labels, CASE.pred_probs, n_jobs=n_jobs)


@pytest.mark.parametrize("name", ["find_label_issues", "num_pixel_issues", "audit"])
@pytest.mark.parametrize(
    ("downsample", "message"),
    [
        (4, "downsample: 4 does not divide the image shape (6, 8); it may be 1, 2"),
        (0, "downsample: got 0, it must be an integer of 1 or more"),
        (2.0, "downsample: got 2.0, it must be an integer of 1 or more"),
    ],
)
def test_downsample(name: str, downsample: Any, message: str) -> None:
    with never_computing(), fails(message):
        FUNCTIONS[name](*LAZY, downsample=downsample)


@pytest.mark.parametrize("factor", [np.int64(2), np.uint8(2)])
def test_numpy_integers_are_integers(factor: Any) -> None:
    found = audit(CASE.labels, CASE.pred_probs, downsample=factor, batch_size=factor, n_jobs=factor)
    xr.testing.assert_identical(found, audit(CASE.labels, CASE.pred_probs, downsample=2))


@pytest.mark.parametrize("name", ["softmin", "audit"])
@pytest.mark.parametrize("temperature", [0, -0.1, np.inf, np.nan, "0.1", None])
def test_temperature(name: str, temperature: Any) -> None:
    with fails(f"temperature: got {temperature!r}, it must be a number above 0"):
        FUNCTIONS[name](*LAZY, temperature=temperature)


def test_method() -> None:
    with fails("method: got 'mean', it must be one of softmin, num_pixel_issues"):
        get_label_quality_scores(*LAZY, method="mean")


@every_function
def test_unknown_keyword(function: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'downsampling'"):
        function(*LAZY, downsampling=2)


def test_downsample_has_no_effect_on_softmin() -> None:
    with pytest.warns(LabelQCWarning, match="downsample: 2 has no effect with method='softmin'"):
        scores, _ = get_label_quality_scores(
            CASE.labels, CASE.pred_probs, downsample=2, verbose=False
        )
    expected, _ = get_label_quality_scores(CASE.labels, CASE.pred_probs, verbose=False)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, None, np.nan])
def test_threshold(threshold: Any) -> None:
    with fails(f"threshold: got {threshold!r}, it must be between 0 and 1"):
        issues_from_scores(np.zeros(3), threshold=threshold)


def test_no_image_scores() -> None:
    with fails("image_scores: got None, they must be given"):
        issues_from_scores(None)


@pytest.mark.parametrize("scale", [0, -1.0, np.nan, np.inf])
def test_scale_factor(scale: float) -> None:
    predicted = xr.DataArray(np.zeros((3, 4, 6, 8), "u1"), attrs={"scale_factor": scale})
    with fails(f"pred_probs: scale_factor is {float(scale)!r}, it must be a number above 0"):
        audit(CASE.labels, predicted)


@pytest.mark.parametrize("container", [xr.DataArray, as_named_zarr])
@every_function
def test_scales_that_cannot_be(container: Any, function: Any) -> None:
    """The same of Zarr and xarray."""
    predicted = np.zeros((3, 4, 6, 8), "u1")
    with never_computing(), fails("pred_probs: scale_factor is 'a', it must be a number above 0"):
        function(CASE.labels, container(predicted, attrs={"scale_factor": "a"}))
    attributes = {"scale_factor": 1 / 255, "add_offset": 0.5}
    with never_computing(), fails("pred_probs: add_offset is 0.5, it must be 0 or not there"):
        function(CASE.labels, container(predicted, attrs=attributes))


def test_scales_as_files_have_them() -> None:
    """Attributes of NetCDF are arrays of one element, or numbers of NumPy."""
    integers = (make_case(resolution=128).pred_probs * 128).astype("u1")
    expected = audit(CASE.labels, xr.DataArray(integers, attrs={"scale_factor": 1 / 128}))
    for value in (np.array([1 / 128]), np.float32(1 / 128)):
        attributes = {"scale_factor": value, "add_offset": np.array([0.0])}
        found = audit(CASE.labels, xr.DataArray(integers, attrs=attributes))
        xr.testing.assert_identical(found, expected)


def test_logits_are_floating_point() -> None:
    with fails("from_logits: pred_probs are uint8; logits must be floating point"):
        audit(CASE.labels, np.zeros((3, 4, 6, 8), "u1"), from_logits=True)


def test_dimensions_of_other_names() -> None:
    labels = xr.DataArray(CASE.labels, dims=("image", "y", "x"))
    predicted = xr.DataArray(CASE.pred_probs, dims=("image", "class", "lat", "x"))
    with fails("pred_probs: got dimensions ('image', 'class', 'lat', 'x'), they must be those of"):
        audit(labels, predicted)


# What only the data show: at once in memory, and when a lazy answer is computed.


def changed(place: tuple[int, ...], value: Any, dtype: str = "f4", **keywords: Any) -> Case:
    """The dataset with another probability at one place (image, class, y, x)."""
    case = make_case(dtype=dtype, **keywords)
    case.pred_probs[place] = value
    return case


@every_container
@every_function
def test_labels_out_of_range(container: Any, function: Any, tmp_path: Path) -> None:
    labels = CASE.labels.astype("i2")
    labels[1, 4, 5:] = [7, -1, 300]
    arrays = container(labels, CASE.pred_probs, tmp_path)
    in_all = re.compile(
        r"labels: \d+ of \d+ pixels in images? \d+( to \d+)? are outside 0\.\.3 and not ignored, "
        r"the first is (7|-1) at image 1, pixel \(4, (5|6)\); ignore_index=(7|-1) leaves"
    )
    with pytest.raises(InputError, match=in_all):
        run(function, arrays)
    run(function, arrays, ignore_index=(7, -1, 300))


@pytest.mark.parametrize("lazy", [False, True])
def test_labels_out_of_range_are_counted(lazy: bool) -> None:
    labels = CASE.labels.astype("u1")
    labels[2, 5, 6:] = 255
    arrays = zarr_arrays(labels, CASE.pred_probs) if lazy else (labels, CASE.pred_probs)
    message = (
        "labels: 2 of 48 pixels in image 2 are outside 0..3 and not ignored, the first is 255 at "
        "image 2, pixel (5, 6); ignore_index=255 leaves such pixels out"
    )
    with fails(message):
        run(audit, arrays, batch_size=1)
    with fails(message):
        run(audit, arrays, batch_size=1, validate="labels")


def test_labels_out_of_range_may_be_left_aside() -> None:
    labels = CASE.labels.copy()
    labels[2, 5, 6:] = 255
    found = audit(labels, CASE.pred_probs, validate="none", pixel_scores=True)
    expected = audit(labels, CASE.pred_probs, ignore_index=255, pixel_scores=True)
    xr.testing.assert_equal(found, expected)


@every_container
@every_function
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "pred_probs: class 2 is nan at image 1, pixel (4, 5); it must be finite"),
        (np.inf, "pred_probs: class 2 is inf at image 1, pixel (4, 5); it must be finite"),
        (
            -0.25,
            "pred_probs: class 2 is -0.25 at image 1, pixel (4, 5); probabilities must lie between "
            "0 and 1; from_logits=True",
        ),
        (1.5, "pred_probs: class 2 is 1.5 at image 1, pixel (4, 5); probabilities must lie"),
    ],
)
def test_impossible_probabilities(
    container: Any, function: Any, value: Any, message: str, tmp_path: Path
) -> None:
    case = changed((1, 2, 4, 5), value)
    with fails(message):
        run(function, container(case.labels, case.pred_probs, tmp_path))


@every_container
@every_function
def test_all_zero_probabilities(container: Any, function: Any, tmp_path: Path) -> None:
    case = changed((1, slice(None), 4, 5), 0)
    message = (
        "pred_probs: all 4 probabilities are 0 at image 1, pixel (4, 5); a chunk that is missing "
        "in the store reads so"
    )
    with fails(message):
        run(function, container(case.labels, case.pred_probs, tmp_path))


@every_function
@pytest.mark.parametrize("fill_value", [0, np.nan])
def test_unwritten_chunks(function: Any, fill_value: float) -> None:
    labels, _ = zarr_arrays(CASE.labels, CASE.pred_probs)
    pred_probs = zarr.create_array(
        MemoryStore(),
        shape=CASE.pred_probs.shape,
        chunks=(1, 4, 3, 4),
        dtype="f4",
        fill_value=fill_value,
    )
    pred_probs[...] = CASE.pred_probs
    asyncio.run(pred_probs.store_path.store.delete("c/1/0/1/0"))
    message = "all 4 probabilities are 0" if fill_value == 0 else "class 0 is nan"
    with fails(f"pred_probs: {message} at image 1, pixel (3, 0)"):
        run(function, (labels, pred_probs))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_impossible_logits(dtype: str, value: float) -> None:
    case = changed((2, 1, 0, 3), value, dtype)
    with fails(f"pred_probs: class 1 is {value} at image 2, pixel (0, 3); it must be finite"):
        audit(case.labels, case.pred_probs, from_logits=True)


def test_scaled_integers_above_one() -> None:
    predicted = xr.DataArray(np.full((3, 4, 6, 8), 20, "u1"), attrs={"scale_factor": 1 / 80})
    predicted[2, 2, 0, 3] = 83
    with fails("pred_probs: class 2 is 1.0375 at image 2, pixel (0, 3); probabilities must lie"):
        audit(CASE.labels, predicted)


def test_void_pixels_are_not_looked_at() -> None:
    case = changed((1, 2, 4, 5), np.nan)
    case.labels[1, 4, 5] = -7
    found = audit(case.labels, case.pred_probs, ignore_index=-7)
    assert not found.label_issues[1, 4, 5]


@pytest.mark.parametrize("validate", ["labels", "none"])
def test_probabilities_are_not_looked_at_if_not_asked_to(validate: str) -> None:
    case = changed((1, slice(None), 4, 5), 0.125)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(case.labels, case.pred_probs, validate=validate)


SUMS = (
    "pred_probs: the probabilities of a pixel should sum to 1 (within 0.01); the worst sum is "
    "0.75 at image 2, pixel (5, 7)"
)


@every_container
@every_function
@pytest.mark.parametrize("downsample", [1, 2])
def test_one_warning_for_sums_that_are_off(
    container: Any, function: Any, downsample: Any, tmp_path: Path
) -> None:
    softmin = function is FUNCTIONS["softmin"]
    arguments = {} if softmin else {"downsample": downsample}
    case = changed((0, slice(None), 0, 0), [0.9, 0, 0, 0.03])
    case.pred_probs[2, :, 5, 7] = [0.25, 0.25, 0, 0.25]
    arrays = container(case.labels, case.pred_probs, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(function, arrays, **arguments)
    assert [(str(w.message), w.category) for w in caught] == [(SUMS, LabelQCWarning)]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "u2"])
@pytest.mark.parametrize("num_classes", [2, 300])
def test_rounding_is_no_reason_to_warn(dtype: str, num_classes: int) -> None:
    rng = np.random.default_rng(0)
    probs = np.moveaxis(rng.dirichlet(np.ones(num_classes), (2, 5, 5)), -1, 1)
    if dtype[0] == "u":
        probs = np.rint(probs * np.iinfo(dtype).max)
    labels = rng.integers(0, num_classes, (2, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(labels, probs.astype(dtype))


def test_sums_just_within_the_tolerance() -> None:
    case = changed((0, slice(None), 0, 0), [0.5, 0.25, 0.25 - 0.0099, 0], "f8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(case.labels, case.pred_probs)
    case.pred_probs[0, 2, 0, 0] = 0.25 - 0.0101
    with pytest.warns(LabelQCWarning, match=r"the worst sum is 0\.9899 at image 0, pixel \(0, 0\)"):
        audit(case.labels, case.pred_probs)
