"""Boxes as loops have them: dictionaries and arrays of any framework become the same columns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dask_labelqc import InputError
from dask_labelqc.object_detection.batches import block_of
from dask_labelqc.object_detection.recorded import recorded_boxes

IDS = ["a", "b"]
BOXES = [[[1, 2, 30, 40], [5, 5, 9.5, 9]], [[0, 0, 3, 3]]]
LABELS = [[2, 0], [1]]
SCORES = [[0.5, 0.25], [1.0]]
FRAMEWORKS = {"numpy": np.array, "torch": torch.tensor, "jax": jnp.array, "lists": lambda v: v}


def dictionaries(make: Any) -> tuple[list[Any], list[Any]]:
    given = [{"boxes": make(b), "labels": make(k)} for b, k in zip(BOXES, LABELS, strict=True)]
    scores = [{"scores": make(s)} for s in SCORES]
    return given, [g | s for g, s in zip(given, scores, strict=True)]


def same(block: Any, expected: Any) -> None:
    for mine, theirs in zip(block, expected, strict=True):
        assert (mine.dtype, mine.tolist()) == (theirs.dtype, theirs.tolist())


@pytest.mark.parametrize("make", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_every_form_is_the_same(make: Any) -> None:
    expected = block_of(IDS, *dictionaries(np.array), 3)
    assert expected.given_boxes.tolist() == [*BOXES[0], *BOXES[1]]
    assert expected.given_classes.tolist() == [2, 0, 1]
    assert expected.given_offsets.tolist() == [0, 2, 3]
    assert expected.predicted_scores.tolist() == [0.5, 0.25, 1.0]
    same(block_of(IDS, *dictionaries(make), 3), expected)
    rows = [
        make([[*box, score, k] for box, score, k in zip(*each, strict=True)])
        for each in zip(BOXES, SCORES, LABELS, strict=True)
    ]
    given = [
        make([[*box, k] for box, k in zip(*each, strict=True)])
        for each in zip(BOXES, LABELS, strict=True)
    ]
    same(block_of(IDS, given, rows, 3), expected)


def test_a_list_for_each_class() -> None:
    """As cleanlab has predictions; boxes are in the order of their classes then."""
    predicted = [
        [np.array([[5, 5, 9.5, 9, 0.25]]), np.zeros((0, 5)), torch.tensor([[1, 2, 30, 40, 0.5]])],
        [[], [[0, 0, 3, 3, 1.0]], []],
    ]
    block = block_of(IDS, dictionaries(np.array)[0], predicted, 3)
    assert block.predicted_classes.tolist() == [0, 2, 1]
    assert block.predicted_scores.tolist() == [0.25, 0.5, 1.0]
    assert block.predicted_offsets.tolist() == [0, 2, 3]


def test_gradients_half_precision_and_crowds() -> None:
    given = [
        {"bboxes": [[0, 0, 1, 1]], "labels": torch.tensor([1.0]), "iscrowd": torch.tensor([1])}
    ]
    boxes = torch.tensor([[0, 0, 1.5, 1]], dtype=torch.bfloat16)
    scores = torch.tensor([0.5], dtype=torch.float16, requires_grad=True)
    predicted = [{"boxes": boxes, "labels": torch.tensor([1]), "scores": scores * 1}]
    block = block_of(["a"], given, predicted, 2)
    assert block.given_crowd.tolist() == [True]
    assert block.predicted_boxes.tolist() == [[0, 0, 1.5, 1]]
    assert block.predicted_scores.tolist() == [0.5]


def test_images_without_boxes() -> None:
    block = block_of(["a"], [{"boxes": [], "labels": []}], [torch.zeros(0, 6)], 2)
    assert block.given_offsets.tolist() == block.predicted_offsets.tolist() == [0, 0]
    assert block_of([], [], [], 2).given_boxes.shape == (0, 4)


GOOD = {"boxes": [[0, 0, 1, 1]], "labels": [1], "scores": [0.5]}
BAD = [
    ({"boxes": [[0, 0, 1, 1]]}, GOOD, r"given: image 'a': got a dictionary with \['boxes'\]"),
    (GOOD, {"boxes": [[0, 0, 1, 1]], "labels": [1]}, "predicted: image 'a': .* without 'scores'"),
    (GOOD, GOOD | {"scores": [0.5, 0.5]}, "image 'a': there are 1 boxes and 2 scores"),
    (GOOD, GOOD | {"labels": [1, 1]}, "image 'a': there are 1 boxes and 2 labels"),
    (GOOD | {"iscrowd": []}, GOOD, "image 'a': there are 1 boxes and 0 iscrowd"),
    (GOOD, GOOD | {"boxes": [[0, 0, 1]]}, r"image 'a': 'boxes': got shape \(1, 3\)"),
    (GOOD, np.zeros((2, 5)), r"predicted: image 'a': got shape \(2, 5\), it must be .*\(M, 6\)"),
    (np.zeros((2, 4)), GOOD, r"given: image 'a': got shape \(2, 4\), it must be .*\(L, 5\)"),
    (GOOD, [np.zeros((1, 4)), np.zeros((0, 5))], r"image 'a', class 0: got shape \(1, 4\)"),
    (GOOD | {"labels": [0.5]}, GOOD, "'labels' must be whole numbers"),
    (GOOD | {"labels": ["car"]}, GOOD, "'labels' must be numbers, got dtype"),
    (GOOD | {"labels": [2]}, GOOD, "image 'a', given box 0: classes is 2; .* 0..1"),
    (GOOD, GOOD | {"scores": [1.5]}, "image 'a', predicted box 0: scores is 1.5"),
    (GOOD, GOOD | {"boxes": [[5, 0, 1, 1]]}, r"image 'a', predicted box 0: .*\(not width, height"),
]


@pytest.mark.parametrize(("given", "predicted", "message"), BAD)
def test_what_cannot_be_used(given: Any, predicted: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        block_of(["a"], [given], [predicted], 2)


@pytest.mark.parametrize("entries", [[], {"boxes": []}, 5, [GOOD, GOOD]])
def test_an_entry_for_each_image(entries: Any) -> None:
    with pytest.raises(InputError, match="predicted: got"):
        block_of(["a"], [GOOD], entries, 2)


def test_records_are_narrow_where_that_is_exact_and_hashed_as_they_are_meant() -> None:
    boxes = np.array([[0, 0, 1.5, 1]])
    blocks = [
        block_of(["a"], [{"boxes": b, "labels": k}], [{"boxes": b, "labels": k, "scores": s}], 2)
        for b, k, s in [
            (boxes, np.array([1]), [0.5]),
            (boxes.astype("f4"), np.array([1], "u1"), np.array([0.5], "f2")),
            (boxes / 3, np.array([1]), [0.5]),
        ]
    ]
    wide, narrow, other = (recorded_boxes(["a"], block, 2) for block in blocks)
    assert wide.values["given_boxes"].dtype == narrow.values["given_boxes"].dtype == np.float32
    assert other.values["given_boxes"].dtype == np.float64
    assert wide.hashes.tobytes() == narrow.hashes.tobytes() != other.hashes.tobytes()
