from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.method.format import Format, check_dtypes, check_scale, stored_as, warn_of_fill


@pytest.mark.parametrize(
    ("dtype", "probability", "item_bytes"),
    [("f2", "f4", 600), ("f4", "f4", 1200), ("f8", "f8", 2400), ("u1", "f4", 300)],
)
def test_dtypes_follow_from_the_stored_one(dtype: Any, probability: Any, item_bytes: int) -> None:
    form = Format((5,), 300, np.dtype(dtype))
    assert form.probability_dtype == probability
    assert form.class_dtype == np.uint16
    assert form.item_bytes == item_bytes
    assert (form.table is None) == (dtype in ("f4", "f8"))


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [("f4", None, 0.01), ("u1", None, 0.01 + 4 / 255 / 2), ("u2", 0.001, 0.01 + 4 * 0.001 / 2)],
)
def test_integers_are_rounded_besides(dtype: Any, scale: Any, tolerance: float) -> None:
    assert Format((5,), 4, np.dtype(dtype), scale).sum_tolerance == pytest.approx(tolerance)


def test_names_are_no_part_of_a_format() -> None:
    named = Format((5,), 2, np.dtype("f4"), class_names={0: "sky"})
    assert named == Format((5,), 2, np.dtype("f4"))


def test_what_is_stored_in_another_byte_order() -> None:
    assert stored_as(np.dtype(">u2"), np.float32(0.5)) == {"dtype": np.dtype("u2"), "scale": 0.5}
    assert stored_as(np.dtype(">f4"), 0.5) == {"dtype": np.dtype("f4"), "scale": None}


@pytest.mark.parametrize(
    ("labels", "probs", "logits", "message"),
    [
        ("f4", "f4", False, "labels: got dtype float32, it must be an integer dtype"),
        ("i8", "i4", False, "pred_probs: got dtype int32, it must be float16"),
        ("i8", "f16", False, "pred_probs: got dtype float128, it must be float16"),
        ("i8", "u1", True, "from_logits: pred_probs are uint8; logits must be floating point"),
    ],
)
def test_dtypes_that_cannot_be_used(labels: Any, probs: Any, logits: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_dtypes(np.dtype(labels), np.dtype(probs), logits)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_cannot_be_used(scale: float) -> None:
    with pytest.raises(InputError, match=r"scale_factor is .*, it must be a number above 0"):
        check_scale(scale)
    check_scale(None)
    check_scale(0.004)


def test_a_class_that_stands_for_no_label_is_warned_of() -> None:
    with pytest.warns(LabelQCWarning, match=r"labels: 2 is their fill value .* classes 0\.\.2"):
        warn_of_fill([2, 255], 3)
    warn_of_fill([255, -1], 3)
