"""Lists of numbers in few bytes, and arrays by name as bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numcodecs import Blosc

from dask_labelqc.typing import AnyArray

__all__ = ["Record", "pack", "to_bytes", "unpack"]

CODEC = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE)
"""Higher levels and bits instead of bytes change the size by 5 % at most, and cost more."""
FAST = Blosc(cname="lz4", clevel=1, shuffle=Blosc.SHUFFLE)
"""A third of the time for a tenth more bytes: for who waits for it in a loop."""


def pack(numbers: AnyArray, differences: bool = False, *, fast: bool = False) -> AnyArray:
    """Return what stands for a list of numbers, as bytes.

    `differences` are kept instead of unsigned integers, which makes ascending ones small.

    Examples
    --------
    >>> unpack(pack(np.array([3, 9, 4], np.uint8), True), np.dtype(np.uint8), True)
    array([3, 9, 4], dtype=uint8)
    """
    if not numbers.size:
        return np.zeros(0, np.uint8)
    if differences:
        numbers = np.diff(numbers, prepend=numbers.dtype.type(0))  # modulo 2**bits
    codec = FAST if fast else CODEC
    return np.frombuffer(codec.encode(np.ascontiguousarray(numbers)), np.uint8)


def unpack(packed: AnyArray, dtype: np.dtype[np.generic], differences: bool = False) -> AnyArray:
    """Return the list of numbers that was packed."""
    if not packed.size:
        return np.zeros(0, dtype)
    numbers = np.frombuffer(CODEC.decode(np.ascontiguousarray(packed)), dtype)
    return np.cumsum(numbers, dtype=dtype) if differences else numbers


def to_bytes(arrays: Mapping[str, AnyArray]) -> bytes:
    """Return arrays as bytes: what they are, and then what is in them.

    Of a hundred thousand small records, NumPy's own format would take most of the time.
    """
    about = json.dumps([(name, a.dtype.str, a.shape) for name, a in arrays.items()]).encode()
    return b"".join([len(about).to_bytes(4), about, *(a.tobytes() for a in arrays.values())])


class Record(Mapping[str, AnyArray]):
    """Arrays by name, each made when it is asked for.

    Raises ValueError if the bytes are not those of a record.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        start = 4 + int.from_bytes(data[:4])
        self._about: dict[str, tuple[str, tuple[int, ...], int]] = {}
        for name, dtype, shape in json.loads(data[4:start]):
            self._about[name] = (dtype, tuple(shape), start)
            start += np.dtype(dtype).itemsize * math.prod(shape)
        if start != len(data):
            raise ValueError(f"a record of {start} bytes has {len(data)}")

    def __getitem__(self, name: str) -> AnyArray:
        dtype, shape, start = self._about[name]
        array = np.frombuffer(self._data, dtype, math.prod(shape), start)
        return array.reshape(shape).copy()  # aligned, and not held by the others

    def __iter__(self) -> Iterator[str]:
        return iter(self._about)

    def __len__(self) -> int:
        return len(self._about)
