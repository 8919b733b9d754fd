"""Images that a `PredictionWriter` has put on record become arrays that an audit reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.images import IMAGE, IMAGE_ID, PIXEL, ImageTable
from dask_labelqc.storage.coordinates import SPATIAL
from dask_labelqc.storage.ledger import Entry, Ledger
from dask_labelqc.storage.packing import unpack
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["BEGUN", "LABELS_DTYPE", "SHAPE", "JoinedImages"]

CHUNK_PIXELS = 2**20
SHARD_CHUNKS = 16
SHARD_BYTES = 2**28
"""That a shard of predictions takes at the most, before it is compressed: it is held whole."""
BEGUN, SHAPE, LABELS_DTYPE = "begun", "shape", "labels_dtype"
"""Of the head of a record: when its first image came, the shapes, and an array of the dtype."""


@dataclass(frozen=True)
class JoinedImages:
    """The images of all records, each once.

    Attributes
    ----------
    ledger, entries
        The records, and their heads.
    table
        Of the images.
    kept
        Which of the images of each record are there; the others are in an earlier one.
    num_classes, dtype
        Of the predictions.
    """

    ledger: Ledger
    entries: Sequence[Entry]
    table: ImageTable
    kept: Sequence[Sequence[int]]
    num_classes: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, ledger: Ledger, num_classes: int, dtype: np.dtype[Any]) -> Self:
        """Read what images are on record, in the order in which they came.

        Raises
        ------
        InputError
            There are none, or they contradict one another.
        """
        found = ledger.heads(ledger.names())
        entries = sorted(found, key=lambda entry: (int(entry.head[BEGUN]), entry.name))
        first: dict[str, tuple[Entry, int]] = {}
        kept: list[list[int]] = []
        for entry in entries:
            _check_dims(entries[0], entry)
            kept.append([])
            for i, name in enumerate(entry.ids):
                if name in first:
                    _check_same(name, first[name], (entry, i))
                else:
                    first[name] = entry, i
                    kept[-1].append(i)
        shapes = np.array([entry.head[SHAPE][i] for entry, i in first.values()])
        if not first:
            raise InputError("images: none was written, there is nothing to finish")
        return cls(ledger, entries, ImageTable.of(list(first), shapes), kept, num_classes, dtype)

    @cached_property
    def labels_dtype(self) -> np.dtype[Any]:
        return np.result_type(*{entry.head[LABELS_DTYPE].dtype for entry in self.entries})

    def check_regular(self) -> None:
        """Raise InputError if images have several sizes."""
        if self.table.regular is None:
            by_size = np.argsort(self.table.shapes.prod(axis=1))[[0, -1]]
            sizes = [tuple(self.table.shapes[i].tolist()) for i in by_size]
            raise InputError(
                f"regular: images have different sizes, such as {sizes[0]} and "
                f"{sizes[1]}; leave it out"
            )

    def write(self, regular: bool) -> zarr.Group:
        """Write both arrays and the table."""
        shape = self.table.regular
        group = zarr.open_group(self.ledger.store, mode="a")
        labels, pred_probs = self._arrays(group, shape if regular else None)
        length = labels.shards or labels.chunks
        start = 0
        for given, predicted in self._runs(length[0] if not regular else length[0] * self._pixels):
            here = slice(start, start + given.size)
            if regular:
                images = slice(start // self._pixels, (start + given.size) // self._pixels)
                sides = labels.shape[1:]
                labels[images] = given.reshape(-1, *sides)
                whole = predicted.reshape(self.num_classes, -1, *sides)
                pred_probs[images] = np.moveaxis(whole, 0, 1)
            else:
                labels[here] = given
                pred_probs[:, here] = predicted
            start += given.size
        if regular:
            self.table.write_column(group, IMAGE_ID)
        else:
            self.table.write(group)
        return group

    @property
    def _pixels(self) -> int:
        """Of an image, where all have one size."""
        return int(self.table.shapes[0].prod())

    def _arrays(
        self, group: zarr.Group, regular: Shape | None
    ) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
        """Create both arrays: chunks of all classes, in shards that a process can hold."""
        pixel_bytes = self.num_classes * self.dtype.itemsize
        whole = self.table.num_pixels
        shards = max(min(SHARD_CHUNKS, SHARD_BYTES // (CHUNK_PIXELS * pixel_bytes)), 1)
        sides: Shape = () if regular is None else regular[1:]
        dims = (PIXEL,) if regular is None else (IMAGE, *SPATIAL[-len(sides) :])
        each = 1 if regular is None else self._pixels
        length = whole // each
        chunk = min(max(CHUNK_PIXELS // each, 1), length)
        shards = chunk * min(shards, -(-length // chunk))

        def with_classes(first: Any, sides: Sequence[Any], classes: Any) -> tuple[Any, ...]:
            """Put the classes first where pixels are in a row, else after the images."""
            return (classes, first) if regular is None else (first, classes, *sides)

        create: Any = partial(
            group.create_array,
            overwrite=True,
            # What is not there reads as class 0, of which an audit warns.
            config={"write_empty_chunks": True},
        )
        labels = create(
            "labels",
            shape=(length, *sides),
            dtype=self.labels_dtype,
            chunks=(chunk, *sides),
            shards=(shards, *sides),
            dimension_names=dims,
        )
        pred_probs = create(
            "pred_probs",
            shape=with_classes(length, sides, self.num_classes),
            dtype=self.dtype,
            chunks=with_classes(chunk, sides, self.num_classes),
            shards=with_classes(shards, sides, self.num_classes),
            dimension_names=with_classes(dims[0], dims[1:], "class"),
            attributes=_scale(self.dtype),
        )
        return labels, pred_probs

    def _runs(self, length: int) -> Iterator[tuple[AnyArray, AnyArray]]:
        """Yield labels (S,) and predictions (K, S) of all pixels, so many at a time."""
        held: list[tuple[AnyArray, AnyArray]] = []
        size = 0
        for part in self._contents():
            held.append(part)
            size += part[0].size
            while size >= length:
                given, predicted = _concatenated(held)
                yield given[:length], predicted[:, :length]
                held, size = [(given[length:], predicted[:, length:])], size - length
        if size:
            yield _concatenated(held)

    def _contents(self) -> Iterator[tuple[AnyArray, AnyArray]]:
        """Yield the images of each record that are kept."""
        for entry, kept in zip(self.entries, self.kept, strict=True):
            if not kept:
                continue
            body = self.ledger.read(entry.name).body
            given = unpack(body["labels"], entry.head[LABELS_DTYPE].dtype)
            predicted = unpack(body["pred_probs"], self.dtype).reshape(self.num_classes, -1)
            if len(kept) < len(entry.ids):
                # By number: one that came twice is here twice.
                here = ImageTable.of(range(len(entry.ids)), entry.head[SHAPE]).some(kept)
                index = here.flat_index(np.arange(here.size))
                given, predicted = given[index], predicted[:, index]
            yield given.astype(self.labels_dtype, copy=False), predicted


def _check_dims(first: Entry, entry: Entry) -> None:
    """Raise InputError if the images of two records have not as many dimensions."""
    dims, others = first.head[SHAPE].shape[1], entry.head[SHAPE].shape[1]
    if dims != others:
        raise InputError(
            f"labels: {first.ids[0]!r} has {dims} dimensions and {entry.ids[0]!r} has {others}; "
            f"write them to stores of their own: delete the records of {first.writer} or of "
            f"{entry.writer} here"
        )


def _check_same(name: str, first: tuple[Entry, int], other: tuple[Entry, int]) -> None:
    """Raise InputError if an image came twice, and not the same."""
    if np.array_equal(*(entry.hashes[i] for entry, i in (first, other))):
        return
    raise InputError(
        f"ids: the image {name!r} was written twice, and not with the same labels and predictions: "
        f"in the records {first[0].name} and {other[0].name}; delete one of them and write what "
        "missing() returns then, or give the images other ids in a new place"
    )


def _scale(dtype: np.dtype[Any]) -> dict[str, float]:
    """Return the attributes by which integers become probabilities."""
    return {"scale_factor": 1 / np.iinfo(dtype).max} if dtype.kind == "u" else {}


def _concatenated(parts: Sequence[tuple[AnyArray, AnyArray]]) -> tuple[AnyArray, AnyArray]:
    if len(parts) == 1:
        return parts[0]
    labels, stored = zip(*parts, strict=True)
    return np.concatenate(labels), np.concatenate(stored, axis=1)
