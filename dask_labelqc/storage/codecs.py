"""Decode what is stored of a chunk into memory that is there already.

Zarr's own codecs take new memory for each step and copy out of it, which costs as much time as the
decoding. Those of numcodecs, which it calls, can write where they are told.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import zarr
from numcodecs import blosc, zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "NO_CHUNK",
    "Decode",
    "decoder_of",
    "index_bytes",
    "shard_decoder_of",
    "shard_index",
    "take",
]

Decode: TypeAlias = Callable[[memoryview, AnyArray], bool]
"""Decodes bytes into contiguous memory, and says whether they were as many as that holds.

Where it returns False, or raises what numcodecs raises, the memory may have anything in it.
"""

NO_CHUNK = 2**64 - 1
"""Where a chunk lies that is not in its shard."""
INDEX_END = 4
"""Bytes of the checksum after the index of a shard."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def decoder_of(array: zarr.Array[Any]) -> Decode | None:
    """Return how to decode a whole chunk of an array; None if Zarr has to."""
    if array.shards is not None or not _is_plain(array):
        return None
    return _decoder_of(array)


def _decoder_of(array: zarr.Array[Any]) -> Decode | None:
    match array.compressors:
        case ():
            return take
        case (ZstdCodec() | zstd.Zstd(),):
            return _decode_zstd
        case (BloscCodec() | blosc.Blosc(),):
            return _decode_blosc
    return None


def shard_decoder_of(array: zarr.Array[Any]) -> Decode | None:
    """Return how to decode a chunk that lies in a shard; None if Zarr has to.

    Where the chunks lie is told at the end of the shard, as `shard_index` reads it.
    """
    sharding = getattr(array.metadata, "codecs", (None,))[0]
    if not isinstance(sharding, ShardingCodec) or sharding.index_location.value != "end":
        return None
    match tuple(sharding.index_codecs):
        case (BytesCodec(endian=endian), Crc32cCodec()) if endian and endian.value == "little":
            return _decoder_of(array) if _is_plain(array) else None
    return None


def shard_index(stored: bytes, shape: Shape) -> AnyArray:
    """Return where the chunks of a shard lie, uint64 (*shape, 2): the first byte, and how many.

    Raises
    ------
    ValueError
        It is damaged.
    """
    import google_crc32c

    content, checksum = stored[:-INDEX_END], stored[-INDEX_END:]
    if google_crc32c.value(content) != int.from_bytes(checksum, "little"):
        raise ValueError("the index of a shard is damaged")
    return np.frombuffer(content, "<u8").reshape(*shape, 2)


def index_bytes(shape: Shape) -> int:
    """Return how many bytes the index of a shard of so many chunks takes."""
    return 16 * math.prod(shape) + INDEX_END


def _is_plain(array: zarr.Array[Any]) -> bool:
    """Say if a chunk is numbers in C order and of this machine's byte order."""
    dtype = array.dtype
    if array.filters or array.order != "C":
        return False
    if dtype.kind not in "biuf" or not dtype.isnative:
        return False
    if array.metadata.zarr_format == 2:
        return True
    serializer = array.serializer
    if not isinstance(serializer, BytesCodec):
        return False
    return dtype.itemsize == 1 or getattr(serializer.endian, "value", None) == sys.byteorder


def take(stored: memoryview, target: AnyArray) -> bool:
    """Take what is stored as it is."""
    if stored.nbytes != target.nbytes:
        return False
    target.reshape(-1).view("u1")[:] = stored
    return True


def _decode_zstd(stored: memoryview, target: AnyArray) -> bool:
    if _zstd_size(stored) != target.nbytes:
        return False
    zstd.decompress(stored, target)
    return True


def _decode_blosc(stored: memoryview, target: AnyArray) -> bool:
    if stored.nbytes < 16:
        return False
    size, length = struct.unpack_from("<I4xI", stored, 4)
    if stored.nbytes < length:  # Blosc would go on reading, whatever lies there
        raise EOFError(f"{stored.nbytes} of its {length} bytes are there")
    if size != target.nbytes:
        return False
    blosc.decompress(stored, target)
    return True


def _zstd_size(stored: memoryview) -> int | None:
    """Return how many bytes a frame decodes to, if it says so (RFC 8878, 3.1.1.1).

    With more memory than that, numcodecs would fill a part of it and not tell.
    """
    if stored.nbytes < 9 or stored[:4] != ZSTD_MAGIC:
        return None
    flags = stored[4]
    single, kind = flags >> 5 & 1, flags >> 6
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[kind]
    if length == 0 or stored.nbytes < start + length:
        return None
    return int.from_bytes(stored[start : start + length], "little") + 256 * (length == 2)
