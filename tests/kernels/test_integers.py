from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.integers import integers_for
from dask_labelqc.kernels.predictions import as_indices, decoding_table
from dask_labelqc.kernels.summary import BlockScan, ScanOptions, scan_block
from dask_labelqc.kernels.tiles import ABOVE_ONE, TILE, ZERO_SUM


def draw(dtype: str, num_classes: int, size: int, seed: int, levels: int) -> tuple[Any, Any]:
    """Return integers (2, K, S) of few levels, and class codes, some of them void."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    steps = np.linspace(1, top, levels).astype(dtype)
    codes = rng.integers(-1, num_classes, (2, size)).astype(np.int32)
    return steps[rng.integers(0, levels, (2, num_classes, size))], codes


def scanned(stored: Any, codes: Any, table: Any, **more: Any) -> BlockScan:
    options = ScanOptions(bound=0.5, scores=True, predicted=True, **more)
    return scan_block(np.ascontiguousarray(stored), codes, options, table)


@given(
    st.sampled_from(["u1", "u2"]),
    st.sampled_from([2, 3, 21, 255, 300]),
    st.integers(1, 40),
    st.sampled_from([2, 5, 200]),
    st.sampled_from([None, 1 / 200, 2.0**-16, 1e-48]),
    st.integers(0, 99),
)
def test_integers_are_scanned_as_what_they_mean(
    dtype: str, num_classes: int, size: int, levels: int, scale: float | None, seed: int
) -> None:
    stored, codes = draw(dtype, num_classes, size, seed, levels)
    table = decoding_table(stored.dtype, scale)
    assert table is not None
    found, expected = scanned(stored, codes, table), scanned(table[stored], codes, None)
    for name, values in expected._asdict().items():
        if name == "facts":
            assert found.facts[[0, 1, 3, 4, 5]].tolist() == values[[0, 1, 3, 4, 5]].tolist()
        elif name == "worst_sum":  # rounded once instead of at each class
            np.testing.assert_allclose(found.worst_sum, values, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


def test_images_of_several_tiles() -> None:
    stored, codes = draw("u1", 3, 2 * TILE + 5, 0, 100)
    table = decoding_table(stored.dtype, None)
    assert table is not None
    found, expected = scanned(stored, codes, table), scanned(table[stored], codes, None)
    for name in ("position", "dense_score", "dense_predicted", "class_sum", "softmin"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize(("value", "reason"), [(0, ZERO_SUM), (201, ABOVE_ONE)])
@pytest.mark.parametrize("place", [(0, 3), (1, TILE + 7)])
def test_the_first_unusable_pixel_is_found(value: int, reason: int, place: tuple[int, int]) -> None:
    stored = np.full((2, 4, TILE + 9), 50, np.uint8)
    codes = np.zeros((2, TILE + 9), np.int32)
    image, pixel = place
    stored[image, :, pixel] = stored[1, :, -1] = value
    table = decoding_table(stored.dtype, 1 / 200)
    scan = scanned(stored, codes, table)
    assert scan.unusable == (image * (TILE + 9) + pixel, reason)
    codes[image, pixel] = codes[1, -1] = -1
    assert scanned(stored, codes, table).unusable == (-1, 0)


def test_the_worst_sum_is_exact() -> None:
    stored = np.full((1, 3, 9), 85, np.uint8)
    stored[0, 1, 6] = 80
    scan = scanned(stored, np.zeros((1, 9), np.int32), decoding_table(stored.dtype, None))
    assert scan.worst_sum_pixel == 6
    assert scan.worst_sum[1] == np.float32(250 / 255)


@pytest.mark.parametrize(
    ("dtype", "num_classes", "scale"), [("f2", 3, None), ("u1", 256, None), ("u2", 3, 1e-48)]
)
def test_what_does_not_ascend_or_fit_is_decoded(
    dtype: str, num_classes: int, scale: float | None
) -> None:
    stored = as_indices(np.zeros((1, num_classes, 4), dtype))
    assert integers_for(stored, decoding_table(np.dtype(dtype), scale), TILE) is None
