"""Which chunks are not in the store: seen while they are read, without a request of its own.

A chunk that is not there reads as the fill value, and Zarr does not say so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.storage import StorePath, WrapperStore

from dask_labelqc.region import Box, Gap, Gaps
from dask_labelqc.storage.layout import Layout
from dask_labelqc.typing import Shape

__all__ = ["WatchedReads", "gaps_of", "watched"]


class _Watching(WrapperStore[Store]):
    """Notes the keys under which there was nothing to read."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.absent: set[str] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is None:
            self.absent.add(key)
        return found


@dataclass(frozen=True)
class WatchedReads:
    """An array to read, and what was not there of what was read so far.

    Attributes
    ----------
    array
        The same array, by way of a store that notes what it lacks.
    layout
        How it is seen; places and boxes are those of what is seen.
    absent
        Keys of the store.
    """

    array: zarr.Array[Any]
    layout: Layout
    absent: set[str]

    @property
    def shape(self) -> Shape:
        """The array's, as it is seen."""
        return self.layout.shape(self.array.shape)

    @property
    def _object(self) -> Shape:
        """What one object of the store holds: a chunk, or a shard of them."""
        return self.layout.shape(self.array.shards or self.array.chunks)

    def begun_in(self, box: Box) -> int:
        """Count the chunks whose first element lies in a box; of arrays seen in their own order."""
        return math.prod(len(r) for r in self._begun_in(box))

    def missing_begun_in(self, box: Box) -> Iterator[Box]:
        """Yield the boxes of those chunks that are not there."""
        for place in itertools.product(*self._begun_in(box)) if self.absent else ():
            if self._key(place) in self.absent:
                start = tuple(i * size for i, size in zip(place, self._object, strict=True))
                ends = zip(start, self._object, self.shape, strict=True)
                yield Box(start, tuple(min(a + size, n) for a, size, n in ends))

    def missing_in(self, box: Box) -> Iterator[tuple[str, Box]]:
        """Yield the parts of a box that are not there, each with the key of its chunk."""
        if not self.absent:
            return
        runs = [self._runs(axis, part) for axis, part in enumerate(box.slices)]
        for parts in itertools.product(*runs):
            key = self._key([place for place, _, _ in parts])
            if key in self.absent:
                yield key, Box(tuple(a for _, a, _ in parts), tuple(b for _, _, b in parts))

    def _begun_in(self, box: Box) -> list[range]:
        return [
            range(-(-a // size), -(-b // size))
            for a, b, size in zip(box.start, box.stop, self._object, strict=True)
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
        path = self.array.store_path.path
        key = self.array.metadata.encode_chunk_key(self.layout.own(place))
        return f"{path}/{key}" if path else key


def watched(array: zarr.Array[Any], layout: Layout | None = None) -> WatchedReads:
    """Return an array to read that notes what is not there; no request is made."""
    store = _Watching(array.store_path.store)
    path = StorePath(store, array.store_path.path)
    metadata: Any = array.metadata
    watching = zarr.Array(zarr.AsyncArray(metadata, path, array.config))
    return WatchedReads(watching, layout or Layout.plain(array.ndim), store.absent)


def gaps_of(labels: WatchedReads, pred_probs: WatchedReads, box: Box) -> Gaps:
    """Return what was not there of a block (n, *spatial) that was read."""
    first, *spatial = zip(box.start, box.stop, strict=True)
    sides = [first, (0, pred_probs.shape[1]), *spatial]
    gaps = []
    for key, missing in pred_probs.missing_in(
        Box(tuple(a for a, _ in sides), tuple(b for _, b in sides))
    ):
        start, stop = missing.start, missing.stop
        pixels = Box((start[0], *start[2:]), (stop[0], *stop[2:]))
        gaps.append(Gap(pixels, (start[1], stop[1]), key))
    return Gaps(
        labels=tuple(labels.missing_begun_in(box)),
        num_label_chunks=labels.begun_in(box),
        label=labels.array.fill_value,
        pred_probs=tuple(gaps),
        pred_prob=pred_probs.array.fill_value,
    )
