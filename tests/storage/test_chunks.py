"""Boxes that are decoded into memory that is there, against what Zarr reads."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from dask_labelqc.storage.chunks import ChunkReader, chunk_key
from dask_labelqc.storage.codecs import decoder_of, shard_decoder_of

V3: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": ZstdCodec(level=1)},
    "zstd, checksum": {"compressors": ZstdCodec(checksum=True)},
    "blosc": {"compressors": BloscCodec()},
    "plain": {"compressors": None},
    "gzip": {"compressors": GzipCodec()},
    "two": {"compressors": [GzipCodec(), ZstdCodec()]},
    "big endian": {"serializer": BytesCodec(endian="big")},
    "transposed": {"filters": "reversed"},
    "F": {"config": {"order": "F"}},
}
V2: dict[str, dict[str, Any]] = {
    "v2 zstd": {},
    "v2 plain": {"compressors": None},
    "v2 F": {"order": "F"},
}
BY_ZARR = {"gzip", "two", "big endian", "transposed", "F", "v2 F"}


def create(store: Any, kind: str, shape: tuple[int, ...], **more: Any) -> zarr.Array[Any]:
    options = (V3 | V2)[kind] | more
    if options.get("filters") == "reversed":
        options["filters"] = TransposeCodec(order=tuple(range(len(shape)))[::-1])
    version = 2 if kind in V2 else 3
    return zarr.create_array(store, name="a", shape=shape, zarr_format=version, **options)


def read(array: zarr.Array[Any] | ChunkReader, box: tuple[Any, ...]) -> np.ndarray:
    reader = array if isinstance(array, ChunkReader) else ChunkReader(array)
    ndim = zip(reader.array.shape, box, strict=True)
    shape = [len(range(n)[b]) if isinstance(b, slice) else b.size for n, b in ndim]
    target = np.full(shape, 77, reader.array.dtype)
    reader.read_into(box, target)
    return target


@given(data=st.data(), kind=st.sampled_from([*V3, *V2]), local=st.booleans())
def test_any_box_of_any_array(
    data: st.DataObject, kind: str, local: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sides = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 4)), min_size=1, max_size=4)
    shape, chunks = zip(*data.draw(sides), strict=True)
    dtype = data.draw(st.sampled_from(["u1", "i4", "f4", "f8", "f2", "bool"]))
    sharded = kind in V3 and data.draw(st.booleans())
    shards = tuple(2 * c for c in chunks) if sharded else None
    store: Any = LocalStore(tmp_path_factory.mktemp("a")) if local else MemoryStore()
    fill = data.draw(st.sampled_from([0, 1]))
    more = {"chunks": chunks, "dtype": dtype, "shards": shards, "fill_value": fill}
    array = create(store, kind, shape, **more)
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    written = [slice(0, data.draw(st.integers(0, n))) for n in shape]
    array[tuple(written)] = values[tuple(written)]
    expected = array[...]
    reader = ChunkReader(array)
    for _ in range(2):
        ends = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
        box = tuple(slice(a, b) for a, b in ends)
        np.testing.assert_array_equal(read(reader, box), expected[box])
    places = [sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))) for n in shape]
    some = tuple(np.array(p) for p in places)
    np.testing.assert_array_equal(read(reader, some), expected[np.ix_(*some)])


@pytest.mark.parametrize("kind", [*V3, *V2])
def test_what_is_decoded_here(kind: str) -> None:
    array = create({}, kind, (6, 4), chunks=(2, 4), dtype="f4")
    assert (decoder_of(array) is None) == (kind in BY_ZARR)
    if kind in V3 and kind != "F":
        sharded = create({}, kind, (6, 4), chunks=(2, 4), shards=(4, 4), dtype="f4")
        assert decoder_of(sharded) is None
        assert (shard_decoder_of(sharded) is None) == (kind in BY_ZARR)


def test_a_shard_is_asked_once_where_its_chunks_are(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), "zstd", (8, 4), chunks=(2, 4), shards=(4, 4), dtype="f4")
    array[2:4] = 1  # of the first shard a chunk is left out, and the other shard is not there
    reader = ChunkReader(array)
    expected = array[...]
    assert (read(reader, (slice(0, 8), slice(0, 4))) == expected).all()
    assert reader.absent == {chunk_key(array, (1, 0))}
    path = tmp_path / chunk_key(array, (0, 0))
    whole = path.read_bytes()
    # It is not looked for again where a chunk is.
    path.write_bytes(whole[:-4] + bytes(4))
    assert (read(reader, (slice(2, 4), slice(1, 3))) == 1).all()
    with pytest.raises(ValueError, match="checksum"):  # Zarr's own word
        read(array, (slice(2, 4), slice(0, 4)))


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("kind", ["zstd", "plain", "gzip"])
def test_what_is_not_there_is_noted(kind: str, local: bool, tmp_path: Path) -> None:
    store: Any = LocalStore(tmp_path) if local else MemoryStore()
    array = create(store, kind, (6, 5), chunks=(2, 3), dtype="f4", fill_value=7)
    array[2:4, :3] = 1
    reader = ChunkReader(array)
    found = read(reader, (slice(1, 4), slice(0, 5)))
    np.testing.assert_array_equal(found, [[7] * 5, [1, 1, 1, 7, 7], [1, 1, 1, 7, 7]])
    assert reader.absent == {chunk_key(array, place) for place in ((0, 0), (0, 1), (1, 1))}


def stored(path: Path, array: zarr.Array[Any]) -> Path:
    return path / chunk_key(array, (0,) * array.ndim)


SHORT = {
    "zstd": b"(\xb5/\xfd \x05)\x00\x00Hello",  # a whole frame of five bytes
    "zstd, checksum": b"(\xb5/\xfd\x04Xa\x00\x00Hello",  # cut off
    "blosc": b"\x02\x01!\x04\x05\x00\x00\x00\x05\x00\x00\x00\x15\x00\x00\x00Hello",
    "plain": b"Hello",
}


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("data", ["short", "cut", "long", "empty", "zeros"])
def test_a_damaged_chunk_is_what_it_is_to_zarr(kind: str, data: str, tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), kind, (64,), chunks=(64,), dtype="f4")
    array[:] = np.random.default_rng(0).random(64)
    whole = stored(tmp_path, array).read_bytes()
    contents = {
        "short": SHORT[kind],
        "cut": whole[:-9],
        "long": whole * 3,
        "empty": b"",
        "zeros": bytes(len(whole)),
    }
    stored(tmp_path, array).write_bytes(contents[data])
    found = outcome(lambda: read(array, (slice(0, 64),)))
    if (kind, data) == ("blosc", "cut"):  # which Blosc itself reads on behind the end
        assert found == (EOFError, f"{len(whole) - 9} of its {len(whole)} bytes are there")
    else:
        assert found == outcome(lambda: array[:])


def outcome(function: Callable[[], Any]) -> tuple[Any, ...]:
    """Return what comes of a call: the bytes that it returns, or its error."""
    try:
        return (np.asarray(function()).tobytes(),)
    except Exception as error:
        return type(error), str(error)


def test_a_frame_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), "zstd", (12,), chunks=(12,), dtype="u1")
    array[:] = 1
    stored(tmp_path, array).write_bytes(b"(\xb5/\xfd\x00Xa\x00\x00Hello World!")
    assert read(array, (slice(0, 12),)).tobytes() == b"Hello World!"


@pytest.mark.parametrize("size", [1, 40, 255, 256, 300, 65_535 + 256, 65_536 + 256, 200_000])
def test_every_length_of_a_frame_is_understood(size: int, tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), "zstd", (size,), chunks=(size,), dtype="u1")
    values = np.random.default_rng(0).integers(1, 9, size)
    array[:] = values
    target = np.zeros(size, "u1")
    decode = decoder_of(array)
    assert decode is not None
    assert decode(memoryview(stored(tmp_path, array).read_bytes()), target)
    np.testing.assert_array_equal(target, values)
    assert not decode(memoryview(stored(tmp_path, array).read_bytes()), np.zeros(size + 1, "u1"))


class Counting(WrapperStore[Any]):
    def __init__(self, store: Any, reads: Counter[str]) -> None:
        super().__init__(store)
        self.reads = reads

    def _with_store(self, store: Any) -> Counting:
        return type(self)(store, self.reads)

    async def get(self, key: str, *more: Any, **options: Any) -> Any:
        self.reads[key] += 1
        return await super().get(key, *more, **options)


@pytest.mark.parametrize("kind", ["zstd", "plain", "gzip"])
def test_a_store_of_another_kind_is_asked_once_for_each_chunk(kind: str, tmp_path: Path) -> None:
    create(LocalStore(tmp_path), kind, (6, 5), chunks=(2, 3), dtype="f4")[...] = 1
    reads: Counter[str] = Counter()
    array = zarr.open_array(Counting(LocalStore(tmp_path), reads), path="a", mode="r")
    reads.clear()
    read(array, (slice(1, 4), slice(0, 5)))
    expected = {chunk_key(array, place): 1 for place in itertools.product((0, 1), (0, 1))}
    assert reads == expected


@pytest.mark.parametrize("kind", ["zstd", "blosc", "plain"])
@pytest.mark.parametrize("columns", [200_000, 199_999])  # whole chunks, and parts of them
def test_memory_is_used_again(kind: str, columns: int, tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), kind, (8, 200_000), chunks=(1, 200_000), dtype="f8")
    array[...] = np.random.default_rng(0).random((8, 200_000))
    reader, target = ChunkReader(array), np.empty((4, columns))
    reader.read_into((slice(0, 4), slice(0, columns)), target)
    tracemalloc.start()
    try:
        reader.read_into((slice(4, 8), slice(0, columns)), target)
        assert tracemalloc.get_traced_memory()[1] < array.nbytes // 8  # less than a chunk
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(target, array[4:8, :columns])


def test_threads_share_a_reader(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), "zstd", (64, 500), chunks=(1, 500), dtype="f4")
    array[...] = np.arange(64)[:, None]
    reader = ChunkReader(array)
    boxes = [(slice(i, i + 1), slice(0, 499)) for i in range(64)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda box: read(reader, box), boxes))
    for box, values in zip(boxes, found, strict=True):
        assert (values == box[0].start).all()


def test_a_file_that_may_not_be_read_is_no_gap(tmp_path: Path) -> None:
    array = create(LocalStore(tmp_path), "zstd", (4,), chunks=(4,), dtype="f4")
    array[:] = 1
    stored(tmp_path, array).unlink()
    stored(tmp_path, array).symlink_to(stored(tmp_path, array))  # as root may read anything
    with pytest.raises(OSError, match=r"Too many levels of symbolic links.*a/c/0"):
        read(array, (slice(0, 4),))
