from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.extent import NO_GAPS, Extent, Gap, Gaps
from dask_labelqc.method.gaps import LISTED, Missing, missing_of, warn_of_missing
from dask_labelqc.method.parameters import Options, Parameters

BLOCK = Extent((2, 0), (6, 5))
CODES = np.zeros(BLOCK.shape, np.int32)


def parameters(from_logits: bool = False, ignore_index: Any = ()) -> Parameters:
    options = Options.of(from_logits=from_logits, ignore_index=ignore_index)
    return Parameters.of_images(options, (9, 5), np.dtype("i8"), (9, 4, 5), np.dtype("f4"))


def gap(first: int, stop: int) -> Gap:
    return Gap(Extent((3, 1), (5, 4)), (first, stop), "c/3/0/1")


def test_nothing_is_missing_where_everything_is_there() -> None:
    assert missing_of(NO_GAPS, CODES, BLOCK, parameters()).label_chunks == 0


@pytest.mark.parametrize(
    ("fill", "ignored", "label"),
    [(1, (), 1), (None, (), 0), (1, 1, -1), (9, (), -1), (0.5, (), -1)],
)
def test_labels_that_read_as_a_class(fill: Any, ignored: Any, label: int) -> None:
    gaps = Gaps((Extent((4, 0), (6, 5)),), 3, label=fill)
    found = missing_of(gaps, CODES, BLOCK, parameters(ignore_index=ignored))
    assert found.label == label
    assert found.label_images.tolist() == ([4, 5] if label >= 0 else [])
    assert found.label_chunks == (1 if label >= 0 else 0)


def test_some_classes_are_remembered() -> None:
    gaps = Gaps(pred_probs=(gap(1, 3),), pred_prob=0.0)
    found = missing_of(gaps, CODES, BLOCK, parameters())
    assert (found.classes.tolist(), found.class_images.tolist()) == ([1, 2], [3, 4])


@pytest.mark.parametrize(
    ("gaps", "logits", "what"),
    [((gap(0, 2), gap(2, 4)), False, "all classes"), ((gap(1, 3),), True, "2 of the classes")],
)
def test_predictions_of_which_nothing_can_be_made(gaps: Any, logits: Any, what: str) -> None:
    message = (
        rf"pred_probs: the chunk 'c/3/0/1' is not in the store and {what} read as 0\.0 at image 3, "
        r"pixel \(1,\)"
    )
    with pytest.raises(InputError, match=message):
        missing_of(Gaps(pred_probs=gaps, pred_prob=0.0), CODES, BLOCK, parameters(logits))
    ignored = np.full(BLOCK.shape, -1, np.int32)
    found = missing_of(Gaps(pred_probs=gaps), ignored, BLOCK, parameters(logits))
    assert found.classes.size == 0


def test_what_is_missing_adds_up_in_any_order() -> None:
    parts = [
        Missing(1, 4, 0, np.arange(start, start + LISTED), np.array([k]), np.array([k]))
        for k, start in enumerate((0, 5, 2000))
    ]
    totals = {
        (total.label_chunks, *total.label_images.tolist(), *total.classes.tolist())
        for order in permutations(parts)
        for total in [order[0] + order[1] + order[2]]
    }
    assert totals == {(3, *range(LISTED), 0, 1, 2)}


def test_it_is_said_once_with_the_images() -> None:
    missing = Missing(2, 7, 0, np.array([4, 5, 6]), np.array([1]), np.array([0, 2]))
    with pytest.warns(LabelQCWarning) as said:
        warn_of_missing(missing)
    labels, predictions = (str(warning.message) for warning in said)
    assert "labels: 2 of 7 chunks are not in the store and read as class 0, in images 4 to 6" in (
        labels
    )
    assert "chunks of class 1 are not in the store" in predictions
    assert "in images 0, 2;" in predictions


def test_nothing_is_said_of_nothing(recwarn: Any) -> None:
    warn_of_missing(Missing())
    assert not recwarn.list
