"""The same answers as cleanlab on random data without ties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from dask_labelqc import segmentation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cleanlab
    from cleanlab.segmentation.filter import find_label_issues
    from cleanlab.segmentation.rank import get_label_quality_scores, issues_from_scores

# cleanlab's default number of processes starts a pool for each image.
THEIRS = {"n_jobs": 1, "verbose": False}
OURS = {"verbose": False}


def dataset(seed: int, num_classes: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random probabilities and labels of which a fifth is wrong; every class occurs."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(num_classes, 0.4), (4, 12, 16))
    probs = np.moveaxis(probs, -1, 1)
    labels = probs.argmax(axis=1)
    wrong = rng.random(labels.shape) < 0.2
    labels[wrong] = rng.integers(0, num_classes, wrong.sum())
    labels[0, 0, :num_classes] = np.arange(num_classes)[:16]
    return labels.astype(np.int64), probs.astype(dtype)


def test_version() -> None:
    assert tuple(int(n) for n in cleanlab.__version__.split(".")[:2]) >= (2, 8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_classes", [2, 5, 16])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("downsample", [1, 2, 4])
def test_masks_are_equal(seed: int, num_classes: int, dtype: str, downsample: int) -> None:
    labels, pred_probs = dataset(seed, num_classes, dtype)
    expected = find_label_issues(labels, pred_probs, downsample=downsample, **THEIRS)
    found = segmentation.find_label_issues(labels, pred_probs, downsample=downsample, **OURS)
    np.testing.assert_array_equal(found, expected)
    assert found.any()


@pytest.mark.parametrize("num_classes", [2, 5, 16])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_softmin_scores(num_classes: int, dtype: str, temperature: float) -> None:
    labels, pred_probs = dataset(0, num_classes, dtype)
    expected = get_label_quality_scores(labels, pred_probs, temperature=temperature, **THEIRS)
    found = segmentation.get_label_quality_scores(
        labels, pred_probs, temperature=temperature, **OURS
    )
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-7)


@pytest.mark.parametrize("num_classes", [2, 5, 16])
@pytest.mark.parametrize("downsample", [1, 2, 4])
def test_scores_by_number_of_issues(num_classes: int, downsample: int) -> None:
    labels, pred_probs = dataset(1, num_classes, "f4")
    arguments = {"method": "num_pixel_issues", "downsample": downsample}
    expected = get_label_quality_scores(labels, pred_probs, **arguments, **THEIRS)
    found = segmentation.get_label_quality_scores(labels, pred_probs, **arguments, **OURS)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 1.0])
def test_issues_from_scores(threshold: float) -> None:
    rng = np.random.default_rng(0)
    images, pixels = rng.random(20), rng.random((20, 4, 4))
    np.testing.assert_array_equal(
        segmentation.issues_from_scores(images, pixels, threshold),
        issues_from_scores(images, pixels, threshold),
    )
    below = segmentation.issues_from_scores(images, threshold=threshold)
    # cleanlab returns one image too many: the first that is not below the threshold.
    theirs = issues_from_scores(images, threshold=threshold)
    np.testing.assert_array_equal(below, theirs[images[theirs] < threshold])
    assert below.size == (images < threshold).sum()
