"""The compiled scan of examples against the same rules in slow, obvious NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.examples import (
    CONFIDENCE_WEIGHTED_ENTROPY,
    NORMALIZED_MARGIN,
    SELF_CONFIDENCE,
    ExampleScanOptions,
    adjusted_self_confidence,
    scan_examples,
)
from dask_labelqc.kernels.predictions import decoding_table
from tests.strategies import examples

# The first call loads compiled code from disk.
unhurried = examples(30)

METHODS = (SELF_CONFIDENCE, NORMALIZED_MARGIN, CONFIDENCE_WEIGHTED_ENTROPY)


def draw_rows(seed: int, num_rows: Any, num_classes: int, dtype: Any, steps: Any = None) -> Any:
    """Rows that sum to one; with `steps`, of few different values, so that there are ties."""
    rng = np.random.default_rng(seed)
    if steps is None:
        rows = rng.dirichlet(np.full(num_classes, 0.5), num_rows)
    else:
        rows = rng.multinomial(steps, np.full(num_classes, 1 / num_classes), num_rows) / steps
    return rows.astype(dtype), rng.integers(0, num_classes, num_rows).astype(np.int32)


def reference_score(row: Any, code: Any, method: Any) -> Any:
    own, others = row[code], np.delete(row, code)
    if method == SELF_CONFIDENCE:
        return own
    if method == NORMALIZED_MARGIN:
        return (own - others.max() + row.dtype.type(1)) / row.dtype.type(2)
    entropy = -sum(float(p) * math.log(p) for p in row if p > 0) / math.log(len(row))
    ratio = entropy / max(float(own), 1e-6)
    return math.log(1 + ratio) / max(ratio, 1e-6)


@unhurried
@given(
    seed=st.integers(0, 2**32 - 1),
    num_rows=st.integers(1, 40),
    num_classes=st.integers(2, 70),
    dtype=st.sampled_from([np.float32, np.float64]),
    steps=st.sampled_from([None, 4, 16]),
    order=st.sampled_from("CF"),
    method=st.sampled_from(METHODS),
    bound=st.sampled_from([0.0, 0.3, math.inf]),
)
def test_scan_equals_reference(
    seed: int,
    num_rows: Any,
    num_classes: int,
    dtype: Any,
    steps: Any,
    order: Any,
    method: Any,
    bound: Any,
) -> None:
    rows, codes = draw_rows(seed, num_rows, num_classes, dtype, steps)
    options = ExampleScanOptions(method, bound, totals=True)
    scan = scan_examples(np.asarray(rows, order=order), codes, options)
    predicted = rows.argmax(axis=1)
    scores = np.array([reference_score(r, c, method) for r, c in zip(rows, codes, strict=True)])
    (candidates,) = np.nonzero((predicted != codes) | (scores.astype(float) <= bound))
    own = rows[np.arange(num_rows), codes]

    assert scan.position.tolist() == candidates.tolist()
    assert scan.predicted.tolist() == predicted[candidates].tolist()
    assert scan.given.tolist() == codes[candidates].tolist()
    np.testing.assert_array_equal(scan.confidence, rows.max(axis=1)[candidates])
    np.testing.assert_array_equal(scan.self_confidence, own[candidates])
    np.testing.assert_allclose(scan.total, rows[candidates].astype(float).sum(axis=1), rtol=1e-13)
    if method == CONFIDENCE_WEIGHTED_ENTROPY:
        np.testing.assert_allclose(scan.score, scores[candidates], rtol=1e-12, atol=1e-15)
    else:
        np.testing.assert_array_equal(scan.score, scores[candidates])
    assert scan.class_count.tolist() == np.bincount(codes, minlength=num_classes).tolist()
    sums = [sum(round(float(p) * 2**32) for p in own[codes == k]) for k in range(num_classes)]
    assert scan.class_sum.tolist() == sums


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.uint16])
def test_narrow_dtypes_are_read_as_float32(dtype: Any) -> None:
    rows, codes = draw_rows(0, 500, 9, np.float32)
    scale = 1 if dtype == np.float16 else np.iinfo(dtype).max
    stored = (rows * scale).round(4 if scale == 1 else 0).astype(dtype)
    table = decoding_table(np.dtype(dtype), None)
    options = ExampleScanOptions(SELF_CONFIDENCE, math.inf)
    scan = scan_examples(stored, codes, options, table)
    plain = scan_examples((stored / np.float64(scale)).astype(np.float32), codes, options)
    assert scan.score.dtype == np.float32
    for a, b in zip(scan, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_adjusted_scores_equal_the_definition() -> None:
    rows, codes = draw_rows(3, 400, 7, np.float32)
    thresholds = np.random.default_rng(3).uniform(0.05, 0.9, 7)
    shifted = rows - thresholds + thresholds.max()
    shifted /= shifted.sum(axis=1, keepdims=True)
    margin = [reference_score(r, c, NORMALIZED_MARGIN) for r, c in zip(shifted, codes, strict=True)]

    options = ExampleScanOptions(NORMALIZED_MARGIN, math.inf, thresholds, totals=True)
    scan = scan_examples(rows, codes, options)
    np.testing.assert_allclose(scan.score, margin, rtol=0, atol=1e-14)
    own = adjusted_self_confidence(rows[np.arange(400), codes], codes, scan.total, thresholds)
    np.testing.assert_allclose(own, shifted[np.arange(400), codes], rtol=0, atol=1e-14)
    assert scan.score.min() >= 0
    assert own.min() >= 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.5, np.nan, 0.5], 1),
        ([0.5, -np.nan, 0.5], 1),
        ([np.inf, 0, 0], 1),
        ([0.5, -0.1, 0.6], 2),
        ([0.5, 1.1, 0], 3),
        ([0, 0, 0], 4),
        ([-0.0, 0.0, 1.0], 0),
        ([1 + 5e-7, 0, 0], 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unusable_rows_are_found(values: Any, reason: Any, dtype: Any) -> None:
    rows, codes = draw_rows(1, 20, 3, dtype)
    rows[13] = values
    scan = scan_examples(rows, codes, ExampleScanOptions(SELF_CONFIDENCE, 0.5))
    assert scan.facts[:2].tolist() == ([13, reason] if reason else [-1, 0])


def test_the_worst_sum_is_noted() -> None:
    rows, codes = draw_rows(2, 30, 4, np.float64)
    rows[5] *= 0.9
    rows[9] *= 0.7
    scan = scan_examples(rows, codes, ExampleScanOptions(SELF_CONFIDENCE, 0.5))
    assert scan.facts[2] == 9
    np.testing.assert_allclose(scan.worst_sum, [0.3, 0.7])
