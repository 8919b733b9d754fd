"""A record for each finished piece of work, whole or not there."""

from __future__ import annotations

import io
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

__all__ = ["Records"]

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
        # One element with a field for each array: its description is read in one piece.
        fields = [(name, array.dtype, array.shape) for name, array in arrays.items()]
        element = np.zeros((), fields)
        for name, array in arrays.items():
            element[name] = array
        buffer = io.BytesIO()
        np.save(buffer, element, allow_pickle=False)
        record = np.empty(1, object)
        record[0] = buffer.getvalue()
        self.array[number : number + 1] = record

    def read(self, number: int) -> dict[str, AnyArray] | None:
        """Return the arrays of a record, or None if there is no whole one."""
        try:
            (record,) = np.asarray(self.array[number : number + 1])
            element = np.load(io.BytesIO(record), allow_pickle=False, max_header_size=len(record))
        except (ValueError, EOFError):
            return None
        return {name: np.asarray(element[name]) for name in element.dtype.names}

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
