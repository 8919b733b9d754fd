"""What a store says of the objects of an array, as one number for each group of the plan."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import lt
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from dask_labelqc.plan import Plan
from dask_labelqc.storage.gaps import object_grid, object_shape
from dask_labelqc.storage.objects import list_tags
from dask_labelqc.typing import Ints, Shape

__all__ = ["Stamps", "group_stamps", "stamp", "stamps_by", "summed_up"]

Stamps: TypeAlias = NDArray[np.uint64]
"""One for each group: two of the same group are equal if nothing was written in between."""


def stamp(name: str, key: str, tag: str) -> int:
    """Return the stamp of an object of an array; that of several is their exclusive or."""
    text = "\n".join((name, key, tag))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def group_stamps(
    name: str,
    array: zarr.Array[Any],
    axes: Sequence[int | None],
    plan: Plan,
    order: Sequence[Sequence[int] | Ints | None] | None = None,
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
        Which of its axes are those of the plan, in the plan's order; None for one that it lacks.
    plan
        The groups.
    order
        For each axis of the plan, which positions of the array it has; None for all as they are.

    Returns
    -------
    uint64 (num_groups,) or None
        Zero where nothing is stored; None if the store does not tell.
    """
    grid, chunk = plan.grid, object_shape(array)
    touched = [
        _Touched(length, group, 1 if axis is None else chunk[axis], positions)
        for axis, length, group, positions in zip(
            axes, plan.shape, plan.group, order or [None] * len(axes), strict=True
        )
    ]

    def groups_of(position: Shape) -> Iterator[int]:
        along = [
            groups.of_chunk(0 if axis is None else position[axis])
            for axis, groups in zip(axes, touched, strict=True)
        ]
        return (_number(place, grid) for place in itertools.product(*along))

    return stamps_by(name, array, plan.num_groups, groups_of)


def stamps_by(
    name: str,
    array: zarr.Array[Any],
    num_groups: int,
    groups_of: Callable[[Shape], Iterable[int]],
) -> Stamps | None:
    """Do as `group_stamps`, where `groups_of` says which groups hold a part of an object."""
    listed = list_tags(array.store, array.path)
    if listed is None:
        return None
    stamps = np.zeros(num_groups, np.uint64)
    position_of = _positions(array)
    for key, tag in listed:
        position = position_of(key)
        if position is not None:
            one = np.uint64(stamp(name, key, tag))
            for number in groups_of(position):
                stamps[number] ^= one
    return stamps


def summed_up(stamps: Stamps) -> str:
    """Return one text for the stamps of all groups."""
    return hashlib.blake2b(stamps.astype("<u8").tobytes(), digest_size=16).hexdigest()


def _positions(array: zarr.Array[Any]) -> Callable[[str], Shape | None]:
    """Return a function that says which chunk a key is of; None if it is of none."""
    # There may be a million keys, and to ask an array of Zarr for its shape takes a microsecond.
    counts = object_grid(array)
    encode = array.metadata.encode_chunk_key

    def position_of(key: str) -> Shape | None:
        numbers = key.removeprefix("c").replace(".", "/").strip("/").split("/")
        if len(numbers) != len(counts) or not "".join(numbers).isdigit():
            return None
        try:
            position = tuple(map(int, numbers))
        except ValueError:  # one of them is empty
            return None
        inside = all(map(lt, position, counts))
        return position if inside and encode(position) == key else None

    return position_of


class _Touched:
    """Which groups along an axis have a part of each chunk."""

    def __init__(
        self, length: int, group: int, chunk: int, positions: Sequence[int] | Ints | None
    ) -> None:
        self._length, self._group, self._chunk = length, group, chunk
        self._table: dict[int, set[int]] | None = None
        if positions is not None:
            self._table = defaultdict(set)
            for place, position in enumerate(positions):
                self._table[int(position) // chunk].add(place // group)

    def of_chunk(self, index: int) -> Collection[int]:
        if self._table is not None:
            return self._table.get(index, ())
        last = min((index + 1) * self._chunk, self._length) - 1
        return range(index * self._chunk // self._group, last // self._group + 1)


def _number(place: Sequence[int], grid: Shape) -> int:
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number
