"""Condensed predictions in NumPy; tests/devices has those of every framework."""

from __future__ import annotations

import numpy as np
import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.condensed import Condensed, scan_condensed
from dask_labelqc.kernels.summary import ScanOptions

CODES = np.array([[0, 1, -1], [1, 1, 0]], np.int32)


def condensed(**facts: list[float]) -> Condensed:
    arrays = {
        "confidence": np.array([[0.75, 0.5, 0.5], [1, 0.75, 0.75]], np.float32),
        "predicted": np.array([[0, 0, 1], [1, 0, 0]], np.uint8),
        "score": np.array([[0.75, 0.5, 9], [1, 0.25, 0.75]], np.float32),
        "bad_pixel": np.array([-1, -1]),
        "bad_reason": np.array([0, 0]),
        "worst_pixel": np.array([0, 0]),
        "worst_sum": np.array([1, 1], np.float32),
    }
    return Condensed(2, **arrays | {name: np.array(value) for name, value in facts.items()})


def test_each_fact() -> None:
    scan = scan_condensed(condensed(), CODES, ScanOptions(0.8, scores=True, predicted=True))
    assert scan.class_sum.tolist() == [2**32 * 3 // 2, 2**32 * 7 // 4]
    assert scan.class_count.tolist() == scan.pixel_count.tolist() == [2, 3]
    assert scan.image_count.tolist() == [2, 3]
    assert scan.position.tolist() == [1, 4]
    assert scan.score.tolist() == [0.5, 0.25]
    assert scan.confidence.tolist() == [0.5, 0.75]
    assert (scan.given.tolist(), scan.predicted.tolist()) == ([1, 1], [0, 0])
    assert scan.agreeing.tolist() == [0.75, 0.75]
    np.testing.assert_array_equal(scan.dense_score, [[0.75, 0.5, np.nan], [1, 0.25, 0.75]])
    assert scan.dense_predicted.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert (scan.unusable, scan.worst_sum_pixel) == ((-1, 0), -1)


def test_the_first_bad_pixel_and_the_worst_sum_of_all_images() -> None:
    facts = condensed(
        bad_pixel=[-1, 2], bad_reason=[0, 3], worst_pixel=[1, 2], worst_sum=[0.75, 1.5]
    )
    scan = scan_condensed(facts, CODES, ScanOptions(0.5))
    assert (scan.unusable, scan.worst_sum_pixel) == ((5, 3), 5)
    assert scan.worst_sum.tolist() == [0.5, 1.5]
    unchecked = scan_condensed(facts, CODES, ScanOptions(0.5, check=False))
    assert (unchecked.unusable, unchecked.worst_sum_pixel) == ((-1, 0), -1)


def test_one_image_of_several() -> None:
    options = ScanOptions(0.5, predicted=True)
    scan = scan_condensed(condensed().images(slice(1, 2)), CODES[1:], options)
    assert scan.position.tolist() == [1]
    assert scan.dense_predicted.tolist() == [[1, 0, 0]]


def test_no_downsampling() -> None:
    with pytest.raises(InputError, match=r"downsample: got 3, it must be 1 where predictions are"):
        scan_condensed(condensed(), CODES, ScanOptions(0.5, factors=(3,)))
