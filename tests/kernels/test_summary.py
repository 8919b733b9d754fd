from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.predictions import RUN, as_indices, decoding_table
from dask_labelqc.kernels.softmin import finalize_softmin
from dask_labelqc.kernels.summary import BlockScan, ScanOptions, scan_block
from dask_labelqc.kernels.tiles import TILE
from tests import reference
from tests.strategies import Case, cases, make_case

BOUNDS = st.sampled_from([0.0, 0.25, 0.5, 0.505, 1.0])


def scanned(case: Case, options: ScanOptions) -> BlockScan:
    stored = np.ascontiguousarray(case.pred_probs, case.pred_probs.dtype.newbyteorder("="))
    factors = (case.downsample,) * (case.labels.ndim - 1)
    options = replace(options, factors=factors, majority=case.label_downsample == "majority")
    encoded = encode_labels(case.labels, stored.shape[1], case.ignore_index)
    return scan_block(
        as_indices(stored), encoded.codes, options, decoding_table(stored.dtype, None)
    )


def check(case: Case, scan: BlockScan, options: ScanOptions) -> None:
    """Compare every field with the reference."""
    num_classes = case.pred_probs.shape[1]
    probs = reference.decode(case.pred_probs)
    codes = reference.encode(case.labels, num_classes, case.ignore_index)
    classes, scores = reference.predicted(probs), reference.at_class(probs, codes)
    flat = (codes.shape[0], -1)
    np.testing.assert_array_equal(scan.dense_score, scores.reshape(flat))
    np.testing.assert_array_equal(scan.dense_predicted, classes.reshape(flat))
    expected = [reference.softmin(image, options.temperature) for image in scores]
    np.testing.assert_allclose(finalize_softmin(scan.softmin), expected, rtol=1e-12)
    assert scan.image_count.tolist() == [(image >= 0).sum() for image in codes]
    assert scan.pixel_count.tolist() == [(codes == k).sum() for k in range(num_classes)]
    check_cells(case, scan, options.bound, codes, probs)


def check_cells(
    case: Case, scan: BlockScan, bound: float, pixel_codes: np.ndarray, pixel_probs: np.ndarray
) -> None:
    """Compare the sums and the candidates, and the pixels of the candidates when downsampling."""
    codes, probs, pixel_classes = pixel_codes, pixel_probs, reference.predicted(pixel_probs)
    if case.downsample > 1:
        codes, probs = reference.downsample(codes, probs, case.downsample, case.label_downsample)
    classes, scores = reference.predicted(probs), reference.at_class(probs, codes)
    sums, counts = reference.class_sums(scores, codes, probs.shape[1])
    assert scan.class_sum.tolist() == sums
    assert scan.class_count.tolist() == counts
    low = (codes >= 0) & (scores.astype(np.float64) <= bound)
    candidate = (codes >= 0) & (classes != codes)
    if case.downsample > 1:
        candidate |= low
        assert scan.agreeing.size == 0
    else:
        np.testing.assert_array_equal(scan.agreeing, scores[low & (classes == codes)])
    assert scan.agreeing.dtype == probs.dtype
    (position,) = np.nonzero(candidate.ravel())
    assert scan.position.tolist() == position.tolist()
    for name, values in (
        ("score", scores),
        ("confidence", reference.at_class(probs, classes)),
        ("given", codes),
        ("predicted", classes),
    ):
        np.testing.assert_array_equal(getattr(scan, name), values[candidate], err_msg=name)
    assert scan.score.dtype == probs.dtype
    if case.downsample > 1:
        ordinal = {cell: i for i, cell in enumerate(zip(*np.nonzero(candidate), strict=True))}
        expected = []
        for cell, pixels in reference.cells(pixel_codes.shape, case.downsample):
            for place in pixels if cell in ordinal else ():
                given, predicted = int(pixel_codes[place]), int(pixel_classes[place])
                if given not in (-1, predicted):
                    at = int(np.ravel_multi_index(place, pixel_codes.shape))
                    expected.append((at, ordinal[cell], given, predicted))
        found = (scan.pixel_position, scan.pixel_cell, scan.pixel_given, scan.pixel_predicted)
        assert sorted(zip(*(f.tolist() for f in found), strict=True)) == sorted(expected)


