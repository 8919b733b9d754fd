from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.cells import CellScratch, Geometry, cell_of, cell_scratch, geometry
from dask_labelqc.kernels.cells import scan_unit as scan_unit_within
from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.tiles import scan as scan_within
from tests import reference
from tests.strategies import make_probabilities

scan, compiled_scan_unit = compiled(scan_within), compiled(scan_unit_within)


@st.composite
def units(draw: st.DrawFn) -> Any:
    """The spatial shape of one unit (`factor` rows of cells high), the factor, and its planes."""
    factor = draw(st.sampled_from([2, 3, 4, 6, 8]))
    ndim = draw(st.integers(1, 3))
    across = [factor * draw(st.integers(1, 3)) for _ in range(max(ndim - 1, 1))]
    shape = (factor, *across) if ndim > 1 else tuple(across)
    num_classes = draw(st.sampled_from([2, 3, 7, 40]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    probs = make_probabilities(rng, (1, *shape), num_classes, draw(st.sampled_from([1, 8, 2**20])))
    lowest = draw(st.sampled_from([-1, 0]))
    codes = rng.integers(lowest, num_classes, (1, *shape))
    codes[rng.random(codes.shape) < draw(st.sampled_from([0.0, 0.5]))] = lowest
    return probs.astype(draw(st.sampled_from(["f4", "f8"]))), codes, factor


def scan_unit(
    planes: np.ndarray, base: int, codes: np.ndarray, shape: Geometry, cells: CellScratch
) -> None:
    """Fill `cells`; what is found of the pixels is what a scan of them finds."""
    found, expected = (
        (np.empty(codes.size, planes.dtype), np.empty(codes.size, np.int32), total)
        for total in np.empty((2, codes.size), planes.dtype)
    )
    signs = compiled_scan_unit(planes, base, codes, shape, *found, cells)
    assert (signs < 0) == (scan(planes, 0, len(planes), base, codes.size, *expected) < 0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@given(units(), st.booleans())
def test_cells_of_a_unit_equal_reference(unit: Any, majority: bool) -> None:
    probs, codes, factor = unit
    spatial, num_classes = codes.shape[1:], probs.shape[1]
    shape = geometry(spatial, (factor,) * len(spatial))
    cells = cell_scratch(shape, num_classes, probs.dtype, majority)
    before = np.zeros((num_classes, 5), probs.dtype)  # the unit may begin anywhere in its planes
    planes = np.concatenate([before, probs[0].reshape(num_classes, -1)], axis=1)
    scan_unit(planes, 5, codes.reshape(-1).astype(np.int32), shape, cells)
    how = "majority" if majority else "mean"
    small_codes, small_probs = reference.downsample(codes, probs, factor, how)
    np.testing.assert_array_equal(cells.codes, small_codes.ravel())
    np.testing.assert_array_equal(
        cells.planes[:, cells.codes >= 0],
        small_probs[0].reshape(num_classes, -1)[:, cells.codes >= 0],
    )


@pytest.mark.parametrize("num_classes", [2, 5, 6, 9, 10])
def test_a_sign_in_any_group_of_planes_is_seen(num_classes: int) -> None:
    shape = geometry((2, 2), (2, 2))
    for k in range(num_classes):
        planes = np.full((num_classes, 4), 0.5)
        planes[k, 3] = -0.5
        found = np.empty(4), np.empty(4, np.int32), np.empty(4)
        cells = cell_scratch(shape, num_classes, planes.dtype, majority=False)
        codes = np.zeros(4, np.int32)
        assert compiled_scan_unit(planes, 0, codes, shape, *found, cells) < 0


@pytest.mark.parametrize(
    ("spatial", "factor"), [((12,), 3), ((4, 6), 2), ((6, 9), 3), ((2, 4, 6), 2), ((3, 3, 6), 3)]
)
def test_cell_of_every_pixel(spatial: tuple[int, ...], factor: int) -> None:
    shape = geometry(spatial, (factor,) * len(spatial))
    small = tuple(n // factor for n in spatial)
    unit = spatial if len(spatial) == 1 else (factor, *spatial[1:])
    assert shape.pixels == math.prod(unit)
    assert shape.cells * factor ** len(spatial) == shape.pixels
    for i in range(shape.pixels):
        place = np.unravel_index(i, unit)
        expected = np.ravel_multi_index([p // factor for p in place], small)
        assert cell_of(i, shape) == expected


@pytest.mark.parametrize(
    ("labels", "mean", "majority"),
    [
        ([0, 1, 0, 1], 0, 0),  # 0.5 rounds to even
        ([1, 2, 1, 2], 2, 1),  # 1.5 too; the lowest class on ties
        ([2, 3, 2, 3], 2, 2),
        ([0, 3, 3, 3], 2, 3),
        ([-1, 3, 3, 0], 2, 3),
        ([-1, -1, -1, 1], 1, 1),
        ([-1, -1, -1, -1], -1, -1),
    ],
)
def test_label_of_a_cell(labels: list[int], mean: int, majority: int) -> None:
    shape = geometry((2, 2), (2, 2))
    planes = np.full((4, 4), 0.25)
    for votes, expected in ((False, mean), (True, majority)):
        cells = cell_scratch(shape, 4, planes.dtype, votes)
        scan_unit(planes, 0, np.array(labels, np.int32), shape, cells)
        assert cells.codes.tolist() == [expected]
