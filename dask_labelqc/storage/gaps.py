"""Which chunks are not in the store: seen while they are read, without a request of its own.

A chunk that is not there reads as the fill value, and Zarr does not say so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.storage import StorePath, WrapperStore

from dask_labelqc.region import Box, Gap, Gaps
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
    absent
        Keys of the store.
    """

    array: zarr.Array[Any]
    absent: set[str]

    @property
    def _object(self) -> Shape:
        """What one object of the store holds: a chunk, or a shard of them."""
        return self.array.shards or self.array.chunks

    def begun_in(self, box: Box) -> int:
        """Count the chunks whose first element lies in a box."""
        return math.prod(len(r) for r in self._begun_in(box))

    def missing_begun_in(self, box: Box) -> Iterator[Box]:
        """Yield the boxes of those chunks that are not there."""
        if self.absent:
            yield from (chunk for _, chunk in self._missing(self._begun_in(box)))

    def missing_in(self, slices: Sequence[slice]) -> Iterator[tuple[str, Box]]:
        """Yield key and box of each chunk that is not there, as far as it lies in the slices."""
        if not self.absent:
            return
        ranges = [range(*part.indices(n)) for part, n in zip(slices, self.array.shape, strict=True)]
        inside = [
            range(r.start // size, -(-r.stop // size))
            for r, size in zip(ranges, self._object, strict=True)
        ]
        for key, chunk in self._missing(inside):
            start = tuple(max(a, r.start) for a, r in zip(chunk.start, ranges, strict=True))
            stop = tuple(min(b, r.stop) for b, r in zip(chunk.stop, ranges, strict=True))
            yield key, Box(start, stop)

    def _begun_in(self, box: Box) -> list[range]:
        return [
            range(-(-a // size), -(-b // size))
            for a, b, size in zip(box.start, box.stop, self._object, strict=True)
        ]

    def _missing(self, places: Sequence[range]) -> Iterator[tuple[str, Box]]:
        path = self.array.store_path.path
        prefix = f"{path}/" if path else ""
        for place in itertools.product(*places):
            key = prefix + self.array.metadata.encode_chunk_key(place)
            if key in self.absent:
                start = tuple(i * size for i, size in zip(place, self._object, strict=True))
                ends = zip(start, self._object, self.array.shape, strict=True)
                yield key, Box(start, tuple(min(a + size, n) for a, size, n in ends))


def watched(array: zarr.Array[Any]) -> WatchedReads:
    """Return an array to read that notes what is not there; no request is made."""
    store = _Watching(array.store_path.store)
    path = StorePath(store, array.store_path.path)
    metadata: Any = array.metadata
    return WatchedReads(zarr.Array(zarr.AsyncArray(metadata, path, array.config)), store.absent)


def gaps_of(labels: WatchedReads, pred_probs: WatchedReads, axes: Shape, box: Box) -> Gaps:
    """Return what was not there of a block that was read.

    Parameters
    ----------
    labels, pred_probs
        What they were read by.
    axes
        For each of (N, K, *spatial), which axis of `pred_probs` it is.
    box
        The block.
    """
    slices = [slice(None)] * len(axes)
    for axis, part in zip((axes[0], *axes[2:]), box.slices, strict=True):
        slices[axis] = part
    gaps = []
    for key, missing in pred_probs.missing_in(slices):
        start, stop = (
            tuple(corner[axis] for axis in axes) for corner in (missing.start, missing.stop)
        )
        pixels = Box((start[0], *start[2:]), (stop[0], *stop[2:]))
        gaps.append(Gap(pixels, (start[1], stop[1]), key))
    return Gaps(
        labels=tuple(labels.missing_begun_in(box)),
        num_label_chunks=labels.begun_in(box),
        label=labels.array.fill_value,
        pred_probs=tuple(gaps),
        pred_prob=pred_probs.array.fill_value,
    )
