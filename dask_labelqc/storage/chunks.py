"""Read boxes of Zarr arrays chunk by chunk into memory that is there already.

Where all that is to be known of a chunk is its bytes and a codec, they are read and decoded here,
into the same memory again and again. Everything else is left to Zarr.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.buffer.cpu import NDBuffer, buffer_prototype
from zarr.storage import LocalStore, StorePath, WrapperStore

from dask_labelqc.allocator import keep_freed_memory
from dask_labelqc.storage.codecs import (
    NO_CHUNK,
    Decode,
    decoder_of,
    index_bytes,
    shard_decoder_of,
    shard_index,
    take,
)
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["ChunkReader", "ask", "chunk_key", "fill_value"]

T = TypeVar("T")

Selection: TypeAlias = tuple[Any, ...]
"""A slice, or ascending positions, for each axis."""

INDICES = 64
"""Of shards, that are remembered."""
SPARE = 1024
"""Bytes that a chunk which cannot be compressed may take more than its own, and a 64th of them."""


class _Watching(WrapperStore[Store]):
    """Notes the keys under which there was nothing to read."""

    def __init__(self, store: Store, absent: set[str]) -> None:
        super().__init__(store)
        self._absent = absent

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is None:
            self._absent.add(key)
        return found


class _Asking(WrapperStore[Store]):
    """Asks a store for anything when it is read from; what it answers is nothing."""

    def __init__(self, store: Store, question: Callable[[Store], Awaitable[Any]]) -> None:
        super().__init__(store)
        self._question = question
        self.answer: Any = None

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        self.answer = await self._question(self._store)
        return None


def ask(array: zarr.Array[Any], question: Callable[[Store], Awaitable[T]]) -> T:
    """Ask the store of an array, which has an element at least, in the thread that Zarr reads in.

    Connections of fsspec belong to that thread.
    """
    store = _Asking(array.store_path.store, question)
    _through(store, array).get_basic_selection((slice(0, 1),) * array.ndim)
    answer: T = store.answer
    return answer


def chunk_key(array: zarr.Array[Any], place: Shape | None = None) -> str:
    """Return the key of a chunk, or else what the keys of all begin with."""
    path = array.store_path.path
    key = "" if place is None else array.metadata.encode_chunk_key(place)
    return f"{path}/{key}" if path else key


def fill_value(array: zarr.Array[Any]) -> Any:
    """Return what a chunk that is not there reads as."""
    fill: Any = array.fill_value
    return array.dtype.type(0) if fill is None else fill


class ChunkReader:
    """Reads boxes of an array, each storage chunk once; several threads may share it.

    Attributes
    ----------
    array
        What is read.
    absent
        Keys of the chunks that were not in the store, of what was read so far.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        keep_freed_memory()
        self.array = array
        self.absent: set[str] = set()
        self._stored, self._decoded = _Memory(), _Memory()
        store = array.store_path.store
        # Not those that are derived from it: they may do more when they are read from.
        self._folder = str(store.root) if type(store) is LocalStore else None
        self._shards: _Shards | None = None
        if array.shards is not None and self._folder is not None:
            self._decode = shard_decoder_of(array)
            self._shards = _Shards(array, self._folder)
        else:
            self._decode = decoder_of(array)

    def read_into(self, box: Selection, target: AnyArray) -> None:
        """Read a box into memory of its shape, C-contiguous."""
        if not self._read_chunks(box, target):
            self._read_by_zarr(box, target)

    def _read_by_zarr(self, box: Selection, target: AnyArray) -> None:
        out = NDBuffer.from_numpy_array(target)
        if all(isinstance(part, slice) for part in box):
            self._by_zarr.get_basic_selection(box, out=out)
        else:
            self._by_zarr.get_orthogonal_selection(box, out=out)

    @cached_property
    def _by_zarr(self) -> zarr.Array[Any]:
        store = _Watching(self.array.store_path.store, self.absent)
        return _through(store, self.array)

    def _read_chunks(self, box: Selection, target: AnyArray) -> bool:
        """Return False where Zarr has to read, or say what is wrong with a chunk."""
        parts = [part for part in box if isinstance(part, slice)]
        if self._decode is None or target.dtype != self.array.dtype:
            return False
        if target.ndim == 0 or len(parts) < len(box):
            return False
        axes = zip(parts, self.array.shape, self.array.chunks, strict=True)
        found = list(itertools.product(*(list(_along(*axis)) for axis in axes)))
        chunks = [tuple(place for place, _, _ in chunk) for chunk in found]
        places = [target[tuple(outer for _, outer, _ in chunk)] for chunk in found]
        inner = [tuple(inside for _, _, inside in chunk) for chunk in found]
        try:
            keys, sources = self._sources(chunks)
            return all(map(self._put, keys, sources, places, inner))
        except (RuntimeError, ValueError):  # of numcodecs; Zarr will say what it is
            return False

    def _sources(self, chunks: Sequence[Shape]) -> tuple[list[str], Sequence[Any]]:
        """Return the keys of the objects that chunks are in, and where to read each."""
        if self._shards is not None:
            found = [self._shards.find(chunk) for chunk in chunks]
            return [key for key, _ in found], [source for _, source in found]
        keys = [chunk_key(self.array, chunk) for chunk in chunks]
        if self._folder is None:
            return keys, ask(self.array, partial(_get, keys=keys)) if keys else []
        return keys, [_Run(f"{self._folder}/{key}") for key in keys]

    def _put(
        self, key: str, source: _Run | Buffer | None, place: AnyArray, inside: tuple[slice, ...]
    ) -> bool:
        """Decode a chunk into its place; return False if it is not what it should be."""
        chunks = self.array.chunks
        if place.shape == chunks and place.flags.c_contiguous:
            whole = self._read(source, place)
        else:
            with self._decoded.of(math.prod(chunks) * place.itemsize) as memory:
                chunk = memory.view(place.dtype).reshape(chunks)
                whole = self._read(source, chunk)
                if whole:
                    place[...] = chunk[inside]
        if whole is None:
            if source is not LEFT_OUT:
                self.absent.add(key)
            place[...] = fill_value(self.array)
        return whole is not False

    def _read(self, source: _Run | Buffer | None, target: AnyArray) -> bool | None:
        """Decode what is in a file, or the bytes of an object; return None if there is none."""
        assert self._decode is not None
        if source is None or source is LEFT_OUT:
            return None
        if isinstance(source, _Run):
            return self._read_file(source, self._decode, target)
        return self._decode(memoryview(source.as_buffer_like()).cast("B"), target)

    def _read_file(self, run: _Run, decode: Decode, target: AnyArray) -> bool | None:
        try:
            with open(run.path, "rb", buffering=0) as file:
                if decode is take:
                    return _fill(file, run, target.reshape(-1).view(np.uint8)) == target.nbytes
                with self._stored.of(target.nbytes + target.nbytes // 64 + SPARE) as memory:
                    size = _fill(file, run, memory)
                    if size is None:
                        return False
                    return decode(memory.data[:size], target)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None


class _Run(NamedTuple):
    """Bytes of a file: all, or from a first on so many."""

    path: str
    start: int = 0
    size: int | None = None


LEFT_OUT = _Run("")
"""A chunk that its shard leaves out, as it holds nothing but the fill value."""


class _Shards:
    """Where the chunks of an array lie in its shards; each shard is asked once.

    Several threads may share it: at worst two ask the same.
    """

    def __init__(self, array: zarr.Array[Any], folder: str) -> None:
        assert array.shards is not None
        self._array, self._folder = array, folder
        self._each = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
        self._indices: dict[str, AnyArray | None] = {}

    def find(self, chunk: Shape) -> tuple[str, _Run | None]:
        """Return the key of the shard of a chunk, and where the chunk is; None without a shard."""
        shard, within = zip(*map(divmod, chunk, self._each), strict=True)
        key = chunk_key(self._array, shard)
        path = f"{self._folder}/{key}"
        if key not in self._indices:
            while len(self._indices) >= INDICES:
                self._indices.pop(next(iter(self._indices)), None)
            self._indices[key] = self._read(path)
        index = self._indices[key]
        if index is None:
            return key, None
        start, size = (int(number) for number in index[within])
        return key, LEFT_OUT if start == NO_CHUNK else _Run(path, start, size)

    def _read(self, path: str) -> AnyArray | None:
        size = index_bytes(self._each)
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
                return shard_index(file.read(size), self._each)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None


def _fill(file: Any, run: _Run, memory: AnyArray) -> int | None:
    """Read a part of a file into memory, and return its size; None if it does not fit there."""
    left = os.fstat(file.fileno()).st_size - run.start
    size = left if run.size is None else run.size
    if size > memory.nbytes or size > left:
        return None
    if run.start:
        file.seek(run.start)
    view, done = memory.data, 0
    while done < size:
        got = file.readinto(view[done:size])
        if not got:  # it has become shorter
            return None
        done += got
    return size


class _Memory:
    """Memory that is used again, as many pieces as are used at once."""

    def __init__(self) -> None:
        self._free: list[AnyArray] = []

    @contextmanager
    def of(self, size: int) -> Iterator[AnyArray]:
        """Yield so many bytes, of any content."""
        try:
            found = self._free.pop()
        except IndexError:
            found = np.empty(size, np.uint8)
        try:
            yield found[:size]
        finally:
            self._free.append(found)


def _along(part: slice, size: int, chunk: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each chunk of a part of an axis: its number, where in the part, and what of it."""
    start, stop, _ = part.indices(size)
    for place in range(start // chunk, -(-stop // chunk)):
        first, last = max(start, place * chunk), min(stop, (place + 1) * chunk)
        begin = place * chunk
        yield place, slice(first - start, last - start), slice(first - begin, last - begin)


async def _get(store: Store, keys: Sequence[str]) -> list[Buffer | None]:
    """Get objects, as many at once as Zarr would."""
    free = asyncio.Semaphore(zarr.config.get("async.concurrency"))

    async def get(key: str) -> Buffer | None:
        async with free:
            return await store.get(key, buffer_prototype)

    return list(await asyncio.gather(*map(get, keys)))


def _through(store: Store, array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array by way of another store."""
    metadata: Any = array.metadata
    path = StorePath(store, array.store_path.path)
    return zarr.Array(zarr.AsyncArray(metadata, path, array.config))
