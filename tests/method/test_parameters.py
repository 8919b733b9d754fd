from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.method.parameters import Options, Parameters


def parameters(
    shape: Any = (2, 4, 6),
    num_classes: int = 3,
    dtype: str = "f4",
    scale: Any = None,
    **keywords: Any,
) -> Parameters:
    facts = shape, np.dtype("u1"), (shape[0], num_classes, *shape[1:]), np.dtype(dtype)
    return Parameters.of_images(Options.of(**keywords), *facts, scale=scale)


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [
        ("f2", None, 0.01),
        ("f8", None, 0.01),
        ("u1", None, 0.01 + 3 / 255 / 2),
        ("u2", None, 0.01 + 3 / 65535 / 2),
        (">u2", None, 0.01 + 3 / 65535 / 2),
        ("u1", 1 / 100, 0.01 + 3 / 100 / 2),
    ],
)
def test_the_bound_follows_from_what_the_sums_may_be(
    dtype: Any, scale: Any, tolerance: float
) -> None:
    params = parameters(dtype=dtype, scale=scale)
    assert params.sum_tolerance == pytest.approx(tolerance)
    assert params.bound == pytest.approx((1 + tolerance) / 2)


@pytest.mark.parametrize(
    ("shape", "dtype", "downsample", "bits"),
    [
        ((1, 1), "f4", 1, (32, 1)),
        ((2, 4, 6), "f8", 1, (64, 6)),
        ((2, 4, 6), "u1", 2, (32, 4)),
        ((2**20, 2**12, 2**12), "f2", 1, (32, 44)),
    ],
)
def test_keys_hold_every_cell(shape: Any, dtype: str, downsample: int, bits: Any) -> None:
    space = parameters(shape, dtype=dtype, downsample=downsample).key_space
    assert (space.score_bits, space.index_bits) == bits


def test_downsampled_shapes() -> None:
    params = parameters(downsample=2)
    assert params.factors == (2, 2)
    assert params.cells_shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("ignore_index", "expected"),
    [
        (None, ()),
        (255, (255,)),
        (np.int16(-1), (-1,)),
        ([3, -1, 3], (-1, 3)),
        ({0}, (0,)),
        (np.array([7, 2]), (2, 7)),
        ([], ()),
    ],
)
def test_ignored_labels(ignore_index: Any, expected: Any) -> None:
    assert parameters(ignore_index=ignore_index).ignore_index == expected


def test_a_scale_means_nothing_for_floats() -> None:
    assert parameters(dtype="f4", scale=0.5).scale is None


def test_predictions_keep_their_native_dtype() -> None:
    assert parameters(dtype=">f4").dtype == np.dtype("f4")


def test_attributes_are_plain_values() -> None:
    values = parameters(ignore_index=np.array([1]), downsample=np.int64(2)).attributes()
    assert {type(v) for v in values.values()} <= {list, float, int, bool, str, type(None)}
    assert all(type(v) is int for v in values["ignore_index"])


def test_message_of_a_shape() -> None:
    with pytest.raises(InputError, match=r"pred_probs: got shape \(2, 1, 4, 6\), K = 1 classes"):
        parameters(num_classes=1)
