"""What a store says of the objects of an array, as one number for each group of the plan."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from dask_labelqc.graph.blocks import Plan
from dask_labelqc.storage.objects import list_tags
from dask_labelqc.typing import Shape

__all__ = ["Stamps", "group_stamps", "stamp", "summed_up"]

Stamps: TypeAlias = NDArray[np.uint64]
"""One for each group: two of the same group are equal if nothing was written in between."""


def stamp(name: str, key: str, tag: str) -> int:
    """Return the stamp of an object of an array; that of several is their exclusive or."""
    text = "\n".join((name, key, tag))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def group_stamps(
    name: str, array: zarr.Array[Any], axes: Sequence[int], plan: Plan
) -> Stamps | None:
    """List the objects that an array is stored as, and add them up for each group.

    Nothing but the stamps is held, and an object of which several groups hold a part counts for
    each of them.

    Parameters
    ----------
    name
        Of the array, whatever it is called in its store.
    array
        Its chunks, or shards, are the objects.
    axes
        Which of its axes are those of the plan, in the plan's order.
    plan
        The groups.

    Returns
    -------
    uint64 (num_groups,) or None
        Zero where nothing is stored; None if the store does not tell.
    """
    listed = list_tags(array.store, array.path)
    if listed is None:
        return None
    stamps = np.zeros(plan.num_groups, np.uint64)
    grid = array.shards or array.chunks
    for key, tag in listed:
        position = _position(array, key)
        if position is not None:
            one = np.uint64(stamp(name, key, tag))
            for number in _groups([position[a] for a in axes], [grid[a] for a in axes], plan):
                stamps[number] ^= one
    return stamps


def summed_up(stamps: Stamps) -> str:
    """Return one text for the stamps of all groups."""
    return hashlib.blake2b(stamps.astype("<u8").tobytes(), digest_size=16).hexdigest()


def _position(array: zarr.Array[Any], key: str) -> Shape | None:
    """Return which chunk a key is of, None if it is of none."""
    numbers = key.removeprefix("c").replace(".", "/").strip("/").split("/")
    if not all(number.isdigit() for number in numbers) or len(numbers) != array.ndim:
        return None
    position = tuple(int(number) for number in numbers)
    grid = zip(position, array.shards or array.chunks, array.shape, strict=True)
    inside = all(i * chunk < length for i, chunk, length in grid)
    return position if inside and array.metadata.encode_chunk_key(position) == key else None


def _groups(position: Sequence[int], grid: Sequence[int], plan: Plan) -> Sequence[int]:
    """Return the numbers of the groups that a chunk has a part of."""
    ranges = []
    for i, chunk, length, group in zip(position, grid, plan.shape, plan.group, strict=True):
        last = min((i + 1) * chunk, length) - 1
        ranges.append(range(i * chunk // group, last // group + 1))
    return [_number(place, plan.grid) for place in itertools.product(*ranges)]


def _number(place: Sequence[int], grid: Shape) -> int:
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number
