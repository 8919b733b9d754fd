"""One extent after the other, of arrays of any number of dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.storage.gaps import watched
from dask_labelqc.storage.layout import Layout
from dask_labelqc.storage.reading import read_rows, reading_extents

SHAPES = {"rows": (9,), "table": (9, 4), "images": (9, 3, 5, 6), "volumes": (9, 2, 3, 4, 5)}


def store(path: Path, shape: tuple[int, ...]) -> tuple[zarr.Array, np.ndarray]:
    values = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    array = zarr.create_array(path, shape=shape, chunks=(2, *shape[1:]), dtype="f4")
    array[...] = values
    return array, values


def named(extent: Extent) -> str:
    return f"rows {extent.start[0]} to {extent.stop[0]}"


def cut(shape: tuple[int, ...]) -> list[Extent]:
    zeros = (0,) * (len(shape) - 1)
    return [Extent((i, *zeros), (min(i + 2, shape[0]), *shape[1:])) for i in range(0, shape[0], 2)]


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_box_in_order(shape: tuple[int, ...], ahead: int, tmp_path: Path) -> None:
    array, values = store(tmp_path / "a", shape)
    extents = cut(shape)
    with reading_extents(watched(array), extents, ahead, "a", named) as found:
        for extent, part in zip(extents, found, strict=True):
            np.testing.assert_array_equal(part, values[extent.slices])


@pytest.mark.parametrize("ahead", [0, 2])
def test_few_buffers_serve_all(ahead: int, tmp_path: Path) -> None:
    array, values = store(tmp_path / "a", (9, 4, 3))
    layout = Layout((0, 2, 1), (range(8, -1, -1), None, None))  # put in order by a copy
    extents = [Extent((i, 0), (i + 1, 4)) for i in range(9)]
    places = set()
    with reading_extents(watched(array, layout), extents, ahead, "a", named) as found:
        for i, part in enumerate(found):
            assert part.flags.c_contiguous
            np.testing.assert_array_equal(part, values[8 - i : 9 - i].transpose(0, 2, 1))
            places.add(part.ctypes.data)
    assert len(places) == ahead + 1


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    array, _ = store(tmp_path / "a", (9, 4))
    chunk = tmp_path / "a" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:7])
    extents = cut((9, 4))
    with reading_extents(watched(array), extents, 1, "scores", named) as found:
        next(found)
        with pytest.raises(InputError, match=r"scores: a chunk in rows 2 to 4 cannot be decoded"):
            next(found)
    with pytest.raises(InputError, match=r"extents: a chunk in image 7 cannot be decoded"):
        read_rows(array, slice(1, 5), "extents", "image 7")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_some_rows(shape: tuple[int, ...], tmp_path: Path) -> None:
    array, values = store(tmp_path / "a", shape)
    for rows in (slice(1, 5), slice(4, 4), slice(0, 9)):
        np.testing.assert_array_equal(read_rows(array, rows, "a", "here"), values[rows])
