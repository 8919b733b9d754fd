from __future__ import annotations

import numpy as np
import pytest

from dask_labelqc.demo.label_errors import ERROR_KINDS, annotate, assign_error_kinds
from dask_labelqc.demo.scenes import NEAR_CLASSES, compose_scene, image_streams, render_labels

SIZE = 128


def spoil(kind: str, index: int) -> tuple:
    scene_stream, annotator, _ = image_streams(0, index)
    scene = compose_scene(scene_stream)
    return scene, *annotate(scene, ERROR_KINDS.index(kind), SIZE, annotator)


@pytest.mark.parametrize(("images", "fraction", "bad"), [(240, 0.12, 29), (6, 0.5, 3), (5, 0, 0)])
def test_a_known_fraction_of_the_images_is_bad(images: int, fraction: float, bad: int) -> None:
    kinds = assign_error_kinds(images, fraction, seed=1)
    assert np.count_nonzero(kinds) == bad
    counts = np.bincount(kinds, minlength=4)[1:]
    assert np.ptp(counts) <= 1


def test_without_an_error_the_labels_are_the_truth() -> None:
    scene, given, true, error = spoil("none", 0)
    np.testing.assert_array_equal(given, true)
    np.testing.assert_array_equal(true, render_labels(scene, SIZE))
    assert (error.kind, error.class_id, error.pixels) == (0, -1, 0)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("kind", ERROR_KINDS[1:])
def test_an_error_is_what_the_truth_says(kind: str, index: int) -> None:
    scene, given, true, error = spoil(kind, index)
    wrong = given != true
    np.testing.assert_array_equal(true, render_labels(scene, SIZE))
    assert ERROR_KINDS[error.kind] == kind
    assert error.pixels == np.count_nonzero(wrong) > 0.002 * SIZE**2
    if kind == "drop":
        assert set(true[wrong]) == {error.class_id}
    elif kind == "swap":
        assert set(true[wrong]) == {error.class_id}
        assert set(given[wrong]) <= set(NEAR_CLASSES[error.class_id])
    else:
        assert ((true == error.class_id) | (given == error.class_id))[wrong].all()
