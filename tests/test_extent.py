from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.extent import Extent, name_images

BOX = Extent((1, 2, 3), (2, 4, 5))


def test_cells_and_their_pixels() -> None:
    pixels = BOX.refined((2, 3))
    assert pixels == Extent((1, 4, 9), (2, 8, 15))
    assert pixels.coarsened((2, 3)) == BOX


def test_shape_size_and_slices() -> None:
    assert (BOX.shape, BOX.size) == ((1, 2, 2), 4)
    assert BOX.slices == (slice(1, 2), slice(2, 4), slice(3, 5))
    assert BOX.images == slice(1, 2)


def test_within_another_extent() -> None:
    assert BOX.within(Extent((1, 1, 1), (9, 9, 9))) == Extent((0, 1, 2), (1, 3, 4))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=4), st.data())
def test_flat_positions_are_those_of_the_whole_array(sides: Any, data: st.DataObject) -> None:
    extent = Extent(tuple(a for a, _ in sides), tuple(a + n for a, n in sides))
    shape = tuple(stop + data.draw(st.integers(0, 2)) for stop in extent.stop)
    every = np.arange(np.prod(shape)).reshape(shape)
    found = extent.flat_index(np.arange(extent.size), shape)
    np.testing.assert_array_equal(found, every[extent.slices].ravel())
    position = data.draw(st.integers(0, extent.size - 1))
    image, pixel = extent.place(position)
    assert every[(image, *pixel)] == found[position]


@pytest.mark.parametrize(("last", "named"), [(3, "image 3"), (7, "images 3 to 7")])
def test_names_of_images(last: int, named: str) -> None:
    assert name_images(3, last) == named
