"""Where images of every size are: what the job needs to know of them, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.extent import NO_GAPS, Extent, Gaps
from dask_labelqc.images import ImageTable, Span, is_ragged, span_of_rows
from dask_labelqc.pipeline.runs import touched
from dask_labelqc.pipeline.stamps import Stamps, stamps_by
from dask_labelqc.storage.alignment import ClassDim
from dask_labelqc.storage.arrays import BlockReader, StoreLocation, location, open_array, siblings
from dask_labelqc.storage.class_names import class_names
from dask_labelqc.storage.containers import labels_fill, stored_scale
from dask_labelqc.storage.coordinates import class_labels, with_classes
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
    """Images in a Zarr group, on one flat axis of pixels, or anything that is laid out so.

    Attributes
    ----------
    reader
        Of flat labels and predictions, which it takes for one scene of one dimension.
    group
        Where the table is.
    """

    reader: BlockReader
    group: zarr.Group
    scale: float | None = None
    fill_labels: tuple[int, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # Of a million images the table is too much for each task to bring.
        return {name: value for name, value in vars(self).items() if name != "table"}

    @cached_property
    def table(self) -> ImageTable:  # type: ignore[override]
        return ImageTable.read(self.group)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        return self.reader.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.reader.pred_probs.dtype

    @property
    def labels_dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.reader.labels.dtype

    @property
    def chunk(self) -> int:
        return self.reader.chunk[1]

    @property
    def ahead(self) -> int:
        return self.reader.ahead

    def read(self, image: int) -> tuple[AnyArray, AnyArray]:
        span = self.span(image, image + 1)
        shape = tuple(span.shapes[0].tolist())
        with self.reading(span, [span]) as reads:
            labels, stored = reads.read(span)
        return labels.reshape(shape), stored.reshape(-1, *shape)

    def span(self, first: int, stop: int) -> Span:
        return span_of_rows(self.group, first, stop)

    @contextmanager
    def reading(self, span: Span, blocks: Iterable[Span]) -> Iterator[SpanReads]:
        with self.reader.for_region(_flat(span), map(_flat, blocks)) as read:

            def read_block(block: Span) -> tuple[AnyArray, AnyArray]:
                labels, stored = read(_flat(block))
                return labels[0], stored[0]

            def gaps(block: Span) -> Gaps:
                return _of_span(span, read.gaps(_flat(block)))

            yield SpanReads(read_block, gaps)

    def read_labels(self, span: Span) -> AnyArray:
        labels: AnyArray = self.reader.read_labels(_flat(span))[0]
        return labels

    @property
    def arrays(self) -> Mapping[str, zarr.Array[Any]]:
        return {"labels": self.reader.labels, "pred_probs": self.reader.pred_probs}

    @property
    def places(self) -> Mapping[str, str]:
        return {name: location(array) for name, array in self.arrays.items()}

    def stamps(self, name: str, edges: Ints, images: Ints) -> Stamps | None:
        array, lineup = self.arrays[name], self.reader.lineup
        axis = (lineup.labels if name == "labels" else lineup.pred_probs).axes[-1]
        assert axis is not None
        length = (array.shards or array.chunks)[axis]

        def groups_of(position: Shape) -> Iterable[int]:
            first, stop = position[axis] * length, (position[axis] + 1) * length
            return range(*touched(edges, first, min(stop, array.shape[axis])))

        return stamps_by(name, array, len(images), groups_of)

    def fingerprint(self) -> Mapping[str, Any]:
        return self.reader.lineup.fingerprint()

    def coordinates(self) -> xr.Dataset:
        classes = class_labels(self.reader.pred_probs, self.reader.lineup.class_dim)
        return with_classes(xr.Dataset(), classes)


def _flat(span: Span) -> Extent:
    """Return where the pixels of consecutive images are in the one scene that all are stored as."""
    start, stop = span.along
    return Extent((0, start), (1, stop))


def _of_span(span: Span, gaps: Gaps) -> Gaps:
    """Return the same gaps as those of images; of those beyond the span only what it has."""

    def images(region: Any) -> Span:
        first, last = span.along
        return span.run(max(region.start[1], first), min(region.stop[1], last))

    return replace(
        gaps,
        labels=tuple(images(region) for region in gaps.labels),
        pred_probs=tuple(replace(gap, extent=images(gap.extent)) for gap in gaps.pred_probs),
    )


def table_beside(labels: StoreLocation, storage_options: Mapping[str, Any] | None) -> bool:
    """Say if labels are flat, with a table of images beside them."""
    array = open_array(labels, "labels", storage_options)
    group = siblings(array) if array.ndim == 1 else None
    return group is not None and is_ragged(group)


def open_stored_images(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    storage_options: Mapping[str, Any] | None = None,
    class_dim: ClassDim = None,
) -> StoredImages:
    """Open flat labels and predictions, beside the first of which there is a table of images.

    Raises
    ------
    InputError
        They have not as many pixels as the images of the table.
    """
    given = open_array(labels, "labels", storage_options)
    predicted = open_array(pred_probs, "pred_probs", storage_options)
    group = siblings(given)
    assert group is not None
    reader = BlockReader.of(given, predicted, image_dim=False, class_dim=class_dim)
    source = StoredImages(
        reader,
        group,
        scale=stored_scale(predicted),
        fill_labels=labels_fill(given),
        class_names=class_names(given, predicted),
    )
    for name, shape in (("labels", reader.labels_shape), ("pred_probs", reader.shape)):
        if shape[-1] != source.table.num_pixels:
            raise InputError(
                f"{name}: {shape[-1]} pixels are stored at {location(source.arrays[name])}, and "
                f"the {source.table.num_images} images of the table beside the labels have "
                f"{source.table.num_pixels}; was the store written to the end?"
            )
    return source
