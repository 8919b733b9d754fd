"""The one reader of Zarr arrays of any number of dimensions: ahead, into few buffers.

What was not in the store is noted (`storage.gaps`), and what cannot be read is an error that says
of which array it is and where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.extent import Extent
from dask_labelqc.storage.ahead import reading_ahead
from dask_labelqc.storage.gaps import WatchedReads, watched
from dask_labelqc.typing import AnyArray

__all__ = ["decoding", "read_rows", "reading_extents"]


@contextmanager
def reading_extents(
    reads: WatchedReads,
    extents: Iterable[Extent],
    ahead: int,
    name: str,
    named: Callable[[Extent], str],
) -> Iterator[Iterator[AnyArray]]:
    r"""Yield an iterator over what is in each extent, in this order and C-contiguous.

    It is decoded into the same few buffers, one after the other: fresh memory would cost as much
    time as the decoding. Asking for the next gives the one before free.

    Parameters
    ----------
    reads
        Of the array, which notes what is not there.
    extents
        Of what is seen of the array; of (N, \*spatial) where that is (N, K, \*spatial).
    ahead
        How many are read while one is worked on.
    name, named
        What the array is called in an error, and what the place of an extent is.
    """
    empty = np.empty(0, reads.array.dtype)
    buffers = [(_Buffer(empty), _Buffer(empty)) for _ in range(ahead + 1)]

    def read(numbered: tuple[int, Extent]) -> AnyArray:
        number, extent = numbered
        decoded, ordered = buffers[number % len(buffers)]
        classes = reads.shape[1] if len(reads.shape) > len(extent.shape) else 1
        with decoding(name, named(extent)):
            stored = reads.layout.read(reads.reader, extent, decoded.of(extent.size * classes))
        if stored.flags.c_contiguous:
            return stored
        target = ordered.of(stored.size).reshape(stored.shape)
        target[...] = stored
        return target

    with reading_ahead(read, enumerate(extents), ahead) as results:
        yield results


class _Buffer:
    """Memory that grows to what is asked for."""

    def __init__(self, memory: AnyArray) -> None:
        self._memory = memory

    def of(self, size: int) -> AnyArray:
        if self._memory.size < size:
            self._memory = np.empty(size, self._memory.dtype)
        return self._memory[:size]


def read_rows(array: zarr.Array[Any], rows: slice, name: str, where: str) -> AnyArray:
    """Read some rows of an array, which an error calls by a name and a place."""
    others = array.shape[1:]
    extent = Extent((rows.start, *(0 for _ in others)), (rows.stop, *others))
    with decoding(name, where):
        return watched(array).read(extent)


@contextmanager
def decoding(name: str, where: str) -> Iterator[None]:
    """Say of which array and where data were that cannot be decoded."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{name} of {where}: {error}") from None
    except OSError:
        raise  # the file system's own words, with the file's name
    except Exception as error:
        raise InputError(
            f"{name}: a chunk in {where} cannot be decoded ({error}); was it written to the end?"
        ) from error
