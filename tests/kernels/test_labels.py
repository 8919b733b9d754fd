from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.labels import INVALID, VOID, encode_labels, smallest_unsigned
from tests import reference
from tests.strategies import Case, cases, label_dtypes


@given(cases(downsampling=False))
def test_equals_reference(case: Case) -> None:
    num_classes = case.pred_probs.shape[1]
    encoded = encode_labels(case.labels, num_classes, case.ignore_index)
    expected = reference.encode(case.labels, num_classes, case.ignore_index)
    assert encoded.codes.dtype == np.int32
    np.testing.assert_array_equal(encoded.codes, expected)
    assert (encoded.invalid_count, encoded.first_invalid) == (0, -1)


@given(label_dtypes, st.data())
def test_invalid_labels_are_counted_and_the_first_is_found(
    dtype: np.dtype, data: st.DataObject
) -> None:
    native = dtype.newbyteorder("=")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(native).min, np.iinfo(native).max)
    values = st.one_of(st.integers(max(low, -3), min(high, 6)), st.sampled_from([low, high]))
    numbers = data.draw(st.lists(values, min_size=1, max_size=30))
    encoded = encode_labels(np.array(numbers, dtype), 4, (2,))
    expected = [VOID if n == 2 else n if 0 <= n < 4 else INVALID for n in numbers]
    assert encoded.codes.tolist() == expected
    assert encoded.invalid_count == expected.count(INVALID)
    assert encoded.first_invalid == (expected.index(INVALID) if INVALID in expected else -1)


@pytest.mark.parametrize(
    ("label", "dtype", "ignored"),
    [
        (255, "u1", 255),
        (-1, "i1", -1),
        (-128, "i1", -128),
        (2**64 - 1, "u8", 2**64 - 1),
        (-(2**63), "i8", -(2**63)),
    ],
)
def test_extreme_ignored_labels(label: int, dtype: str, ignored: int) -> None:
    encoded = encode_labels(np.array([label, 0], dtype), 2, (ignored,))
    assert encoded.codes.tolist() == [VOID, 0]


@pytest.mark.parametrize(
    ("label", "dtype", "ignored"), [(2**64 - 1, "u8", -1), (-1, "i8", 2**64 - 1)]
)
def test_an_ignored_label_is_not_another_number_with_its_bits(
    label: int, dtype: str, ignored: int
) -> None:
    encoded = encode_labels(np.array([label, 0], dtype), 2, (ignored,))
    assert encoded.codes.tolist() == [INVALID, 0]


def test_read_only_strided_labels() -> None:
    labels = np.arange(12, dtype=">u2").reshape(3, 4)[:, ::2]
    labels.flags.writeable = False
    np.testing.assert_array_equal(encode_labels(labels, 12).codes, labels)


@given(st.integers(2, 70000))
def test_smallest_unsigned_holds_every_class(num_classes: int) -> None:
    dtype = smallest_unsigned(num_classes)
    narrower = {1: 0, 2: 2**8, 4: 2**16}[dtype.itemsize]
    assert narrower < num_classes <= np.iinfo(dtype).max + 1


FLOATS = st.sampled_from([np.dtype(d) for d in ("f2", "f4", "f8", ">f2", ">f4", ">f8")])


@given(cases(downsampling=False), FLOATS, st.data())
def test_floats_and_masks_are_the_ignored_labels(
    case: Case, dtype: np.dtype, data: st.DataObject
) -> None:
    """NaN of labels that were decoded to float, and what a mask masks, take part in nothing."""
    num_classes = case.pred_probs.shape[1]
    lost = np.isin(case.labels, case.ignore_index)
    expected = reference.encode(case.labels, num_classes, case.ignore_index)
    floats = np.where(lost, np.nan, case.labels.astype("f8")).astype(dtype)
    masked = np.ma.MaskedArray(np.where(lost, num_classes + 7, case.labels.astype("i8")), lost)
    half = np.where(lost & data.draw(st.booleans()), np.nan, 0).astype(dtype)
    for labels in (floats, masked, np.ma.MaskedArray(half + floats, lost)):
        encoded = encode_labels(labels, num_classes)
        assert encoded.codes.dtype == np.int32
        np.testing.assert_array_equal(encoded.codes, expected)
        assert type(encoded.codes) is np.ndarray
        assert (encoded.invalid_count, encoded.first_invalid) == (0, -1)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8"])
def test_floats_that_are_no_labels(dtype: str) -> None:
    labels = np.array([0, np.nan, 3, 7, 1.5, -1, np.inf, -0.0, 2.5], dtype)
    encoded = encode_labels(labels, 4, (7,))
    assert encoded.codes.tolist() == [0, VOID, 3, VOID, INVALID, INVALID, INVALID, 0, INVALID]
    assert (encoded.invalid_count, encoded.first_invalid, encoded.first_fraction) == (4, 4, 4)
    assert encode_labels(labels[5:], 4).first_fraction == 1
    assert encode_labels(np.array([9.0, 1e300]), 4, (9,)).first_fraction == -1


def test_ignored_floats_may_be_classes_or_none() -> None:
    labels = np.array([0.0, 1.0, -9999.0, 255.0, 2.0**64])
    encoded = encode_labels(labels, 2, (1, -9999, 255, 2**64, -1))
    assert encoded.codes.tolist() == [0, VOID, VOID, VOID, VOID]


def test_a_masked_label_may_be_anything() -> None:
    labels = np.ma.MaskedArray([7, -3, 1], [True, False, False], np.int8)
    encoded = encode_labels(labels, 2)
    assert encoded.codes.tolist() == [VOID, INVALID, 1]
    assert (encoded.invalid_count, encoded.first_invalid) == (1, 1)
    assert labels.data.tolist() == [7, -3, 1]
