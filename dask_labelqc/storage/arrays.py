"""Open Zarr arrays wherever they are, and read extents of them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.errors import ContainsGroupError, NodeNotFoundError, NodeTypeValidationError

from dask_labelqc.errors import InputError, LabelQCError, StoreError
from dask_labelqc.extent import Extent, Gaps, name_images
from dask_labelqc.storage.ahead import AHEAD, reads_ahead
from dask_labelqc.storage.alignment import ClassDim, ImageDim, Lineup, line_up
from dask_labelqc.storage.chunks import ChunkReader
from dask_labelqc.storage.coordinates import output_dims, output_image_dim
from dask_labelqc.storage.dimensions import describe, dimension_names, siblings
from dask_labelqc.storage.gaps import gaps_of, watched
from dask_labelqc.storage.ledger import PREDICTIONS, Ledger
from dask_labelqc.storage.reading import decoding, reading_extents
from dask_labelqc.storage.stores import open_store, store_url
from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "BlockReader",
    "BlockReads",
    "StoreLocation",
    "decoded_fill",
    "dimension_names",
    "fill_labels",
    "location",
    "name_group",
    "open_array",
    "pixel_scale",
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
        begun = _begun(str(source), storage_options)
        raise InputError(f"{name}: there is no Zarr array at {str(source)!r}{begun}") from error
    except StoreError as error:
        raise InputError(f"{name}: {error}") from error
    except (ContainsGroupError, NodeTypeValidationError) as error:
        raise InputError(
            f"{name}: {str(source)!r} is a Zarr group; name the array in it, "
            f"such as {str(source).rstrip('/') + '/' + name.removesuffix('_file')!r}"
        ) from error
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read {str(source)!r}: {error}") from error
    except ValueError as error:
        raise InputError(
            f"{name}: the metadata of the Zarr array at {str(source)!r} are damaged: {error}"
        ) from error


def _begun(source: str, storage_options: Mapping[str, Any] | None) -> str:
    """Say if an array is not there because nobody has laid out yet what was written."""
    with suppress(LabelQCError, OSError, ValueError):
        store = open_store(source.rstrip("/").rpartition("/")[0], storage_options)
        if (Ledger(store).parameters() or {}).get("what") == PREDICTIONS:
            return (
                ", a PredictionWriter has begun it; when all images are written, call its finish()"
            )
    return ""


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


def pixel_scale(attributes: Mapping[str, Any]) -> float | None:
    """Return the scale factor in the attributes of an array of scaled integers.

    Raises
    ------
    InputError
        It is not a number, or there is an offset besides.
    """
    value, offset = (_number(attributes.get(key)) for key in ("scale_factor", "add_offset"))
    if not isinstance(value, Real | None):
        raise InputError(f"pred_probs: scale_factor is {value!r}, it must be a number above 0")
    if offset is not None and offset != 0:
        raise InputError(
            f"pred_probs: add_offset is {offset!r}, it must be 0 or not there; store the "
            "probabilities without an offset, or decoded to floating point"
        )
    return None if value is None else float(value)


def _number(value: Any) -> Any:
    """Return what is in an array of one element, as files that are no Zarr have attributes."""
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value


def fill_labels(attributes: Mapping[Any, Any], dtype: np.dtype[np.generic]) -> tuple[int, ...]:
    """Return the labels that stand for none: ``_FillValue`` and ``missing_value``, as in xarray.

    Raises
    ------
    InputError
        One of these attributes is no number.
    """
    found = set()
    for key in ("_FillValue", "missing_value"):
        given = attributes.get(key)  # None where xarray is told to write none
        for value in np.ravel([] if given is None else given).tolist():
            number = decoded_fill(value, dtype)
            if number is None:
                raise InputError(f"labels: the attribute {key} is {value!r}, it must be a number")
            if float(number).is_integer():
                found.add(int(number))
    return tuple(sorted(found))


def decoded_fill(value: Any, dtype: np.dtype[np.generic]) -> int | float | None:
    """Return a fill value that is an attribute of an array, None if it is no number."""
    value = _number(value)
    if isinstance(value, str) and dtype.kind == "f":
        # That is how xarray writes the fill value of floats.
        with suppress(ValueError, struct.error):
            (value,) = struct.unpack("<d", base64.standard_b64decode(value))
    return value if isinstance(value, int | float) else None


@dataclass(frozen=True)
class BlockReader:
    """Reads labels and predictions extent by extent.

    Attributes
    ----------
    labels
        (N, *spatial).
    pred_probs
        The same dimensions and the classes, in any order.
    lineup
        How they line up: extents are in the order of the labels.
    most_ahead
        Blocks to read ahead at the most, where memory is short.
    """

    labels: zarr.Array[Any]
    pred_probs: zarr.Array[Any]
    lineup: Lineup
    most_ahead: int = AHEAD

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
        return min(reads_ahead(self.pred_probs.store), self.most_ahead)

    @contextmanager
    def for_region(self, region: Extent, blocks: Iterable[Extent]) -> Iterator[BlockReads]:
        """Yield a function that returns the labels and predictions of each block, in this order.

        The labels are read once, for the whole region. What a call returns is good until the next.
        """
        given = watched(self.labels, self.lineup.labels)
        predicted = watched(self.pred_probs, self.lineup.pred_probs)
        with reading_extents(
            predicted, blocks, self.ahead, "pred_probs", _name_images
        ) as predictions:
            labels = self.read_labels(region, given.reader)
            yield BlockReads(region, labels, predictions, partial(gaps_of, given, predicted))

    def read_labels(self, extent: Extent, reader: ChunkReader | None = None) -> AnyArray:
        """Read the labels (n, *spatial) of an extent, with a reader of them if there is one."""
        with decoding("labels", _name_images(extent)):
            return self.lineup.labels.read(reader or self.labels, extent)


@dataclass(frozen=True)
class BlockReads:
    """What `BlockReader.for_region` yields.

    Attributes
    ----------
    region, labels
        The region, and the labels of all of it.
    predictions
        Of the blocks in their order.
    gaps
        Returns what was not in the store of a block that was read.
    """

    region: Extent
    labels: AnyArray
    predictions: Iterator[AnyArray]
    gaps: Callable[[Extent], Gaps]

    def __call__(self, block: Extent) -> tuple[AnyArray, AnyArray]:
        """Return labels and predictions of the next block."""
        return self.labels[block.within(self.region).slices], next(self.predictions)


def _name_images(extent: Extent) -> str:
    return name_images(extent.start[0], extent.stop[0] - 1)
