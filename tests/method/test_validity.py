from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import InputError, advise
from dask_labelqc.extent import Extent
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.tiles import ABOVE_ONE, NEGATIVE, NOT_FINITE
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.validity import (
    check_labels,
    check_predictions,
    check_whole,
    named,
    prediction_error,
)
from tests.devices.frameworks import FRAMEWORKS

BOX = Extent((4, 2, 0), (5, 4, 3))
NAMES = {1: "road", 7: "car"}


def parameters(validate: str = "full", ignore_index: Any = ()) -> Parameters:
    options = Options.of(validate=validate, ignore_index=ignore_index)
    facts = (9, 8, 3), np.dtype("i8"), (9, 3, 8, 3), np.dtype("f4")
    return Parameters.of_images(options, *facts, class_names=NAMES)


def checked(labels: np.ndarray, params: Parameters) -> None:
    encoded = encode_labels(labels, params.num_classes, params.ignore_index)
    check_labels(encoded, labels, BOX, params)


def test_a_label_that_is_no_class_is_named_with_its_place() -> None:
    labels = np.zeros(BOX.shape, int)
    labels[0, 1, 2] = 7
    message = (
        r"labels: 1 of 6 pixels in image 4 are outside 0\.\.2 and not ignored, the first is "
        r"7 \('car'\) at image 4, pixel \(3, 2\)"
    )
    with pytest.raises(InputError, match=message) as raised:
        checked(labels, parameters(ignore_index=255))
    assert str(raised.value.advice) == "ignore_index=(7, 255) leaves such pixels out"
    checked(labels, parameters(ignore_index=7))
    checked(labels, parameters(validate="none"))


def test_a_label_that_is_no_whole_number() -> None:
    labels = np.zeros(BOX.shape)
    labels[0, 0, 1] = 0.5
    with pytest.raises(InputError, match=r"labels: got 0\.5 at image 4, pixel \(2, 1\)"):
        check_whole(encode_labels(labels, 3, ()), labels, BOX)


def test_predictions_that_can_be_used_pass() -> None:
    check_predictions(-1, 0, np.zeros((1, 3, 2, 3)), BOX, parameters())


@pytest.mark.parametrize("make", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_the_place_of_a_prediction_that_cannot_be_used(make: Any) -> None:
    stored = np.full((1, 3, 2, 3), 0.25, "f4")
    stored[0, 1, 1, 0] = np.nan
    message = r"class 1 \('road'\) is nan at image 4, pixel \(3, 0\); it must be finite"
    with pytest.raises(InputError, match=message):
        check_predictions(3, NOT_FINITE, make(stored), BOX, parameters())


@pytest.mark.parametrize(
    ("values", "reason", "scale", "message"),
    [
        ([0.5, -0.25], NEGATIVE, None, "class 1 ('road') is -0.25 at here"),
        ([2.0, 0.5], ABOVE_ONE, None, "class 0 is 2 at here"),
        ([0.0, 0.0], 99, None, "all 2 probabilities are 0 at here"),
    ],
)
def test_reasons(values: Any, reason: Any, scale: Any, message: str) -> None:
    advice = advise("put them through a softmax")
    error = prediction_error(np.array(values), reason, scale, "here", advice, NAMES)
    assert str(error).startswith(f"pred_probs: {message}")
    assert (error.advice is advice) == (reason in (NEGATIVE, ABOVE_ONE))


def test_integers_say_what_one_of_them_means() -> None:
    values = np.array([200, 10], np.uint8)
    error = prediction_error(values, ABOVE_ONE, 0.01, "here", advise("none"), {})
    assert "class 0 is 2 at here" in str(error)
    assert "scale_factor" in str(error)
    assert error.advice is None


def test_names() -> None:
    assert (named(7, NAMES), named(0, NAMES)) == ("7 ('car')", "0")
