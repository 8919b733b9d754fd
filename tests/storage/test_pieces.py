"""Predictions in files as they are, read piece by piece."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.kernels.predictions import PIECE
from dask_labelqc.kernels.summary import ScanOptions, scan_block
from dask_labelqc.storage.gaps import watched
from dask_labelqc.storage.pieces import FilePlanes
from dask_labelqc.storage.reading import reading_planes
from dask_labelqc.storage.stores import open_store
from tests.stores import CountingStore

SHAPE = (5, 3, 4, 6)
WHOLE = Extent((0, 0, 0), (5, 4, 6))


def store(path: Path, shape: tuple[int, ...] = SHAPE, **more: Any) -> tuple[Any, np.ndarray]:
    """Return an array of two images a chunk, and what it holds."""
    values = np.random.default_rng(0).random(shape).astype(more.get("dtype", "f4"))
    options = {"chunks": (2, *shape[1:]), "dtype": "f4", "compressors": None, "filters": None}
    array = zarr.create_array(path, shape=shape, **{**options, **more})
    array[...] = values
    return array, values


def read(array: Any, extents: list[Extent], ahead: int = 0) -> list[Any]:
    """Return what is read of each extent, and of which type it was."""
    with reading_planes(watched(array), extents, ahead, "a", str) as found:
        return [(np.array(part), type(part)) for part in found]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("images", [(0, 5), (1, 4), (2, 3), (4, 5)])
def test_whole_images_come_in_pieces(images: tuple[int, int], dtype: str, tmp_path: Path) -> None:
    array, values = store(tmp_path / "a", dtype=dtype)
    extent = Extent((images[0], 0, 0), (images[1], 4, 6))
    ((found, kind),) = read(array, [extent])
    assert kind is FilePlanes
    np.testing.assert_array_equal(found, values[slice(*images)])


@pytest.mark.parametrize(
    "more",
    [
        {"compressors": "auto"},
        {"dtype": ">f4"},
        {"dtype": "f2"},
        {"dtype": "u1"},
        {"chunks": (2, 1, 4, 6)},
        {"chunks": (1, 3, 2, 6)},
        {"chunks": (1, 3, 4, 6), "shards": (2, 3, 4, 6)},
    ],
)
def test_what_is_not_as_it_is_does_not(more: dict[str, Any], tmp_path: Path) -> None:
    array, values = store(tmp_path / "a", **more)
    ((found, kind),) = read(array, [WHOLE])
    assert kind is np.ndarray
    np.testing.assert_array_equal(found, values)


def test_parts_of_images_do_not(tmp_path: Path) -> None:
    array, values = store(tmp_path / "a")
    ((found, kind),) = read(array, [Extent((0, 1, 0), (5, 3, 6))])
    assert kind is np.ndarray
    np.testing.assert_array_equal(found, values[:, :, 1:3])


def test_other_stores_are_asked_for_whole_chunks(tmp_path: Path) -> None:
    _, values = store(tmp_path / "a")
    counting = CountingStore(open_store(tmp_path, None, read_only=True))
    array = zarr.open_array(counting, path="a", mode="r")
    ((found, kind),) = read(array, [WHOLE])
    assert kind is np.ndarray
    np.testing.assert_array_equal(found, values)
    assert set(counting.chunk_reads("a").values()) == {1}


def test_a_chunk_that_is_not_there_is_noted(tmp_path: Path) -> None:
    array, values = store(tmp_path / "a")
    (tmp_path / "a/c/1/0/0/0").unlink()
    values[2:4] = 0
    reads = watched(array)
    extents = [Extent((i, 0, 0), (i + 1, 4, 6)) for i in range(5)]
    with reading_planes(reads, extents, 0, "a", str) as found:
        parts = [np.array(part) for part in found]
    np.testing.assert_array_equal(np.concatenate(parts), values)
    assert reads.absent == {"a/c/1/0/0/0"} or reads.absent == {"c/1/0/0/0"}


def test_a_chunk_that_was_cut_short_is_an_error(tmp_path: Path) -> None:
    array, _ = store(tmp_path / "a")
    file = tmp_path / "a/c/1/0/0/0"
    os.truncate(file, file.stat().st_size - 4)
    with pytest.raises(InputError, match="cannot be decoded"):
        read(array, [WHOLE])


def test_a_file_that_becomes_shorter_meanwhile_is_an_error(tmp_path: Path) -> None:
    array, _ = store(tmp_path / "a")
    with reading_planes(watched(array), [WHOLE], 0, "pred_probs", lambda _: "image 0") as found:
        planes = next(found)
        assert isinstance(planes, FilePlanes)
        os.truncate(tmp_path / "a/c/0/0/0/0", 100)
        with pytest.raises(InputError, match=r"pred_probs: a chunk in image 0 .* become shorter"):
            planes.read(1, 0, np.empty((3, 24), "f4"))


def test_files_are_closed_when_the_next_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, _ = store(tmp_path / "a")
    opened: list[int] = []
    closed: list[int] = []
    open_file, close = os.open, os.close

    def noted_open(path: Any, *more: Any) -> int:
        file = open_file(path, *more)
        if str(path).startswith(str(tmp_path)):
            opened.append(file)
        return file

    def noted_close(file: int) -> None:
        close(file)
        if file in opened:
            closed.append(file)

    monkeypatch.setattr(os, "open", noted_open)
    monkeypatch.setattr(os, "close", noted_close)
    extents = [Extent((i, 0, 0), (i + 1, 4, 6)) for i in range(2)]
    with reading_planes(watched(array), extents, 0, "a", str) as found:
        next(found)
        assert (len(opened), len(closed)) == (1, 0)
        next(found)
        assert (len(opened), len(closed)) == (2, 1)
    assert closed == opened


@pytest.mark.parametrize("factors", [(), (2, 2)])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_scan_finds_the_same(factors: Any, from_logits: bool, tmp_path: Path) -> None:
    array, values = store(tmp_path / "a", (3, 3, 6, PIECE // 4))
    options = ScanOptions(0.5, factors=factors, from_logits=from_logits, check=False, scores=True)
    codes = np.random.default_rng(1).integers(-1, 3, (3, 6, PIECE // 4)).astype(np.int32)
    extent = Extent((0, 0, 0), codes.shape)
    with reading_planes(watched(array), [extent], 0, "a", str) as found:
        (planes,) = found
        scan = scan_block(planes, codes, options)
    expected = scan_block(values, codes, options)
    for name, part in expected._asdict().items():
        np.testing.assert_array_equal(getattr(scan, name), part, err_msg=name)
    assert planes.seconds > 0
