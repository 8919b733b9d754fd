from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from dask_labelqc.storage.unwritten import missing_chunks


class Unlisted(WrapperStore):
    """A store that answers requests for objects only, as plain HTTP does."""

    supports_listing = False

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise AssertionError("listed")
        yield ""


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("path", ["", "group/array"])
@pytest.mark.parametrize("kind", [MemoryStore, LocalStore])
@pytest.mark.parametrize("listed", [True, False])
def test_missing_chunks_are_found(tmp_path, zarr_format, path, kind, listed):
    store = kind(tmp_path) if kind is LocalStore else kind()
    array = zarr.create_array(
        store if listed else Unlisted(store),
        name=path or None,
        shape=(25, 6),
        chunks=(10, 4),
        dtype="i4",
        zarr_format=zarr_format,
    )
    array[10:] = 1
    array[0, 5] = 1
    array[20:, :4] = 0  # which deletes it
    assert missing_chunks(array) == [(0, 0), (2, 0)]
    array[:] = np.ones(array.shape)
    assert missing_chunks(array) == []


def test_shards_are_what_the_store_holds():
    array = zarr.create_array({}, shape=(40,), chunks=(5,), shards=(10,), dtype="i4")
    array[10:15] = 1
    assert missing_chunks(array) == [(0,), (2,), (3,)]


def test_an_empty_array_has_no_chunks():
    assert missing_chunks(zarr.create_array({}, shape=(0, 4), chunks=(5, 4), dtype="i4")) == []
