"""Open Zarr arrays wherever they are, and read boxes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer
from zarr.errors import ContainsGroupError, NodeNotFoundError, NodeTypeValidationError

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.region import Box, name_images
from dask_labelqc.storage.ahead import reading_ahead, reads_ahead
from dask_labelqc.storage.stores import open_store, store_url
from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "BlockReader",
    "StoreLocation",
    "dimension_names",
    "location",
    "open_array",
    "pixel_scale",
    "read_into",
    "siblings",
]

StoreLocation: TypeAlias = str | Path | zarr.Array[Any]


def open_array(
    source: StoreLocation, name: str, storage_options: Mapping[str, Any] | None = None
) -> zarr.Array[Any]:
    """Open a Zarr array for reading.

    Parameters
    ----------
    source
        A path, a URL, or an open array.
    name
        The argument it came from, for the message.
    storage_options
        Of the file system that the URL names.

    Raises
    ------
    InputError
        There is no Zarr array.
    """
    if isinstance(source, zarr.Array):
        return source
    try:
        store = open_store(source, storage_options)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    try:
        return zarr.open_array(store, mode="r")
    except (FileNotFoundError, NodeNotFoundError) as error:
        raise InputError(f"{name}: there is no Zarr array at {str(source)!r}") from error
    except StoreError as error:
        raise InputError(f"{name}: {error}") from error
    except (ContainsGroupError, NodeTypeValidationError) as error:
        raise InputError(
            f"{name}: {str(source)!r} is a Zarr group; name the array in it, "
            f"such as {str(source).rstrip('/') + '/' + name!r}"
        ) from error
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read {str(source)!r}: {error}") from error
    except ValueError as error:
        raise InputError(
            f"{name}: the metadata of the Zarr array at {str(source)!r} are damaged: {error}"
        ) from error


def location(array: zarr.Array[Any]) -> str:
    """Return where an array is stored, as one string without keys."""
    path = array.store_path.path
    return f"{store_url(array.store_path.store)}/{path}" if path else store_url(array.store)


def siblings(
    array: zarr.Array[Any], storage_options: Mapping[str, Any] | None = None
) -> zarr.Group | None:
    """Return the group that an array lies in, None if it lies in none."""
    path = array.store_path.path
    try:
        if path:
            parent = path.rpartition("/")[0]
            return zarr.open_group(array.store_path.store, path=parent, mode="r")
        parent_url = str(array.store).rstrip("/").rpartition("/")[0]
        return zarr.open_group(open_store(parent_url, storage_options), mode="r")
    except (FileNotFoundError, NodeNotFoundError, ValueError, StoreError):
        return None


def pixel_scale(array: zarr.Array[Any]) -> float | None:
    """Return the scale factor in the attributes of an array of scaled integers.

    Raises
    ------
    InputError
        It is not a number, or there is an offset besides.
    """
    value, offset = array.attrs.get("scale_factor"), array.attrs.get("add_offset", 0)
    if not isinstance(value, int | float | None):
        raise InputError(f"pred_probs: scale_factor is {value!r}, it must be a number above 0")
    if offset != 0:
        raise InputError(f"pred_probs: add_offset is {offset!r}, it must be 0 or not there")
    return None if value is None else float(value)


@dataclass(frozen=True)
class BlockReader:
    """Reads labels and predictions box by box.

    Attributes
    ----------
    labels
        (N, *spatial).
    pred_probs
        The same dimensions and the classes, in the order of `axes`.
    axes
        For each of (N, K, *spatial), which axis of `pred_probs` it is.
    """

    labels: zarr.Array[Any]
    pred_probs: zarr.Array[Any]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, labels: zarr.Array[Any], pred_probs: zarr.Array[Any]) -> BlockReader:
        """Find the order of the dimensions by name where both arrays name them."""
        return cls(labels, pred_probs, _axes(labels, pred_probs))

    @property
    def shape(self) -> Shape:
        """(N, K, *spatial)."""
        return tuple(self.pred_probs.shape[axis] for axis in self.axes)

    @property
    def chunk(self) -> Shape:
        """Storage chunk of the predictions along (N, *spatial)."""
        order = (self.axes[0], *self.axes[2:])
        return tuple(self.pred_probs.chunks[axis] for axis in order)

    @property
    def ahead(self) -> int:
        """How many blocks are read while one is worked on."""
        return reads_ahead(self.pred_probs.store)

    @contextmanager
    def for_region(
        self, region: Box, blocks: Iterable[Box]
    ) -> Iterator[Callable[[Box], tuple[AnyArray, AnyArray]]]:
        """Yield a function that returns the labels and predictions of each block, in this order.

        The labels are read once, for the whole region. The predictions are decoded into the same
        few buffers, block after block: fresh memory would cost as much time as the decoding. What
        a call returns is good until the next.
        """
        empty = np.empty(0, self.pred_probs.dtype)
        buffers = [empty] * (self.ahead + 1)

        def read(numbered: tuple[int, Box]) -> AnyArray:
            number, block = numbered
            size, place = block.size * self.shape[1], number % len(buffers)
            if buffers[place].size < size:
                buffers[place] = np.empty(size, self.pred_probs.dtype)
            return self._predictions(block, buffers[place][:size])

        with reading_ahead(read, enumerate(blocks), self.ahead) as predictions:
            labels = self.read_labels(region)
            yield lambda block: (labels[block.within(region).slices], next(predictions))

    def read_labels(self, box: Box) -> AnyArray:
        """Read the labels (n, *spatial) of a box."""
        with _naming("labels", box):
            return np.asarray(self.labels[box.slices])

    def _predictions(self, box: Box, buffer: AnyArray) -> AnyArray:
        """Read the predictions (n, K, *spatial) of a box, each storage chunk once."""
        slices = [slice(None)] * len(self.axes)
        for axis, part in zip((self.axes[0], *self.axes[2:]), box.slices, strict=True):
            slices[axis] = part
        shape = tuple(
            len(range(n)[part]) for n, part in zip(self.pred_probs.shape, slices, strict=True)
        )
        stored = buffer.reshape(shape)
        with _naming("pred_probs", box):
            read_into(self.pred_probs, tuple(slices), stored)
        return np.ascontiguousarray(stored.transpose(self.axes))


@contextmanager
def _naming(name: str, box: Box) -> Iterator[None]:
    """Say of which array and where data were that cannot be decoded."""
    images = name_images(box.start[0], box.stop[0] - 1)
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{name} of {images}: {error}") from None
    except OSError:
        raise  # the file system's own words, with the file's name
    except Exception as error:
        raise InputError(
            f"{name}: a chunk in {images} cannot be decoded ({error}); was it written to the end?"
        ) from error


def read_into(array: zarr.Array[Any], box: tuple[slice, ...], target: AnyArray) -> None:
    """Decode a box of an array into memory that is there already, C-contiguous."""
    array.get_basic_selection(box, out=NDBuffer.from_numpy_array(target))


def _axes(labels: zarr.Array[Any], pred_probs: zarr.Array[Any]) -> tuple[int, ...]:
    names, wanted = dimension_names(pred_probs), dimension_names(labels)
    in_order = tuple(range(pred_probs.ndim))
    if names is None or wanted is None or labels.ndim + 1 != pred_probs.ndim:
        return in_order
    if not set(wanted) < set(names):
        return in_order
    (class_axis,) = (names.index(name) for name in set(names) - set(wanted))
    first, *rest = (names.index(name) for name in wanted)
    return (first, class_axis, *rest)


def dimension_names(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return the names of the dimensions if every one has a name of its own."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    if names is None:
        names = array.attrs.get("_ARRAY_DIMENSIONS")  # where xarray puts them in Zarr 2
    named = tuple(str(name) for name in names or () if name is not None)
    return named if len(set(named)) == array.ndim else None
