"""What lies in memory is scanned as NumPy arrays are, what lies on a device is condensed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.devices import scan
from dask_labelqc.devices.scan import scan_images, scan_predictions
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.predictions import as_indices, decoding_table
from dask_labelqc.kernels.summary import BlockScan, ScanOptions, scan_block
from tests.devices.frameworks import FRAMEWORKS, interleaved
from tests.devices.scans import assert_same
from tests.strategies import Case, cases, make_case

EVERYTHING = ScanOptions(bound=0.5, scores=True, predicted=True)
CASE = make_case(5, ignored=(3,), void=0.2)
CODES = encode_labels(CASE.labels, 4, CASE.ignore_index).codes


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every array for one on a device."""
    monkeypatch.setattr(scan, "in_memory", lambda array: None)


def identical(found: BlockScan, expected: BlockScan) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())


@given(cases(downsampling=False), st.booleans())
def test_numpy_arrays_of_every_dtype(case: Case, from_logits: bool) -> None:
    stored = np.ascontiguousarray(case.pred_probs, case.pred_probs.dtype.newbyteorder("="))
    options = ScanOptions(0.5, from_logits=from_logits)
    codes = encode_labels(case.labels, stored.shape[1], case.ignore_index).codes
    table = decoding_table(stored.dtype, None)
    expected = scan_block(as_indices(stored), codes, options, table)
    identical(scan_predictions(case.pred_probs, codes, options), expected)
    identical(scan_predictions(case.pred_probs, codes, options, table), expected)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("make", [*FRAMEWORKS.values(), interleaved], ids=[*FRAMEWORKS, "inter"])
def test_what_lies_in_memory_is_scanned_there(make: Any, from_logits: bool) -> None:
    options = ScanOptions(0.5, from_logits=from_logits)
    expected = scan_block(CASE.pred_probs, CODES, options)
    identical(scan_predictions(make(CASE.pred_probs), CODES, options), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_memory(dtype: torch.dtype) -> None:
    case = make_case(6, resolution=64)
    codes = encode_labels(case.labels, 4).codes
    found = scan_predictions(torch.tensor(case.pred_probs).to(dtype), codes, EVERYTHING)
    identical(found, scan_block(case.pred_probs, codes, EVERYTHING))


@pytest.mark.usefixtures("device")
def test_what_lies_on_a_device_is_condensed() -> None:
    expected = scan_block(CASE.pred_probs, CODES, EVERYTHING)
    for make in FRAMEWORKS.values():
        assert_same(scan_predictions(make(CASE.pred_probs), CODES, EVERYTHING), expected)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_the_classes_along_another_axis(axis: int, request: pytest.FixtureRequest) -> None:
    moved = torch.tensor(np.moveaxis(CASE.pred_probs, 1, axis).copy())
    expected = scan_block(CASE.pred_probs, CODES, EVERYTHING)
    identical(scan_predictions(moved, CODES, EVERYTHING, class_axis=axis), expected)
    request.getfixturevalue("device")
    assert_same(scan_predictions(moved, CODES, EVERYTHING, class_axis=axis), expected)


def test_image_by_image(request: pytest.FixtureRequest) -> None:
    def each() -> list[BlockScan]:
        return list(scan_images(torch.tensor(CASE.pred_probs), CODES, EVERYTHING))

    expected = [
        scan_block(CASE.pred_probs[i : i + 1], CODES[i : i + 1], EVERYTHING) for i in range(3)
    ]
    for found, alone in zip(each(), expected, strict=True):
        identical(found, alone)
    request.getfixturevalue("device")
    for found, alone in zip(each(), expected, strict=True):
        assert_same(found, alone)


@pytest.mark.usefixtures("device")
def test_unusable_pixels_of_images_on_a_device() -> None:
    probs = CASE.pred_probs.copy()
    probs[1, 2, 3, 4] = np.nan
    found = [s.unusable for s in scan_images(torch.tensor(probs), np.maximum(CODES, 0), EVERYTHING)]
    assert [position for position, _ in found] == [-1, 3 * 8 + 4, -1]


@pytest.mark.usefixtures("device")
def test_no_downsampling_on_a_device() -> None:
    options = ScanOptions(0.5, factors=(2, 2))
    with pytest.raises(InputError, match="downsample: got 2, it must be 1 where predictions are"):
        scan_predictions(torch.tensor(CASE.pred_probs), CODES, options)


@pytest.mark.cuda
def test_tensors_on_a_gpu() -> None:
    predictions = torch.tensor(CASE.pred_probs, device="cuda")
    expected = scan_block(CASE.pred_probs, CODES, EVERYTHING)
    assert_same(scan_predictions(predictions, CODES, EVERYTHING), expected)
