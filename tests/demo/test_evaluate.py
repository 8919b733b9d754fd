from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import zarr

from dask_labelqc.demo.dataset import read_array
from dask_labelqc.demo.evaluate import (
    ConfusedPair,
    compare_masks,
    evaluate,
    most_confused,
    rank_bad_images,
)
from dask_labelqc.errors import InputError


def write_group(path: Path, arrays: dict[str, object], attributes: dict[str, object]) -> None:
    group = zarr.create_group(path, attributes=attributes)
    for name, values in arrays.items():
        group.create_array(name, data=np.asarray(values))


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """Three images of two pixels: the second is wrong in one, and the audit flags two pixels."""
    dataset, output = tmp_path / "dataset.zarr", tmp_path / "audit.zarr"
    labels = np.array([[[0, 1]], [[1, 1]], [[0, 0]]], np.uint8)
    true = np.array([[[0, 1]], [[0, 1]], [[0, 0]]], np.uint8)
    write_group(dataset, {"labels": labels}, {"class_names": ["car", "bus"]})
    write_group(
        dataset / "truth",
        {
            "true_labels": true,
            "error_kind": np.array([0, 2, 0], np.uint8),
            "error_class": np.array([-1, 0, -1], np.int16),
            "wrong_pixels": np.array([0, 1, 0]),
        },
        {"error_kinds": ["none", "drop", "swap", "shift"]},
    )
    write_group(
        output,
        {
            "label_issues": np.array([[[False, False]], [[True, False]], [[False, True]]]),
            "image_score": np.array([0.9, 0.2, 0.1]),
            "image_issue_count": np.array([0, 1, 1]),
            "confident_threshold": np.array([0.8, 0.7]),
            "class_count": np.array([3, 3]),
            "class_issue_count": np.array([1, 1]),
            "issue_matrix": np.array([[0, 1], [1, 0]]),
        },
        {},
    )
    return dataset, output


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_case_made_by_hand(tiny: tuple[Path, Path], batch: int) -> None:
    result = evaluate(*tiny, worst=2, batch=batch)
    assert (result.mask.flagged, result.mask.wrong, result.mask.hits) == (2, 1, 1)
    assert (result.mask.precision, result.mask.recall) == (0.5, 1.0)
    assert (result.ranking.images, result.ranking.bad, result.ranking.at_front) == (3, 1, 0)
    assert (result.ranking.median_rank, result.ranking.worst_rank) == (2, 2)
    assert result.ranking.average_precision == 0.5
    first, second = result.worst
    assert (first.image, first.score, first.error, first.wrong) == (2, 0.1, "none", 0)
    assert (second.image, second.issues, second.error, second.error_class, second.wrong) == (
        1, 1, "swap", "car", 1,
    )  # fmt: skip
    assert result.confused == (ConfusedPair("car", "bus", 1), ConfusedPair("bus", "car", 1))
    assert [(c.name, c.threshold, c.pixels, c.issues) for c in result.classes] == [
        ("car", 0.8, 3, 1),
        ("bus", 0.7, 3, 1),
    ]


def test_a_perfect_audit_gets_full_marks(dataset: Path, perfect_audit: Path) -> None:
    result = evaluate(dataset, perfect_audit)
    assert result.mask.precision == result.mask.recall == 1
    assert result.mask.wrong == read_array(dataset, "truth/wrong_pixels").sum()
    assert (result.ranking.at_front, result.ranking.bad) == (3, 3)
    assert result.ranking.average_precision == 1


def test_ranks_of_bad_images() -> None:
    scores = np.array([0.5, 0.1, 0.3, 0.2, 0.3])
    bad = np.array([True, True, False, False, True])
    quality = rank_bad_images(scores, bad)
    assert (quality.at_front, quality.median_rank, quality.worst_rank) == (1, 4, 5)
    assert quality.average_precision == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3)


def test_nothing_flagged_and_nothing_wrong_is_not_a_number() -> None:
    none = np.zeros((2, 2), bool)
    quality = compare_masks(none, none.astype(int), none.astype(int))
    assert math.isnan(quality.precision)
    assert math.isnan(quality.recall)
    ranking = rank_bad_images(np.array([0.1, 0.2]), np.array([False, False]))
    assert ranking.bad == ranking.at_front == 0
    assert math.isnan(ranking.average_precision)
    assert math.isnan(ranking.median_rank)


def test_confused_pairs_leave_out_the_diagonal_and_zeros() -> None:
    matrix = np.array([[50, 0, 3], [7, 60, 0], [0, 3, 70]])
    assert most_confused(matrix, ("a", "b", "c"), pairs=5) == (
        ConfusedPair("b", "a", 7),
        ConfusedPair("a", "c", 3),
        ConfusedPair("c", "b", 3),
    )


def test_an_audit_of_other_images_is_refused(dataset: Path, tiny: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="is of 3 images, the dataset has 6"):
        evaluate(dataset, tiny[1])
