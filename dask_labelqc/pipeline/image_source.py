"""Where images of every size are: what the job needs to know of them, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.extent import NO_GAPS, Gaps
from dask_labelqc.images import ImageTable, Span, span_of_rows
from dask_labelqc.pipeline.runs import touched
from dask_labelqc.pipeline.stamps import Stamps, stamps_by
from dask_labelqc.segmentation.stored_images import (
    FlatImages,
    flat_extent,
    reading_spans,
    table_of,
)
from dask_labelqc.storage.alignment import ClassDim
from dask_labelqc.storage.arrays import BlockReader, StoreLocation, location, open_array
from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = ["ImageSource", "SpanReads", "StoredImages", "open_stored_images", "table_beside"]


class SpanReads:
    """Reads the blocks of a span, in their order.

    Parameters
    ----------
    read
        Returns the labels (S,) and the stored predictions (K, S) of a block; these are good until
        the next call.
    gaps
        Returns what was not in the store of a block that was read.
    """

    def __init__(
        self,
        read: Callable[[Span], tuple[AnyArray, AnyArray]],
        gaps: Callable[[Span], Gaps] = lambda block: NO_GAPS,
    ) -> None:
        self.read, self.gaps = read, gaps


class ImageSource(Protocol):
    """Images of every size, their labels and predictions; it travels with every task.

    One that reads files says what it has of `num_classes` to `class_names`, makes a `table`, and
    reads an image; the rest is written here.

    Attributes
    ----------
    table
        All images; tasks do not ask for it if there is a `span` of its own.
    num_classes
        K.
    dtype, scale
        Of the stored predictions, and what an integer of 1 means; None: the largest means 1.
    labels_dtype, fill_labels
        Of the labels, and those that stand for none where they are stored.
    class_names
        As far as there are any.
    """

    table: ImageTable
    num_classes: int
    dtype: np.dtype[Any]
    scale: float | None
    labels_dtype: np.dtype[Any]
    fill_labels: tuple[int, ...]
    class_names: Mapping[int, str]

    def read(self, image: int) -> tuple[AnyArray, AnyArray]:
        r"""Return the labels (\*spatial) and the stored predictions (K, \*spatial) of an image."""

    # What follows has plain defaults.

    def span(self, first: int, stop: int) -> Span:
        """Return consecutive images: what a task has to know of them."""
        return self.table.span(first, stop)

    @property
    def chunk(self) -> int:
        """Pixels of the flat axis that are stored together; 0 where images are read whole."""
        return 0

    @property
    def ahead(self) -> int:
        """Blocks that are read while one is worked on."""
        return 0

    @contextmanager
    def reading(self, span: Span, blocks: Iterable[Span]) -> Iterator[SpanReads]:
        """Yield what reads the blocks of a span, of whole images unless there is a `chunk`."""
        yield SpanReads(self._read_whole)

    def _read_whole(self, block: Span) -> tuple[AnyArray, AnyArray]:
        """Read the images of a block, and put them on one axis."""
        labels = np.empty(block.size, self.labels_dtype)
        stored = np.empty((self.num_classes, block.size), self.dtype)
        for part, number in zip(block.parts(1), block.numbers.tolist(), strict=True):
            (here,) = block.slices_of(part)
            given, predicted = self.read(number)
            labels[here] = given.reshape(-1)
            stored[:, here] = predicted.reshape(self.num_classes, -1)
        return labels, stored

    def read_labels(self, span: Span) -> AnyArray:
        """Return the labels (S,) of a span."""
        return np.concatenate(
            [self.read(number)[0].reshape(-1) for number in span.numbers.tolist()]
        )

    @property
    def arrays(self) -> Mapping[str, zarr.Array[Any]]:
        """What is read, by the name that it has in messages, as far as it is Zarr."""
        return {}

    @property
    def places(self) -> Mapping[str, str]:
        """Where what is read lies, by the name that it has in messages."""
        return {}

    def stamps(self, name: str, edges: Ints, images: Ints) -> Stamps | None:
        """Return what the store says of each group; see `stamps.group_stamps`.

        Parameters
        ----------
        name
            One of the `places`.
        edges, images
            int64 (groups + 1,) and (groups, 2): the pixels of the flat axis at which groups begin,
            and the first image of each and the one after its last.
        """
        return None

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what the answers depend on besides the table, as plain values."""
        return {}

    def coordinates(self) -> xr.Dataset:
        """Return what the output has besides the table: coordinates of images or classes."""
        return xr.Dataset()


