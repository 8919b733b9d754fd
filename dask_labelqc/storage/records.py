"""A record for each finished piece of work, whole or not there."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.dtype import VariableLengthBytes
from zarr.errors import UnstableSpecificationWarning

from dask_labelqc.storage.ahead import reading_ahead, reads_ahead
from dask_labelqc.typing import AnyArray

__all__ = ["Records", "from_bytes", "to_bytes"]

REMOVED_AT_ONCE = 16


@dataclass(frozen=True)
class Records:
    """Numbered sets of arrays: a Zarr array of byte strings, each a chunk, and so one object.

    One request writes a record and one reads it. The bytes carry a checksum: a record that was
    cut short or not written to the end counts as not there.
    """

    array: zarr.Array[Any]

    @classmethod
    def open(cls, group: zarr.Group, name: str, count: int) -> Records:
        """Find the records of an earlier run, or make room for `count` of them."""
        with warnings.catch_warnings():
            # That the specification of Zarr 3 does not mention byte strings.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            try:
                found = group.get(name)
            except ValueError:
                found = None  # the metadata were cut short
            if not isinstance(found, zarr.Array):
                found = group.create_array(
                    name,
                    shape=(count,),
                    chunks=(1,),
                    dtype=VariableLengthBytes(),
                    compressors=Crc32cCodec(),
                    overwrite=True,
                )
        return cls(found)

    def write(self, number: int, arrays: Mapping[str, AnyArray]) -> None:
        """Store a record; it replaces one of the same number."""
        record = np.empty(1, object)
        record[0] = to_bytes(arrays)
        self.array[number : number + 1] = record

    def read(self, number: int) -> dict[str, AnyArray] | None:
        """Return the arrays of a record, or None if there is no whole one."""
        try:
            (record,) = np.asarray(self.array[number : number + 1])
            return from_bytes(record)
        except (ValueError, EOFError):
            return None

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete records: in an object store each takes a request."""

        def remove(number: int) -> None:
            # An element that is empty is not stored.
            self.array[number : number + 1] = np.array([b""], object)

        with ThreadPoolExecutor(REMOVED_AT_ONCE) as pool:
            for _ in pool.map(remove, numbers):
                pass

    @contextmanager
    def reading(
        self, numbers: Iterable[int]
    ) -> Iterator[Iterator[tuple[int, dict[str, AnyArray] | None]]]:
        """Yield an iterator over (number, record), the next ones being read meanwhile."""

        def numbered(number: int) -> tuple[int, dict[str, AnyArray] | None]:
            return number, self.read(number)

        with reading_ahead(numbered, numbers, reads_ahead(self.array.store)) as records:
            yield records


def to_bytes(arrays: Mapping[str, AnyArray]) -> bytes:
    """Return arrays as bytes: what they are, and then what is in them.

    Of a hundred thousand small records, NumPy's own format would take most of the time.
    """
    about = json.dumps([(name, a.dtype.str, a.shape) for name, a in arrays.items()]).encode()
    return b"".join([len(about).to_bytes(4), about, *(a.tobytes() for a in arrays.values())])


def from_bytes(record: bytes) -> dict[str, AnyArray]:
    """Return the arrays that `to_bytes` was given."""
    start = 4 + int.from_bytes(record[:4])
    arrays = {}
    for name, dtype, shape in json.loads(record[4:start]):
        array = np.frombuffer(record, dtype, math.prod(shape), start)
        start += array.nbytes
        arrays[name] = array.reshape(shape).copy()  # aligned, and not held by the others
    return arrays
