"""Storage chunks that are not in the store: they read as the fill value."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import zarr

from dask_labelqc.typing import AnyArray, Shape

__all__ = ["absent_chunks", "chunk_grid", "fill_value"]


def chunk_grid(array: zarr.Array[Any]) -> Shape:
    """Return how many chunks an array has along each axis."""
    return tuple(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))


def fill_value(array: zarr.Array[Any]) -> Any:
    """Return what a chunk that is not there reads as."""
    fill: Any = array.fill_value
    return array.dtype.type(0) if fill is None else fill


def absent_chunks(
    array: zarr.Array[Any], box: tuple[slice, ...], values: AnyArray
) -> frozenset[int]:
    """Return the numbers of the chunks of a box that are not in the store.

    The store is asked only about chunks of which all that was read is the fill value. Zarr itself
    leaves out chunks that hold nothing else, so that absence is no proof of a loss.

    Parameters
    ----------
    array
        That was read.
    box
        Which part of it, with ends; it may begin and end within chunks.
    values
        What was read.

    Returns
    -------
    frozenset of int
        The number of a chunk is its flat position in the grid of chunks, in C order.

    Examples
    --------
    >>> array = zarr.create_array(zarr.storage.MemoryStore(), shape=(6,), chunks=(2,), dtype="i4")
    >>> array[2:4] = 1
    >>> sorted(absent_chunks(array, (slice(0, 6),), array[:]))
    [0, 2]
    """
    fill, grid, absent = fill_value(array), chunk_grid(array), []
    touched = [
        range(part.start // c, -(-part.stop // c))
        for part, c in zip(box, array.chunks, strict=True)
    ]
    for place in product(*touched):
        starts = [
            max(i * c, part.start) for i, c, part in zip(place, array.chunks, box, strict=True)
        ]
        inside = tuple(
            slice(start - part.start, (i + 1) * c - part.start)
            for i, c, part, start in zip(place, array.chunks, box, starts, strict=True)
        )
        if _is_filled(values[inside], fill) and _is_absent(array, tuple(starts), fill):
            absent.append(int(np.ravel_multi_index(place, grid)))
    return frozenset(absent)


def _is_filled(values: AnyArray, fill: Any) -> bool:
    """Return whether all values are the fill value, NaN too; the first one mostly tells."""
    first = values[(slice(0, 1),) * values.ndim]
    return _equal(first, fill) and _equal(values, fill)


def _equal(values: AnyArray, fill: Any) -> bool:
    return bool(np.isnan(values).all() if fill != fill else (values == fill).all())


def _is_absent(array: zarr.Array[Any], place: Shape, fill: Any) -> bool:
    """Return whether an element changes with the fill value: then it is stored nowhere.

    This tells for the chunks within a shard, too, for which there is no object of their own.
    """
    other = 1 if fill == 0 else 0
    metadata = {**array.metadata.to_dict(), "fill_value": other}
    reread = zarr.Array.from_dict(array.store_path, metadata)
    element: Any = reread[tuple(slice(i, i + 1) for i in place)]
    return bool((element == other).all())