@dataclass(frozen=True)
class StoredImages(ImageSource):
    """Images in a Zarr group, on one flat axis of pixels; see `segmentation.stored_images`."""

    images: FlatImages
    scale: float | None = None
    fill_labels: tuple[int, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # Of a million images the table is too much for each task to bring.
        return {name: value for name, value in vars(self).items() if name != "table"}

    @cached_property
    def table(self) -> ImageTable:  # type: ignore[override]
        return self.images.table()

    @property
    def _reader(self) -> BlockReader:
        return self.images.reader

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        return self._reader.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self._reader.pred_probs.dtype

    @property
    def labels_dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self._reader.labels.dtype

    @property
    def chunk(self) -> int:
        return self._reader.chunk[1]

    @property
    def ahead(self) -> int:
        return self._reader.ahead

    def read(self, image: int) -> tuple[AnyArray, AnyArray]:
        span = self.span(image, image + 1)
        shape = tuple(span.shapes[0].tolist())
        with self.reading(span, [span]) as reads:
            labels, stored = reads.read(span)
        return labels.reshape(shape), stored.reshape(-1, *shape)

    def span(self, first: int, stop: int) -> Span:
        return span_of_rows(self.images.group, first, stop)

    @contextmanager
    def reading(self, span: Span, blocks: Iterable[Span]) -> Iterator[SpanReads]:
        with reading_spans(self._reader, span, blocks) as (read, gaps):
            yield SpanReads(read, gaps)

    def read_labels(self, span: Span) -> AnyArray:
        labels: AnyArray = self._reader.read_labels(flat_extent(span))[0]
        return labels

    @property
    def arrays(self) -> Mapping[str, zarr.Array[Any]]:
        return {"labels": self._reader.labels, "pred_probs": self._reader.pred_probs}

    @property
    def places(self) -> Mapping[str, str]:
        return {name: location(array) for name, array in self.arrays.items()}

    def stamps(self, name: str, edges: Ints, images: Ints) -> Stamps | None:
        array, lineup = self.arrays[name], self._reader.lineup
        axis = (lineup.labels if name == "labels" else lineup.pred_probs).axes[-1]
        assert axis is not None
        length = (array.shards or array.chunks)[axis]

        def groups_of(position: Shape) -> Iterable[int]:
            first, stop = position[axis] * length, (position[axis] + 1) * length
            return range(*touched(edges, first, min(stop, array.shape[axis])))

        return stamps_by(name, array, len(images), groups_of)

    def fingerprint(self) -> Mapping[str, Any]:
        return self._reader.lineup.fingerprint()

    def coordinates(self) -> xr.Dataset:
        return self.images.coordinates()


def table_beside(labels: StoreLocation, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Say if labels are flat, with a table of images beside them."""
    return table_of(open_array(labels, "labels", storage_options)) is not None


def open_stored_images(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    storage_options: Mapping[str, Any] | None = None,
    class_dim: ClassDim = None,
) -> StoredImages:
    """Open flat labels and predictions, beside the first of which there is a table of images."""
    given = open_array(labels, "labels", storage_options)
    predicted = open_array(pred_probs, "pred_probs", storage_options)
    images = FlatImages.of(given, predicted, class_dim)
    return StoredImages(images, **images.facts())
