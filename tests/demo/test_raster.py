from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dask_labelqc.demo.raster import fill_polygon, render, resample
from tests.strategies import examples

polygons = st.integers(3, 9).flatmap(
    lambda count: arrays(np.float64, (count, 2), elements=st.floats(-6, 18, width=32))
)


def is_inside(vertices: np.ndarray, x: float, y: float) -> bool:
    """The even-odd rule, one pixel at a time: edges crossed on the way in from the left."""
    crossed = 0
    for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y):
            crossed += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return crossed % 2 == 1


def spline(t: float) -> float:
    """The cubic B-spline as it is usually written."""
    t = abs(t)
    return (2 / 3 - t**2 + t**3 / 2) if t < 1 else max(2 - t, 0) ** 3 / 6


@examples(30)
@given(vertices=polygons, height=st.integers(1, 12), width=st.integers(1, 12))
def test_fill_follows_the_even_odd_rule(vertices: np.ndarray, height: int, width: int) -> None:
    canvas = np.zeros((height, width), np.int16)
    fill_polygon(canvas, vertices, 7)
    expected = [
        [7 * is_inside(vertices, x + 0.5, y + 0.5) for x in range(width)] for y in range(height)
    ]
    np.testing.assert_array_equal(canvas, expected)


def test_later_objects_hide_earlier_ones() -> None:
    left = np.array([[0, 0], [0.75, 0], [0.75, 1], [0, 1.0]])
    right = np.array([[0.5, 0], [1, 0], [1, 1], [0.5, 1.0]])
    np.testing.assert_array_equal(render([[left], [right]], 4), [[0, 0, 1, 1]] * 4)
    np.testing.assert_array_equal(render([[right], [left]], 4), [[1, 1, 1, 0]] * 4)


@pytest.mark.parametrize("size", [5, 8, 13])
def test_resample_is_the_b_spline(size: int) -> None:
    fields = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    expected = fields.astype(float)
    for axis in (1, 2):
        coarse = fields.shape[axis]
        centres = (np.arange(size) + 0.5) * coarse / size - 0.5
        matrix = np.zeros((size, coarse))
        for row, centre in enumerate(centres):
            for cell in range(-3, coarse + 3):
                matrix[row, min(max(cell, 0), coarse - 1)] += spline(centre - cell)
        expected = np.moveaxis(np.tensordot(matrix, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(resample(fields, size), expected, atol=1e-6)


def test_resample_stays_within_the_range() -> None:
    fields = np.random.default_rng(1).uniform(size=(3, 7, 7)).astype(np.float32)
    fine = resample(fields, 30)
    assert fine.dtype == np.float32
    assert fields.min() - 1e-6 <= fine.min() <= fine.max() <= fields.max() + 1e-6
