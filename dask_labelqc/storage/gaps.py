"""Which chunks are not in the store: seen while they are read, without a request of its own.

A chunk that is not there reads as the fill value, and Zarr does not say so. Zarr leaves out chunks
that hold nothing else, so that absence is no proof of a loss.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from dask_labelqc.extent import Extent, Gap, Gaps
from dask_labelqc.storage.chunks import ChunkReader, ask, chunk_key
from dask_labelqc.storage.layout import Layout
from dask_labelqc.storage.stores import store_url
from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "WatchedReads",
    "gaps_of",
    "missing_objects",
    "object_grid",
    "object_shape",
    "unread",
    "watched",
]


@dataclass(frozen=True)
class WatchedReads:
    """What was not there of what was read of an array so far.

    Attributes
    ----------
    reader
        Of the array.
    layout
        How it is seen; places and extents are those of what is seen.
    """

    reader: ChunkReader
    layout: Layout

    @property
    def array(self) -> zarr.Array[Any]:
        return self.reader.array

    @property
    def absent(self) -> set[str]:
        """Keys of the store."""
        return self.reader.absent

    def read(self, extent: Extent | None = None) -> AnyArray:
        """Read an extent of the array, or all of it; of a plain layout."""
        extent = extent or Extent((0,) * self.array.ndim, self.array.shape)
        target = np.empty(extent.shape, self.array.dtype)
        self.reader.read_into(extent.slices, target)
        return target

    @property
    def shape(self) -> Shape:
        """The array's, as it is seen."""
        return self.layout.shape(self.array.shape)

    @property
    def _object(self) -> Shape:
        """What one object of the store holds: a chunk, or a shard of them."""
        return self.layout.shape(object_shape(self.array))

    def begun_in(self, extent: Extent) -> int:
        """Count the chunks whose first element lies in an extent; of plain layouts."""
        return math.prod(len(r) for r in self._begun_in(extent))

    def missing_begun_in(self, extent: Extent) -> Iterator[Extent]:
        """Yield the extents of those chunks that are not there."""
        for place in itertools.product(*self._begun_in(extent)) if self.absent else ():
            if self._key(place) in self.absent:
                start = tuple(i * size for i, size in zip(place, self._object, strict=True))
                ends = zip(start, self._object, self.shape, strict=True)
                yield Extent(start, tuple(min(a + size, n) for a, size, n in ends))

    def missing_in(self, extent: Extent) -> Iterator[tuple[str, Extent]]:
        """Yield the parts of an extent that are not there, each with the key of its chunk."""
        if not self.absent:
            return
        runs = [self._runs(axis, part) for axis, part in enumerate(extent.slices)]
        for parts in itertools.product(*runs):
            key = self._key([place for place, _, _ in parts])
            if key in self.absent:
                yield key, Extent(tuple(a for _, a, _ in parts), tuple(b for _, _, b in parts))

    def chunks_missing_in(self, extent: Extent) -> frozenset[int]:
        """Return the numbers of the chunks of an extent that are not there; of a plain layout.

        The number of a chunk is its flat position in the grid of chunks, in C order.

        Examples
        --------
        >>> array = zarr.create_array({}, shape=(6,), chunks=(2,), dtype="i4")
        >>> array[2:4] = 1
        >>> reads = watched(array)
        >>> _ = reads.read()
        >>> sorted(reads.chunks_missing_in(Extent((0,), (6,))))
        [0, 2]
        """
        grid, numbers = self.array.cdata_shape, set()
        for _, part in self.missing_in(extent):
            sides = zip(part.start, part.stop, self.array.chunks, strict=True)
            for place in itertools.product(*(range(a // c, -(-b // c)) for a, b, c in sides)):
                numbers.add(int(np.ravel_multi_index(place, grid)))
        return frozenset(numbers)

    def _begun_in(self, extent: Extent) -> list[range]:
        return [
            range(-(-a // size), -(-b // size))
            for a, b, size in zip(extent.start, extent.stop, self._object, strict=True)
        ]

    def _runs(self, axis: int, part: slice) -> list[tuple[int, int, int]]:
        """Cut a part of an axis where the chunk changes: which chunk, the first, after the last."""
        order = self.layout.order[axis]
        positions = np.arange(part.start, part.stop) if order is None else np.asarray(order[part])
        places = positions // self._object[axis]
        cuts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
        return [
            (int(places[a]), part.start + a, part.start + b)
            for a, b in itertools.pairwise(cuts)
            if a < b
        ]

    def _key(self, place: Sequence[int]) -> str:
        return chunk_key(self.array, self.layout.own(place))


def watched(array: zarr.Array[Any], layout: Layout | None = None) -> WatchedReads:
    """Return a reader of an array that notes what is not there; no request is made."""
    return WatchedReads(ChunkReader(array), layout or Layout.plain(array.ndim))


def unread(array: zarr.Array[Any], layout: Layout) -> WatchedReads:
    """Return an array as if all of it had been read, for which the store is asked."""
    reads = watched(array, layout)
    reads.absent.update(chunk_key(array, place) for place in missing_objects(array))
    return reads


def missing_objects(array: zarr.Array[Any]) -> list[Shape]:
    """Return the places in the grid of the chunks (or shards) that are not there, unread.

    One listing of the store; where it cannot list (plain HTTP), a request for each chunk.

    Examples
    --------
    >>> array = zarr.create_array({}, shape=(10, 4), chunks=(4, 4), dtype="i4")
    >>> array[4:8] = 1
    >>> missing_objects(array)
    [(0, 0), (2, 0)]
    """
    places = list(itertools.product(*map(range, object_grid(array))))
    keys = [chunk_key(array, place) for place in places]
    there = ask(array, partial(_which, prefix=chunk_key(array), keys=keys)) if keys else set()
    return [place for place, key in zip(places, keys, strict=True) if key not in there]


async def _which(store: Store, prefix: str, keys: Sequence[str]) -> set[str]:
    """Find out which of some objects there are."""
    if store.supports_listing and not store_url(store).startswith(("http://", "https://")):
        return {key async for key in store.list_prefix(prefix)}
    found = await asyncio.gather(*map(store.exists, keys))
    return set(itertools.compress(keys, found))


def object_shape(array: zarr.Array[Any]) -> Shape:
    """Return the shape of what one object of the store holds: a shard, or a chunk."""
    return array.shards or array.chunks


def object_grid(array: zarr.Array[Any]) -> Shape:
    """Return how many of these an array has along each axis."""
    return tuple(-(-n // c) for n, c in zip(array.shape, object_shape(array), strict=True))


def gaps_of(labels: WatchedReads | None, pred_probs: WatchedReads | None, extent: Extent) -> Gaps:
    """Return what was not there of a block (n, *spatial) that was read; of None, all is."""
    found = Gaps()
    if labels is not None:
        found = replace(
            found,
            labels=tuple(labels.missing_begun_in(extent)),
            num_label_chunks=labels.begun_in(extent),
            label=labels.array.fill_value,
        )
    if pred_probs is not None:
        found = replace(
            found,
            pred_probs=tuple(_gaps_of_predictions(pred_probs, extent)),
            pred_prob=pred_probs.array.fill_value,
        )
    return found


def _gaps_of_predictions(pred_probs: WatchedReads, extent: Extent) -> Iterator[Gap]:
    first, *spatial = zip(extent.start, extent.stop, strict=True)
    sides = [first, (0, pred_probs.shape[1]), *spatial]
    every_class = Extent(tuple(a for a, _ in sides), tuple(b for _, b in sides))
    for key, missing in pred_probs.missing_in(every_class):
        start, stop = missing.start, missing.stop
        pixels = Extent((start[0], *start[2:]), (stop[0], *stop[2:]))
        yield Gap(pixels, (start[1], stop[1]), key)
