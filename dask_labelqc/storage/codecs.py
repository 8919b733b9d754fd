"""Decode what is stored of a chunk into memory that is there already.

Zarr's own codecs take new memory for each step and copy out of it, which costs as much time as the
decoding. Those of numcodecs, which it calls, can write where they are told.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import zarr
from numcodecs import blosc, zstd
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

from dask_labelqc.typing import AnyArray

__all__ = ["Decode", "decoder_of", "take"]

Decode: TypeAlias = Callable[[memoryview, AnyArray], bool]
"""Decodes bytes into contiguous memory, and says whether they were as many as that holds.

Where it returns False, or raises what numcodecs raises, the memory may have anything in it.
"""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def decoder_of(array: zarr.Array[Any]) -> Decode | None:
    """Return how to decode a whole chunk of an array; None if Zarr has to."""
    if not _is_plain(array):
        return None
    match array.compressors:
        case ():
            return take
        case (ZstdCodec() | zstd.Zstd(),):
            return _decode_zstd
        case (BloscCodec() | blosc.Blosc(),):
            return _decode_blosc
    return None


def _is_plain(array: zarr.Array[Any]) -> bool:
    """Say if a chunk is one object of numbers in C order and of this machine's byte order."""
    dtype = array.dtype
    if array.shards is not None or array.filters or array.order != "C":
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
