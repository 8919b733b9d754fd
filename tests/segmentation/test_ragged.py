"""Lists of images of every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import assume, given
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
from tests.ragged import (
    PER_PIXEL,
    RaggedCase,
    check_ragged,
    ragged_case,
    ragged_cases,
    write_ragged,
)
from tests.strategies import Case

SHAPES = [(3, 4), (7, 5), (1, 2), (6, 6)]
CASE = ragged_case(SHAPES, mistakes=0.5)
QUIET = {"verbose": False}


@given(ragged_cases(), st.sampled_from([1, 3]), st.sampled_from([None, 1, 4]))
def test_against_the_reference(case: RaggedCase, n_jobs: int, batch_size: int | None) -> None:
    assume(case.table.regular is None)  # arrays of one shape are one array
    how: dict[str, Any] = {"n_jobs": n_jobs, "batch_size": batch_size}
    how["ignore_index"] = case.flat.ignore_index
    lists = case.labels, case.pred_probs
    check_ragged(audit(*lists, pixel_scores=True, predicted_label=True, **how), case)
    expected = case.expected()
    masks = find_label_issues(*lists, **how, **QUIET)
    scores, pixels = get_label_quality_scores(*lists, **how, **QUIET)
    assert isinstance(masks, list)
    for found, wanted in ((masks, expected["label_issues"]), (pixels, expected["pixel_scores"])):
        for image, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(image, other, strict=True)
    np.testing.assert_allclose(scores, expected["image_score"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("label_downsample", ["mean", "majority"])
def test_downsampled_images_are_those_of_an_array(label_downsample: str) -> None:
    """Images of two shapes with the same pixels in the same cells: rows below one another."""
    tall = ragged_case([(4, 6), (8, 6), (4, 6)], 3, mistakes=0.6, ignored=(2,), void=0.1)
    even = RaggedCase(tall.flat, [(4, 6)] * 4)
    how: dict[str, Any] = {"downsample": 2, "label_downsample": label_downsample}
    how |= {"ignore_index": 2, **QUIET}
    masks = find_label_issues(tall.labels, tall.pred_probs, **how)
    expected = find_label_issues(np.stack(even.labels), np.stack(even.pred_probs), **how)
    assert isinstance(masks, list)
    np.testing.assert_array_equal(np.concatenate(masks), np.concatenate(list(expected)))
    assert expected.any()


def test_masked_images() -> None:
    hidden = [np.ma.MaskedArray(CASE.labels[0], CASE.labels[0] == 1), *CASE.labels[1:]]
    flat = np.concatenate(
        [
            np.where(CASE.labels[0] == 1, 9, CASE.labels[0]).ravel(),
            *(image.ravel() for image in CASE.labels[1:]),
        ]
    )
    expected = RaggedCase(Case(flat[None], CASE.flat.pred_probs, (9,)), SHAPES).expected()
    masks = find_label_issues(hidden, CASE.pred_probs, **QUIET)
    for image, other in zip(masks, expected["label_issues"], strict=True):
        np.testing.assert_array_equal(image, other)


def test_the_dataset_is_ragged() -> None:
    found = audit(CASE.labels, CASE.pred_probs)
    assert found.label_issues.dims == ("pixel",)
    assert found.image_id.values.tolist() == ["0", "1", "2", "3"]
    assert list(zip(found.height.values, found.width.values, strict=True)) == SHAPES
    assert found.offset.values.tolist() == [0, 12, 47, 49]
    assert set(PER_PIXEL) & set(found.data_vars) == {"label_issues"}


def changed(index: int, image: np.ndarray, name: str = "pred_probs") -> dict[str, Any]:
    lists: dict[str, Any] = {"labels": list(CASE.labels), "pred_probs": list(CASE.pred_probs)}
    lists[name][index] = image
    return lists


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (changed(2, np.ones((4, 2, 1))), r"image 2 has shape \(4, 2, 1\), it must be \(K, 1, 2\)"),
        (changed(1, np.ones((5, 7, 5), "f4")), "image 1 has 5 classes of float32, image 0 has 4"),
        (changed(3, np.ones((4, 6, 6))), "image 3 has 4 classes of float64, image 0 has 4 of"),
        (changed(0, np.ones((2, 2, 3), "u1"), "labels"), "labels: image 1 has shape"),
        (
            {"labels": CASE.labels, "pred_probs": CASE.pred_probs[:3]},
            "pred_probs: got 3 images, there are 4",
        ),
        (
            {"labels": CASE.labels, "pred_probs": CASE.pred_probs[0]},
            "pred_probs: got ndarray, it must be a list",
        ),
        ({"labels": CASE.labels[0], "pred_probs": CASE.pred_probs}, "labels: got ndarray, it must"),
    ],
)
@pytest.mark.parametrize("function", [find_label_issues, get_label_quality_scores, audit])
def test_lists_that_do_not_fit(function: Any, lists: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        function(**lists)


def test_errors_name_the_image() -> None:
    labels = [image.copy() for image in CASE.labels]
    labels[1][2, 3] = 77
    with pytest.raises(InputError, match=r"the first is 77 at image 1, pixel \(2, 3\)"):
        find_label_issues(labels, CASE.pred_probs, **QUIET)


def test_a_factor_that_does_not_divide() -> None:
    with pytest.raises(InputError, match=r"2 does not divide the shape \(3, 4\) of '0'"):
        find_label_issues(CASE.labels, CASE.pred_probs, downsample=2, **QUIET)


def test_summaries_of_lists() -> None:
    """Those of the images are those of all their pixels in a row."""
    masks = find_label_issues(CASE.labels, CASE.pred_probs, **QUIET)
    lists = masks, CASE.labels, CASE.pred_probs
    row = [np.concatenate([image.ravel() for image in masks])[None], CASE.flat.labels]
    expected = common_label_issues(*row, CASE.flat.pred_probs, verbose=False)
    assert common_label_issues(*lists, verbose=False).equals(expected)
    assert len(expected) > 3
    chosen = filter_by_class([1, 3], *lists)
    wanted = filter_by_class([1, 3], *row, CASE.flat.pred_probs)
    assert isinstance(chosen, list)
    for image, other in zip(chosen, CASE.images(wanted[0]), strict=True):
        np.testing.assert_array_equal(image, other, strict=True)


def test_pictures_of_lists() -> None:
    masks = find_label_issues(CASE.labels, CASE.pred_probs, **QUIET)
    figures = display_issues(
        masks, labels=CASE.labels, pred_probs=CASE.pred_probs, top=2, image_ids=list("abcd")
    )
    counts = np.array([mask.sum() for mask in masks])
    names = ["abcd"[i] for i in np.argsort(-counts, kind="stable")[:2]]
    titles = [figure.axes[2].get_title() for figure in figures]
    assert titles == [f"Image {name}: label issues (red)" for name in names]
    with pytest.raises(InputError, match="image_ids: got 3 of them, there are 4 images"):
        display_issues(masks, image_ids=list("abc"))


@pytest.mark.parametrize(
    ("name", "index", "image", "message"),
    [
        ("issues", 1, np.ones((7, 5)), "issues: image 1 has dtype float64, it must be bool"),
        ("labels", 0, np.ones((3, 3), "u1"), "issues: image 0 has shape"),
        ("pred_probs", 2, np.ones((3, 1, 2)), r"image 2 has shape \(3, 1, 2\), it must be \(K"),
    ],
)
def test_lists_of_issues_that_do_not_fit(
    name: str, index: int, image: np.ndarray, message: str
) -> None:
    lists: dict[str, Any] = {"labels": list(CASE.labels), "pred_probs": list(CASE.pred_probs)}
    lists["issues"] = [np.zeros(shape, bool) for shape in SHAPES]
    lists[name][index] = image
    with pytest.raises(InputError, match=message):
        common_label_issues(**lists)


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_lazily_from_a_store(batch_size: int | None, tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", CASE)
    arrays = zarr.open_array(path / "labels"), zarr.open_array(path / "pred_probs")
    found = audit(*arrays, pixel_scores=True, predicted_label=True, batch_size=batch_size)
    assert all(isinstance(found[name].data, da.Array) for name in ("label_issues", "image_score"))
    check_ragged(found.compute(scheduler="sync"), CASE)
    assert found.width.values.tolist() == [width for _, width in SHAPES]
    mask = find_label_issues(*arrays, batch_size=batch_size, **QUIET)
    np.testing.assert_array_equal(mask, found.label_issues)
    scores, pixels = get_label_quality_scores(*arrays, batch_size=batch_size, **QUIET)
    np.testing.assert_array_equal(scores, found.image_score)
    np.testing.assert_array_equal(pixels, found.pixel_scores)


def test_lazily_downsampled(tmp_path: Path) -> None:
    case = ragged_case([(4, 6), (8, 2), (2, 2)], 3, mistakes=0.6)
    path = write_ragged(tmp_path / "in", case)
    arrays = zarr.open_array(path / "labels"), zarr.open_array(path / "pred_probs")
    mask = find_label_issues(*arrays, downsample=2, batch_size=1, **QUIET)
    expected = find_label_issues(case.labels, case.pred_probs, downsample=2, **QUIET)
    np.testing.assert_array_equal(mask, np.concatenate([image.ravel() for image in expected]))
