"""Arrays wherever they are, as Dask arrays in the chunks that are wanted."""

from __future__ import annotations

import itertools
from typing import Any

import dask.array as da
import distributed
import numpy as np

__all__ = ["as_blocks"]


def as_blocks(array: Any, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return a NumPy, Zarr or Dask array as a Dask array with the given chunks.

    On a cluster the blocks of a NumPy array are sent straight to the workers: inside a graph they
    would go through the scheduler.

    Examples
    --------
    >>> as_blocks(np.arange(5), ((2, 3),)).chunks
    ((2, 3),)
    """
    if isinstance(array, da.Array):
        return array.rechunk(chunks)
    if not isinstance(array, np.ndarray):
        return da.from_zarr(array, chunks=chunks)
    try:
        client = distributed.get_client()
    except ValueError:
        return da.from_array(array, chunks=chunks)
    ends = [np.cumsum((0, *sizes)).tolist() for sizes in chunks]
    boxes = itertools.product(*([slice(a, b) for a, b in itertools.pairwise(e)] for e in ends))
    convert = np.ma.asarray if isinstance(array, np.ma.MaskedArray) else np.asarray
    blocks = [convert(array[box]) for box in boxes]
    sent = np.empty(len(blocks), object)
    sent[:] = [
        da.from_delayed(future, block.shape, dtype=block.dtype)
        for future, block in zip(client.scatter(blocks, hash=False), blocks, strict=True)
    ]
    return da.block(sent.reshape([len(sizes) for sizes in chunks]).tolist())
