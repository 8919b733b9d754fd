"""An array of any order, seen as (N, *spatial) or (N, K, *spatial)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import zarr

from dask_labelqc.extent import Extent
from dask_labelqc.storage.chunks import ChunkReader
from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = ["Layout", "Order"]

T = TypeVar("T")

Order: TypeAlias = "range | Ints | None"
"""Which positions along an axis to take: all as they are, backwards, or these."""


@dataclass(frozen=True)
class Layout:
    r"""How an array is seen.

    Attributes
    ----------
    axes
        For each of (N, \*spatial), or (N, K, \*spatial), which axis of the array it is; None for
        the N of an array that is one image.
    order
        For each of these, which positions of the array to take.

    Examples
    --------
    >>> last = Layout((0, 3, 1, 2), (range(1, -1, -1), None, None, None))
    >>> last.shape((2, 8, 9, 3))
    (2, 3, 8, 9)
    """

    axes: tuple[int | None, ...]
    order: tuple[Order, ...]

    @classmethod
    def plain(cls, ndim: int) -> Layout:
        """Return that of an array which is what it is seen as."""
        return cls(tuple(range(ndim)), (None,) * ndim)

    @property
    def is_plain(self) -> bool:
        """Whether the array is what it is seen as."""
        return self.axes == tuple(range(len(self.axes))) and all(o is None for o in self.order)

    @property
    def own_axes(self) -> Shape:
        """The axes of the array, in the order in which they are seen."""
        return tuple(axis for axis in self.axes if axis is not None)

    def shape(self, own: Shape) -> Shape:
        """Return what the shape of the array, or of its chunks, is seen as."""
        return tuple(1 if axis is None else own[axis] for axis in self.axes)

    def own(self, seen: Sequence[T]) -> tuple[T, ...]:
        """Return what belongs to each axis seen, in the order of the array's own axes."""
        found = {axis: item for axis, item in zip(self.axes, seen, strict=True) if axis is not None}
        return tuple(found[axis] for axis in sorted(found))

    def inwards(self, values: Any) -> Any:
        """Transpose values of the array's dimensions to those that are seen; no order is kept."""
        seen = values.transpose(self.own_axes)
        return seen[None] if self.axes[0] is None else seen

    def outwards(self, values: Any) -> Any:
        """Transpose values of the dimensions that are seen to those of the array."""
        own = values[0] if self.axes[0] is None else values
        return own.transpose(tuple(np.argsort(self.own_axes)))

    def ordered(self, seen: Any) -> Any:
        """Take the positions along each axis of a NumPy or Dask array that `inwards` returned."""
        for axis, order in enumerate(self.order):
            if order is not None:
                back = slice(None, None, -1)
                take: Any = back if isinstance(order, range) else order.astype(np.intp)
                seen = seen[(*[slice(None)] * axis, take)]
        return seen

    def read(self, array: Any, extent: Extent, buffer: AnyArray | None = None) -> AnyArray:
        r"""Read an extent (n, \*spatial), and all K classes of it.

        Parameters
        ----------
        array
            NumPy, Dask, Zarr, or what reads a Zarr array. Each storage chunk is read once.
        extent
            Of what is seen.
        buffer
            1-D memory for a Zarr array to be decoded into, of the size of the result; what is
            returned is good until its next use.
        """
        seen: list[slice] = list(extent.slices)
        if len(self.axes) > len(seen):
            seen.insert(1, slice(None))
        parts = self.own([_take(order, part) for order, part in zip(self.order, seen, strict=True)])
        stored = _read(array, parts, buffer)
        for axis, (_, turn) in enumerate(parts):
            if turn is not None:
                stored = stored[(*[slice(None)] * axis, turn)]
        return np.asanyarray(self.inwards(stored))  # a mask stays one


Part: TypeAlias = "tuple[slice | Ints, slice | Ints | None]"
"""What to read along an axis, ascending; and how to put that in order."""


def _take(order: Order, part: slice) -> Part:
    if order is None:
        return part, None
    wanted = np.asarray(order[part], np.intp)
    ascending, turn = np.unique(wanted, return_inverse=True)
    first, last = int(ascending[0]), int(ascending[-1])
    contiguous = last - first + 1 == ascending.size
    read = slice(first, last + 1) if contiguous else ascending
    if contiguous and np.array_equal(wanted, ascending):
        return read, None
    return read, slice(None, None, -1) if isinstance(order, range) else turn


def _read(array: Any, parts: Sequence[Part], buffer: AnyArray | None) -> AnyArray:
    extent = tuple(read for read, _ in parts)
    reader = ChunkReader(array) if isinstance(array, zarr.Array) else array
    if not isinstance(reader, ChunkReader):
        for axis, read in enumerate(extent):
            array = array[(*[slice(None)] * axis, read)]
        return np.asanyarray(array)
    shape = tuple(
        len(range(n)[read]) if isinstance(read, slice) else read.size
        for n, read in zip(reader.array.shape, extent, strict=True)
    )
    dtype = reader.array.dtype
    target = np.empty(shape, dtype) if buffer is None else buffer.reshape(shape)
    reader.read_into(extent, target)
    return target
