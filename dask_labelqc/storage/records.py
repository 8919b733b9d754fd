"""A record for each finished piece of work, whole or not there."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numcodecs.checksum32 import CRC32C
from numcodecs.vlen import VLenBytes
from zarr.codecs import Crc32cCodec
from zarr.dtype import VariableLengthBytes
from zarr.errors import UnstableSpecificationWarning
from zarr.storage import LocalStore

from dask_labelqc.storage.ahead import reading_ahead, reads_ahead
from dask_labelqc.storage.chunks import chunk_key
from dask_labelqc.storage.fence import FencedStore
from dask_labelqc.storage.packing import Record, to_bytes
from dask_labelqc.typing import AnyArray

__all__ = ["Records"]

REMOVED_AT_ONCE = 16
STRINGS, CHECKSUM = VLenBytes(), CRC32C(location="end")
"""As Zarr encodes the one byte string of a chunk."""


Found: TypeAlias = Record | None


@dataclass(frozen=True)
class Records:
    """Numbered sets of arrays: a Zarr array of byte strings, each a chunk, and so one object.

    One request writes a record and one reads it. The bytes carry a checksum: a record that was
    cut short or not written to the end counts as not there. Where objects are files they are read
    and written here, as Zarr would do it: its way there takes as long as all that is in a small
    record.
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
        store = self.array.store
        if isinstance(store, FencedStore) and store.has_files:
            store.put_file(self._key(number), CHECKSUM.encode(STRINGS.encode(record)))
        else:
            self.array[number : number + 1] = record

    def read(self, number: int) -> Found:
        """Return the arrays of a record, or None if there is no whole one."""
        try:
            folder = self._folder
            if folder is None:
                (record,) = np.asarray(self.array[number : number + 1])
            else:
                with open(f"{folder}/{self._key(number)}", "rb", buffering=0) as file:
                    (record,) = STRINGS.decode(CHECKSUM.decode(file.read()))
            return Record(record)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except (ValueError, EOFError, RuntimeError):  # RuntimeError: the checksum is another
            return None

    @property
    def _folder(self) -> Path | None:
        """Where objects are files."""
        store = self.array.store
        inside = store.inside if isinstance(store, FencedStore) else store
        return inside.root if type(inside) is LocalStore else None

    def _key(self, number: int) -> str:
        return chunk_key(self.array, (number,))

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete records: in an object store each takes a request."""

        def remove(number: int) -> None:
            # An element that is empty is not stored.
            self.array[number : number + 1] = np.array([b""], object)

        with ThreadPoolExecutor(REMOVED_AT_ONCE) as pool:
            for _ in pool.map(remove, numbers):
                pass

    @contextmanager
    def reading(self, numbers: Iterable[int]) -> Iterator[Iterator[tuple[int, Found]]]:
        """Yield an iterator over (number, record), the next ones being read meanwhile."""

        def numbered(number: int) -> tuple[int, Found]:
            return number, self.read(number)

        with reading_ahead(numbered, numbers, reads_ahead(self.array.store)) as records:
            yield records
