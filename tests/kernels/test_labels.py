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
def test_invalid_labels_are_counted_and_the_first_is_found(dtype: np.dtype, data) -> None:
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
