"""Chunks that are not in the store, and so read as the fill value."""

from __future__ import annotations

import asyncio
from itertools import product
from math import ceil
from typing import Any

import zarr
from zarr.core.sync import sync

from dask_labelqc.storage.stores import store_url
from dask_labelqc.typing import Shape

__all__ = ["missing_chunks", "stored_chunk"]


def stored_chunk(array: zarr.Array[Any]) -> Shape:
    """Return the shape of what one object of the store holds: a shard, or a chunk."""
    return array.shards or array.chunks


def missing_chunks(array: zarr.Array[Any]) -> list[Shape]:
    """Return the positions in the grid of the chunks (or shards) without an object in the store.

    One listing of the store; where it cannot list (plain HTTP), a request for each chunk.

    Examples
    --------
    >>> array = zarr.create_array({}, shape=(10, 4), chunks=(4, 4), dtype="i4")
    >>> array[4:8] = 1
    >>> missing_chunks(array)
    [(0, 0), (2, 0)]
    """
    counts = (ceil(n / c) for n, c in zip(array.shape, stored_chunk(array), strict=True))
    grid = list(product(*map(range, counts)))
    path = array.store_path.path
    start = f"{path}/" if path else ""
    keys = [start + array.metadata.encode_chunk_key(position) for position in grid]
    there = sync(_which_exist(array, start, keys))
    return [position for position, key in zip(grid, keys, strict=True) if key not in there]


async def _which_exist(array: zarr.Array[Any], start: str, keys: list[str]) -> set[str]:
    store = array.store_path.store
    if store.supports_listing and not store_url(store).startswith(("http://", "https://")):
        return {key async for key in store.list_prefix(start)}
    found = await asyncio.gather(*map(store.exists, keys))
    return {key for key, exists in zip(keys, found, strict=True) if exists}
