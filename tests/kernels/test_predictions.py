from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.predictions import (
    RUN,
    as_indices,
    decoded_runs,
    decoding_table,
    largest,
    probability_dtype,
)
from tests import reference


def collected(stored: np.ndarray, unit: int, from_logits: bool, scale: float | None = None) -> Any:
    """All runs put together, (n, K, S)."""
    table = decoding_table(stored.dtype, scale)
    whole = np.full(stored.shape, np.nan, probability_dtype(stored.dtype))
    for image, start, planes in decoded_runs(as_indices(stored), unit, from_logits, table):
        whole[image, :, start : start + planes.shape[2]] = planes[0]
    return whole


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("u1", "f4"), ("u2", "f4"), (">f4", "f4")],
)
def test_probability_dtype(dtype: str, wanted: str) -> None:
    assert probability_dtype(np.dtype(dtype)) == np.dtype(wanted)


def test_largest() -> None:
    assert [largest(np.dtype(d)) for d in ("u1", "u2", ">u2")] == [255, 65535, 65535]


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("scale", [None, 1 / 200, 2.0**-16])
def test_every_integer_decodes_as_the_reference(dtype: str, scale: float | None) -> None:
    codes = np.arange(2 ** (8 * np.dtype(dtype).itemsize)).astype(dtype)
    table = decoding_table(codes.dtype, scale)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, reference.decode(codes, scale))


def test_every_half_precision_number_decodes_to_itself() -> None:
    halves = np.arange(2**16).astype(np.uint16).view(np.float16)
    table = decoding_table(halves.dtype, None)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(table[as_indices(halves)], halves.astype(np.float32))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_plain_floats_need_no_table(dtype: str) -> None:
    assert decoding_table(np.dtype(dtype), None) is None


@given(
    st.sampled_from(["f2", "u1", "u2"]), st.integers(2, 5), st.integers(1, 40), st.integers(1, 9)
)
def test_runs_cover_every_pixel(dtype: str, num_classes: int, size: int, unit: int) -> None:
    rng = np.random.default_rng(size)
    stored = rng.integers(0, 200, (2, num_classes, size)).astype(dtype)
    np.testing.assert_array_equal(collected(stored, unit, False), reference.decode(stored))


def test_runs_are_whole_units_and_short() -> None:
    stored = np.zeros((1, 2, 3 * RUN + 5), np.uint8)
    runs = [
        (start, planes.shape[2])
        for _, start, planes in decoded_runs(stored, 1000, False, decoding_table(stored.dtype, 1.0))
    ]
    assert all(start % 1000 == 0 and length <= RUN for start, length in runs)
    assert sum(length for _, length in runs) == stored.shape[2]


@given(
    st.sampled_from(["f2", "f4", "f8"]),
    st.sampled_from([2, 3, 21, 300]),
    st.sampled_from([0.0, 1.0, 30.0, 1000.0]),
    st.integers(0, 99),
)
def test_softmax(dtype: str, num_classes: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((2, num_classes, 7)) * spread).astype(dtype)
    probs = collected(logits, 1, True)
    expected = reference.softmax(reference.decode(logits))
    tolerance = 1e-14 if dtype == "f8" else 1.2e-7
    np.testing.assert_allclose(probs, expected, rtol=tolerance, atol=1e-40)


def test_softmax_of_minus_infinity_is_zero_and_of_nan_is_nan() -> None:
    logits = np.array([[[0.0, np.nan, -np.inf], [-np.inf, 0.0, -np.inf]]])
    probs = collected(logits, 1, True)
    assert probs[0, :, 0] == pytest.approx([1, 0])
    assert np.isnan(probs[0, :, 1:]).all()


def test_logits_are_left_as_they_are() -> None:
    logits = np.random.default_rng(0).standard_normal((1, 3, 5))
    logits.flags.writeable = False
    collected(logits, 1, True)
    assert logits[0, 0, 0] == np.random.default_rng(0).standard_normal()