@given(cases(), BOUNDS, st.sampled_from([0.1, 1.0]))
def test_every_field_equals_reference(case: Case, bound: float, temperature: float) -> None:
    options = ScanOptions(bound=bound, temperature=temperature, scores=True, predicted=True)
    scan = scanned(case, options)
    check(case, scan, options)
    assert scan.facts[:2].tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("shape", "downsample", "dtype"),
    [
        ((2, TILE + 1), 1, "f4"),
        ((1, 3, TILE), 1, "f8"),
        ((1, 2, 2 * TILE), 2, "f4"),
        ((1, 2, TILE), 2, "u1"),
        ((1, RUN + TILE + 3), 1, "u1"),
    ],
)
def test_images_of_several_tiles(shape: tuple[int, ...], downsample: int, dtype: str) -> None:
    case = make_case(1, shape, 3, dtype=dtype, ignored=(2,), void=0.2, downsample=downsample)
    options = ScanOptions(bound=0.5, scores=True, predicted=True)
    check(case, scanned(case, options), options)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1"])
def test_read_only_predictions(dtype: str) -> None:
    case = make_case(dtype=dtype)
    options = ScanOptions(bound=0.5, scores=True, predicted=True)
    expected = scanned(case, options)
    case.pred_probs.flags.writeable = False
    case.labels.flags.writeable = False
    for a, b in zip(scanned(case, options), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("num_classes", [2, 3, 7, 21])
def test_all_equal_probabilities(num_classes: int) -> None:
    case = make_case(num_classes=num_classes)
    case.pred_probs[:] = 1 / num_classes
    options = ScanOptions(bound=0.5, scores=True, predicted=True)
    scan = scanned(case, options)
    check(case, scan, options)
    assert scan.position.size + scan.agreeing.size == case.labels.size
    assert (scan.predicted == 0).all()


def test_dense_outputs_and_image_scores_only_if_asked_for() -> None:
    scan = scanned(make_case(), ScanOptions(bound=0.5, temperature=np.inf))
    assert scan.dense_score.size == scan.dense_predicted.size == 0
    assert np.isnan(finalize_softmin(scan.softmin)).all()


@given(cases())
def test_scores_alone(case: Case) -> None:
    case = replace(case, downsample=1)
    everything = scanned(case, ScanOptions(bound=0.5, scores=True))
    scan = scanned(case, ScanOptions(bound=0.5, scores=True, candidates=False))
    assert scan.position.size == scan.agreeing.size == 0
    for name in ("dense_score", "softmin", "image_count", "facts", "worst_sum"):
        if name != "facts":
            np.testing.assert_array_equal(getattr(scan, name), getattr(everything, name))
    assert scan.facts[:3].tolist() == everything.facts[:3].tolist()


def test_scores_that_agree_have_no_negative_zero() -> None:
    probs = np.array([[[-0.0, 0.25]], [[-0.0, 0.75]]], "f4").reshape(1, 2, 2)
    options = ScanOptions(bound=0.5, check=False)
    scan = scan_block(probs, np.zeros((1, 2), np.int32), options)
    assert scan.agreeing.view("u4").tolist() == [0]


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.25, 1.5])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 2, 3, 4), (2, 3, 5, 7)])
def test_the_first_unusable_pixel_is_found(dtype: str, value: float, place: Any) -> None:
    case = make_case(dtype=dtype)
    case.pred_probs[place] = value
    case.pred_probs[2, 3, 5, 7] = value
    scan = scanned(case, ScanOptions(bound=0.5))
    pixel = (place[0], *place[2:])
    assert scan.facts[0] == np.ravel_multi_index(pixel, case.labels.shape)
    assert scan.facts[1] > 0
    assert scanned(case, ScanOptions(bound=0.5, check=False)).facts[:2].tolist() == [-1, 0]


def test_void_pixels_may_hold_anything() -> None:
    case = make_case(ignored=(9,))
    case.labels[1, 2, 3] = 9
    case.pred_probs[1, :, 2, 3] = [np.nan, -5, 7, 0]
    scan = scanned(case, ScanOptions(bound=0.5))
    assert scan.facts[:2].tolist() == [-1, 0]
    assert scan.worst_sum[0] == 0


def test_worst_sum_and_its_place() -> None:
    case = make_case(dtype="f8")
    case.pred_probs[0, :, 1, 1] *= 0.9
    case.pred_probs[2, :, 4, 6] *= 0.75
    scan = scanned(case, ScanOptions(bound=0.5))
    assert scan.facts[2] == np.ravel_multi_index((2, 4, 6), case.labels.shape)
    assert scan.worst_sum == pytest.approx([0.25, 0.75])


def test_probabilities_are_rounded_half_to_even_before_they_are_added() -> None:
    halves = np.array([0.5, 1.5, 2.5, 3.5]) / 2**32
    probs = np.stack([halves, 1 - halves])[None]
    scan = scan_block(probs, np.zeros((1, 4), np.int32), ScanOptions(bound=0.5))
    assert scan.class_sum.tolist() == [0 + 2 + 2 + 4, 0]
