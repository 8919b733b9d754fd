"""Open Zarr arrays wherever they are, and read boxes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.errors import ContainsGroupError, NodeNotFoundError, NodeTypeValidationError

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.region import Box, name_images
from dask_labelqc.storage.ahead import reading_ahead, reads_ahead
from dask_labelqc.storage.alignment import ClassDim, ImageDim, Lineup, line_up
from dask_labelqc.storage.coordinates import output_dims, output_image_dim
from dask_labelqc.storage.dimensions import describe, dimension_names, siblings
from dask_labelqc.storage.layout import read_into
from dask_labelqc.storage.stores import open_store, store_url
from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "BlockReader",
    "StoreLocation",
    "dimension_names",
    "location",
    "name_group",
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
    if not isinstance(source, str | PathLike):
        raise InputError(f"{name}: {_what_it_is(source)}")
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


def _what_it_is(source: Any) -> str:
    """Say what was given in place of a Zarr array, and what to do."""
    if isinstance(source, zarr.Group):
        return f"got {name_group(source)}"
    return (
        f"got {type(source).__name__}, it must be the path or URL of a Zarr array, or an open one; "
        "dask_labelqc.segmentation.audit takes arrays that are not in Zarr"
    )


def name_group(group: zarr.Group) -> str:
    """Name a Zarr group that was given where an array is meant, and what to give instead."""
    arrays = sorted(group.array_keys())
    held = f"it has {', '.join(map(repr, arrays))}" if arrays else "it has none"
    return f"a Zarr group; name the array in it, such as group['labels'] ({held})"


def location(array: zarr.Array[Any]) -> str:
    """Return where an array is stored, as one string without keys."""
    path = array.store_path.path
    return f"{store_url(array.store_path.store)}/{path}" if path else store_url(array.store)


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
        The same dimensions and the classes, in any order.
    lineup
        How they line up: boxes are in the order of the labels.
    """

    labels: zarr.Array[Any]
    pred_probs: zarr.Array[Any]
    lineup: Lineup

    @classmethod
    def of(
        cls,
        labels: zarr.Array[Any],
        pred_probs: zarr.Array[Any],
        *,
        image_dim: ImageDim = None,
        class_dim: ClassDim = None,
    ) -> BlockReader:
        """Line the arrays up by the names and coordinates that they have."""
        lineup = line_up(
            [describe(labels, "labels")],
            describe(pred_probs, "pred_probs"),
            image_dim=image_dim,
            class_dim=class_dim,
        )
        return cls(labels, pred_probs, lineup)

    @property
    def labels_shape(self) -> Shape:
        """(N, *spatial)."""
        return self.lineup.labels.shape(self.labels.shape)

    @property
    def shape(self) -> Shape:
        """(N, K, *spatial)."""
        return self.lineup.pred_probs.shape(self.pred_probs.shape)

    @property
    def chunk(self) -> Shape:
        """Storage chunk of the predictions along (N, *spatial)."""
        image, _, *spatial = self.lineup.pred_probs.shape(self.pred_probs.chunks)
        return (image, *spatial)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the labels' own dimensions: theirs, or image, y, x."""
        return tuple(str(dim) for dim in output_dims(self.labels, self.lineup))

    @property
    def image_dim(self) -> str:
        """Name of the dimension of what there is for each image."""
        return str(output_image_dim(self.labels, self.lineup))

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
            with _naming("labels", region):
                labels = self.lineup.labels.read(self.labels, region)
            yield lambda block: (labels[block.within(region).slices], next(predictions))

    def _predictions(self, box: Box, buffer: AnyArray) -> AnyArray:
        """Read the predictions (n, K, *spatial) of a box, each storage chunk once."""
        with _naming("pred_probs", box):
            stored = self.lineup.pred_probs.read(self.pred_probs, box, buffer)
        return np.ascontiguousarray(stored)


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
