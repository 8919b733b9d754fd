"""Condensed predictions of any framework are scanned to the bits of the probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.devices.arrays import to_host
from dask_labelqc.devices.condense import condense, probabilities
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.condensed import scan_condensed
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.summary import ScanOptions, scan_block
from tests import reference
from tests.devices.frameworks import FRAMEWORKS, differentiable, interleaved, placed_on
from tests.devices.scans import assert_same
from tests.strategies import Case, cases, make_case

MAKERS = {**FRAMEWORKS, "interleaved": interleaved, "differentiable": differentiable}
IN_EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
IN_FRAMEWORKS = pytest.mark.parametrize("make", FRAMEWORKS.values(), ids=FRAMEWORKS)
OF_ANY_SHAPE = {name: make for name, make in MAKERS.items() if name != "jax"}
"""JAX compiles each step for each shape."""
EVERYTHING = ScanOptions(bound=0.5, scores=True, predicted=True)
BAD = [np.nan, np.inf, -np.inf, -0.25, 1.5]

floats = cases(downsampling=False).map(
    lambda case: replace(case, pred_probs=reference.decode(case.pred_probs))
)
options = st.builds(
    ScanOptions,
    bound=st.sampled_from([0.0, 0.25, 0.505]),
    temperature=st.sampled_from([0.01, 0.1, np.inf]),
    check=st.booleans(),
    scores=st.booleans(),
    predicted=st.booleans(),
    candidates=st.booleans(),
)


def codes_of(case: Case) -> np.ndarray:
    return encode_labels(case.labels, case.pred_probs.shape[1], case.ignore_index).codes


def check(make: Callable[[np.ndarray], Any], case: Case, options: ScanOptions) -> None:
    """Hold what is condensed against the scan of the probabilities on the device."""
    predictions, codes = make(case.pred_probs), codes_of(case)
    probs = to_host(probabilities(predictions, from_logits=options.from_logits))
    expected = scan_block(np.ascontiguousarray(probs), codes, replace(options, from_logits=False))
    logits, checked = options.from_logits, options.check
    condensed = condense(predictions, codes, from_logits=logits, check=checked)
    assert_same(scan_condensed(condensed, codes, options), expected)


@pytest.mark.parametrize("make", OF_ANY_SHAPE.values(), ids=OF_ANY_SHAPE)
@given(case=floats, options=options)
def test_probabilities(make: Any, case: Case, options: ScanOptions) -> None:
    check(make, case, options)


@pytest.mark.parametrize("make", OF_ANY_SHAPE.values(), ids=OF_ANY_SHAPE)
@given(case=floats, scale=st.sampled_from([0.0, 1.0, 30.0]))
def test_logits(make: Any, case: Case, scale: float) -> None:
    logits = (scale * case.pred_probs).astype(case.pred_probs.dtype)
    check(make, replace(case, pred_probs=logits), replace(EVERYTHING, from_logits=True))


@given(st.integers(0, 2**16), st.sampled_from([1, 8, 2**20]), options, st.booleans())
def test_jax(seed: int, resolution: int, options: ScanOptions, from_logits: bool) -> None:
    case = make_case(seed, (2, 5, 7), 5, resolution=resolution, ignored=(3,), void=0.3)
    check(FRAMEWORKS["jax"], case, replace(options, from_logits=from_logits))


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_half_precision_becomes_float32(name: str, dtype: str, from_logits: bool) -> None:
    case = make_case(dtype="f4", resolution=64, ignored=(3,), void=0.2)
    options = replace(EVERYTHING, from_logits=from_logits)

    half = partial(_halved, FRAMEWORKS[name], dtype)
    check(half, case, options)
    exact = scan_block(case.pred_probs, codes_of(case), EVERYTHING)
    if not from_logits:
        condensed = condense(half(case.pred_probs), codes_of(case))
        assert_same(scan_condensed(condensed, codes_of(case), EVERYTHING), exact)


def _halved(make: Callable[[np.ndarray], Any], dtype: str, array: np.ndarray) -> Any:
    made = make(array)
    return made.to(getattr(torch, dtype)) if isinstance(made, torch.Tensor) else made.astype(dtype)


@IN_EACH
@pytest.mark.parametrize("num_classes", [2, 256, 257])
def test_the_lowest_class_of_those_that_tie(make: Any, num_classes: int) -> None:
    case = make_case(shape=(2, 33, 5), num_classes=num_classes, dtype="f4", resolution=2)
    even = np.full_like(case.pred_probs, 1 / num_classes)
    last = np.where(np.arange(num_classes)[:, None, None] >= num_classes - 2, np.float32(0.5), 0)
    for probs in (case.pred_probs, even, np.broadcast_to(last, case.pred_probs.shape)):
        check(make, replace(case, pred_probs=probs.astype("f4")), EVERYTHING)


@IN_FRAMEWORKS
@pytest.mark.parametrize("value", [*BAD, 0.0])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 2, 3, 4)])
def test_the_first_unusable_pixel_and_why(make: Any, value: float, place: Any) -> None:
    case = make_case(dtype="f4")
    pixel = (place[0], slice(None), *place[2:])
    if value == 0:
        case.pred_probs[pixel] = 0
    else:
        case.pred_probs[place] = value
    case.pred_probs[2, :, 5, 7] = 2.0
    codes = codes_of(case)
    found = scan_condensed(condense(make(case.pred_probs), codes), codes, EVERYTHING)
    expected = scan_block(case.pred_probs, codes, EVERYTHING)
    assert found.unusable == expected.unusable
    assert found.unusable[0] == np.ravel_multi_index((place[0], *place[2:]), case.labels.shape)


@IN_FRAMEWORKS
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("k", [0, 2])
def test_numbers_that_nobody_looks_at_change_nothing_else(make: Any, value: float, k: int) -> None:
    """Void pixels hold anything, and so do all where no predictions are validated."""
    case = make_case(dtype="f4", ignored=(9,))
    case.labels[1, 2, 3] = 9
    case.pred_probs[1, k, 2, 3] = value
    check(make, case, EVERYTHING)
    case.labels[1, 2, 3] = 1
    check(make, case, replace(EVERYTHING, check=False))


def test_the_worst_sum_and_its_place() -> None:
    case = make_case(dtype="f4", ignored=(9,))
    case.pred_probs[0, :, 1, 1] *= 0.9
    case.pred_probs[2, :, 4, 6] *= 0.75
    case.pred_probs[2, :, 5, 6] *= 0.5
    case.labels[2, 5, 6] = 9
    codes = codes_of(case)
    found = scan_condensed(condense(torch.tensor(case.pred_probs), codes), codes, EVERYTHING)
    assert found.worst_sum_pixel == np.ravel_multi_index((2, 4, 6), case.labels.shape)
    assert found.worst_sum == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("axis", [-1, 2])
@IN_FRAMEWORKS
def test_the_classes_along_another_axis(make: Any, axis: int) -> None:
    case = make_case(dtype="f4", num_classes=5)
    moved = np.ascontiguousarray(np.moveaxis(case.pred_probs, 1, axis))
    codes = codes_of(case)
    found = scan_condensed(condense(make(moved), codes, class_axis=axis), codes, EVERYTHING)
    assert_same(found, scan_block(case.pred_probs, codes, EVERYTHING))


def test_logits_of_torch_are_put_through_its_own_softmax() -> None:
    logits = torch.randn(2, 21, 7, 5, generator=torch.Generator().manual_seed(0))
    found = probabilities(logits, from_logits=True)
    assert found.numpy().tobytes() == torch.softmax(logits, dim=1).numpy().tobytes()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_integers_are_refused(name: str) -> None:
    predictions = FRAMEWORKS[name](np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(
        InputError, match=r"pred_probs: got dtype .*int8 on .*; on a device it must"
    ):
        condense(predictions, np.zeros((1, 3), np.int32))


@pytest.mark.cuda
@pytest.mark.parametrize("from_logits", [False, True])
@given(case=floats)
def test_on_a_gpu(from_logits: bool, case: Case) -> None:
    check(placed_on("cuda"), case, replace(EVERYTHING, from_logits=from_logits))


@pytest.mark.cuda
@pytest.mark.parametrize("num_classes", [2, 21, 257])
def test_ties_on_a_gpu(num_classes: int) -> None:
    for resolution in (1, 2, 8):
        case = make_case(shape=(4, 129, 65), num_classes=num_classes, resolution=resolution)
        check(placed_on("cuda"), case, EVERYTHING)
    even = replace(case, pred_probs=np.full_like(case.pred_probs, 1 / num_classes))
    check(placed_on("cuda"), even, EVERYTHING)


@pytest.mark.cuda
def test_memory_of_a_gpu_is_that_of_a_softmax() -> None:
    predictions = torch.rand(8, 21, 512, 512, device="cuda")
    codes = np.zeros((8, 512, 512), np.int32)
    for from_logits, most in ((False, 1), (True, 2)):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        condense(predictions, codes, from_logits=from_logits)
        taken = torch.cuda.max_memory_allocated() - before
        assert taken < most * predictions.nbytes
