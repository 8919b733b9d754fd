"""Keep the predictions of a model, batch by batch, as a dataset that an audit reads.

Batches become parts: one object each with what was put into it, and a small one that says so once
the first is whole. Any number of processes make them side by side, none waits for another, and what
a process that was killed had not yet put into one is all that is lost. In the end one process lays
the parts out as arrays, every shard of which it writes once.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
import zarr
from array_api_compat import array_namespace

from dask_labelqc.arguments import positive_integer
from dask_labelqc.devices.arrays import in_memory, to_host
from dask_labelqc.devices.condense import probabilities
from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.images import IMAGE, IMAGE_ID, PIXEL, ImageTable
from dask_labelqc.kernels.tiles import PROBABILITY_TOLERANCE
from dask_labelqc.pipeline.output import output_store, writing
from dask_labelqc.storage.coordinates import SPATIAL
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.objects import (
    create_object,
    is_absent,
    list_names,
    read_object,
    remove_folder,
    remove_object,
    write_object,
)
from dask_labelqc.storage.packing import pack, unpack
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["PredictionWriter", "StoredDtype"]

StoredDtype = Literal["uint8", "uint16", "float16", "float32"]

PART_BYTES = 2**26
"""Of labels and predictions of a part, as they are stored but for their compression."""
CHUNK_PIXELS = 2**20
SHARD_CHUNKS = 16
SHARD_BYTES = 2**28
"""That a shard of predictions takes at the most, before it is compressed: it is held whole."""
PARTS, HEAD, BEGUN = "parts", ".json", "writer.json"
HEADS_AT_ONCE = 16


@dataclass(frozen=True)
class _Head:
    """What is in a part; it is written when the part is whole."""

    name: str
    ids: list[str]
    shapes: list[list[int]]
    labels_dtype: str
    sizes: tuple[int, int]


class PredictionWriter:
    r"""Writes labels and predictions of images of any sizes, as an audit reads them.

    Probabilities are stored as integers by default: as ``round(255 p)`` they take a quarter of the
    space of float32. Of a hard set of labels that changed 0.06 % of the issues, where float16
    changed 0.01 %. Logits become probabilities in float32 before.

    Several processes may write to one store, each with a writer of its own. What a process has
    written is there for good once `close` has returned, or a part was full; one that was killed is
    started again with the images that are `missing`. When all are there, one process calls
    `finish`.

    Parameters
    ----------
    store
        Path or URL of the Zarr group to make.
    num_classes
        K.
    dtype
        Of the stored predictions: "uint8", "uint16", "float16" or "float32".
    part_bytes
        What a process holds, and may lose, before it is written.
    storage_options
        Of the store that the URL names; see `audit_zarr`.

    Raises
    ------
    InputError
        An argument cannot be used.
    OutputError
        The store is finished, was begun with other arguments, or cannot be written.

    See Also
    --------
    dask_labelqc.audit_zarr : what to do with it: ``audit_zarr("it/labels", "it/pred_probs", ...)``.

    Examples
    --------
    >>> import tempfile
    >>> rng = np.random.default_rng(0)
    >>> with PredictionWriter(f"{tempfile.mkdtemp()}/predictions.zarr", num_classes=3) as writer:
    ...     for name, size in (("a", (4, 6)), ("b", (5, 2))):
    ...         labels = rng.integers(0, 3, (1, *size))
    ...         writer.write([name], labels, logits=rng.normal(size=(1, 3, *size)))
    >>> writer.missing(["a", "b", "c"])
    ['c']
    >>> group = writer.finish()
    >>> group["pred_probs"].shape, group["height"][:]
    ((3, 34), array([4, 5]))
    """

    def __init__(
        self,
        store: str | Path,
        num_classes: int,
        dtype: StoredDtype = "uint8",
        *,
        part_bytes: int = PART_BYTES,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if positive_integer("num_classes", num_classes) < 2:
            raise InputError(f"num_classes: got {num_classes}, it must be 2 or more")
        if dtype not in get_args(StoredDtype):
            allowed = ", ".join(get_args(StoredDtype))
            raise InputError(f"dtype: got {dtype!r}, it must be one of {allowed}")
        self._url, self._num_classes, self._dtype = str(store), num_classes, np.dtype(dtype)
        self._part_bytes = positive_integer("part_bytes", part_bytes)
        self._store = output_store(store, storage_options)
        # In the order in which writers began; each has its own names, so that none overwrites.
        self._name, self._parts = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", 0
        self._held: list[tuple[str, AnyArray, AnyArray]] = []
        self._bytes = 0
        with writing(self._url):
            self._begin()

    def _begin(self) -> None:
        """Be the first who writes here, or see that those before were begun alike."""
        about = {"num_classes": self._num_classes, "dtype": self._dtype.name}
        found = None if is_absent(self._store) else read_object(self._store, BEGUN)
        if found is None:
            if not is_absent(self._store) and read_object(self._store, "zarr.json") is not None:
                raise OutputError(
                    f"store: {self._url!r} is a Zarr group, finished or not of this; name a new "
                    "place"
                )
            if create_object(self._store, BEGUN, json.dumps(about).encode()):
                return
            found = read_object(self._store, BEGUN)
        had = json.loads(found or b"{}")
        for name, value in about.items():
            if had.get(name) != value:
                raise OutputError(
                    f"store: {self._url!r} was begun with {name}={had.get(name)!r}, now it is "
                    f"{value!r}; name a new place, or go on as it was begun"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def write(
        self,
        ids: Iterable[Any],
        labels: Any,
        *,
        pred_probs: Any = None,
        logits: Any = None,
    ) -> None:
        r"""Add a batch of images.

        Parameters
        ----------
        ids
            What each image is called, as text.
        labels
            Integers (n, \*spatial), or a list of arrays (\*spatial): NumPy, torch, JAX, CuPy.
        pred_probs, logits
            One of them: (n, K, \*spatial), or a list of arrays (K, \*spatial). Probabilities may
            be of the stored dtype already.

        Raises
        ------
        InputError
            What is given does not fit; names the image.
        OutputError
            It cannot be written.
        """
        if (pred_probs is None) == (logits is None):
            raise InputError("pred_probs, logits: give one of them")
        names, predictions = [str(i) for i in ids], logits if pred_probs is None else pred_probs
        if not len(names) == len(labels) == len(predictions):
            raise InputError(
                f"ids, labels, predictions: got {len(names)}, {len(labels)} and "
                f"{len(predictions)} of them; they must be as many"
            )
        stored = self._stored(names, predictions, from_logits=pred_probs is None)
        for name, given, predicted in zip(names, labels, stored, strict=True):
            # A copy: who predicts uses the memory of a batch again.
            image = np.array(to_host(given))
            _check_image(name, image, predicted, self._num_classes)
            self._held.append((name, image, predicted))
            self._bytes += image.nbytes + predicted.nbytes
            if self._bytes >= self._part_bytes:
                self._flush()

    def _stored(
        self, names: Sequence[str], predictions: Any, *, from_logits: bool
    ) -> Iterator[AnyArray]:
        """Yield the predictions (K, *spatial) of each image as they are stored, in memory."""
        if isinstance(predictions, list | tuple):
            for name, image in zip(names, predictions, strict=True):
                yield from self._stored([name], image[None], from_logits=from_logits)
            return
        host = in_memory(predictions)
        if host is not None and host.dtype == self._dtype and self._dtype.kind == "u":
            yield from np.array(host)
            return
        probs = probabilities(predictions if host is None else host, from_logits=from_logits)
        xp = array_namespace(probs)
        if self._dtype == np.uint8 and host is None:  # a quarter has to leave the device
            self._check(names, probs, xp)
            yield from to_host(xp.astype(xp.round(probs * 255), xp.uint8))
            return
        values = to_host(probs)
        self._check(names, values, np)
        if self._dtype.kind == "f":
            yield from values.astype(self._dtype)
            return
        largest = np.iinfo(self._dtype).max
        yield from np.rint(values * values.dtype.type(largest)).astype(self._dtype)

    def _check(self, names: Sequence[str], probs: Any, xp: Any) -> None:
        """Raise InputError for the first image with what is no probability, or none above 0."""
        least = 0.5 / np.iinfo(self._dtype).max if self._dtype.kind == "u" else 0.0
        usable = (probs >= 0) & (probs <= 1 + PROBABILITY_TOLERANCE)
        seen = xp.max(probs, axis=1) > least
        if bool(xp.all(usable)) and bool(xp.all(seen)):
            return
        for i, name in enumerate(names):
            if not bool(xp.all(usable[i])):
                raise InputError(
                    f"pred_probs: {name!r} has values that are not between 0 and 1, or not "
                    "finite; logits= takes logits"
                )
            if not bool(xp.all(seen[i])):
                raise InputError(
                    f"pred_probs: all {self._num_classes} probabilities of a pixel of {name!r} are "
                    f"0 as {self._dtype}; where there are so many classes, dtype='uint16'"
                )

    def _flush(self) -> None:
        """Write what is held as a part: its content, then what says that it is whole."""
        if not self._held:
            return
        ids, labels, stored = zip(*self._held, strict=True)
        dtype = np.result_type(*{image.dtype for image in labels})
        given = pack(np.concatenate([image.astype(dtype).reshape(-1) for image in labels]))
        predicted = pack(
            np.concatenate([image.reshape(self._num_classes, -1) for image in stored], axis=1)
        )
        name = f"{self._name}-{self._parts:06d}"
        shapes = [list(image.shape) for image in labels]
        sizes = given.nbytes, predicted.nbytes
        head = _Head(name, list(ids), shapes, dtype.str, sizes)
        with writing(self._url):
            content = given.tobytes() + predicted.tobytes()
            write_object(self._store, f"{PARTS}/{name}", content)
            write_object(self._store, f"{PARTS}/{name}{HEAD}", json.dumps(asdict(head)).encode())
        self._parts += 1
        self._held, self._bytes = [], 0

    def close(self) -> None:
        """Write what is held; the writer may go on after that."""
        self._flush()

    def missing(self, ids: Iterable[Any]) -> list[str]:
        """Return those of some ids, in their order, that no process has written.

        What this writer holds counts as written.
        """
        there = {name for head in self._heads() for name in head.ids}
        there |= {name for name, _, _ in self._held}
        return [name for name in map(str, ids) if name not in there]

    def _heads(self) -> list[_Head]:
        """Return what is in each part that is whole, in the order of the writers."""
        names = sorted(n for n in list_names(self._store, PARTS) if n.endswith(HEAD))

        def read(name: str) -> _Head:
            data = read_object(self._store, f"{PARTS}/{name}")
            assert data is not None
            return _Head(**json.loads(data))

        with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
            return list(pool.map(read, names))

    def finish(
        self, *, regular: bool = False, class_names: Sequence[str] | None = None
    ) -> zarr.Group:
        """Lay out what all processes have written as a dataset; one of them does this, at the end.

        An image that was written twice is there once, as it was written first. Killed on the way,
        this is done again.

        Parameters
        ----------
        regular
            Lay out images of one size as arrays (N, H, W) and (N, K, H, W).
        class_names
            Of the K classes; outputs take them over.

        Returns
        -------
        zarr.Group
            Of ``labels`` and ``pred_probs``, with ``image_id``; unless regular, these are along one
            axis of pixels, with ``height``, ``width`` and the ``offset`` of each image beside.

        Raises
        ------
        InputError
            There are no images, or they have not one size and it is to be regular.
        OutputError
            It cannot be written.
        """
        self._flush()
        with writing(self._url):
            joined = _Joined.of(self._store, self._heads(), self._num_classes, self._dtype)
            group = joined.write(regular)
            if class_names is not None:
                group.attrs["class_names"] = [str(name) for name in class_names]
            consolidate(group)
            remove_object(self._store, BEGUN)  # first: then it is finished
            remove_folder(self._store, PARTS)
        return zarr.open_group(self._store, mode="r")


def _check_image(name: str, labels: AnyArray, stored: AnyArray, num_classes: int) -> None:
    if labels.dtype.kind not in "iub" or not 1 <= labels.ndim <= 3:
        raise InputError(
            f"labels: {name!r} has shape {labels.shape} and dtype {labels.dtype}; it must be an "
            "array of integers of 1 to 3 dimensions"
        )
    if stored.shape != (num_classes, *labels.shape):
        raise InputError(
            f"pred_probs: {name!r} has shape {stored.shape}, it must be "
            f"{(num_classes, *labels.shape)}: the classes, and the shape of its labels"
        )


@dataclass(frozen=True)
class _Joined:
    """The images of all parts, each once."""

    store: Any
    heads: Sequence[_Head]
    table: ImageTable
    kept: Sequence[Sequence[int]]
    num_classes: int
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls, store: Any, heads: Sequence[_Head], num_classes: int, dtype: np.dtype[Any]
    ) -> _Joined:
        seen: set[str] = set()
        kept: list[list[int]] = []
        for head in heads:
            kept.append([])
            for i, name in enumerate(head.ids):
                if name not in seen:
                    seen.add(name)
                    kept[-1].append(i)
        chosen = [(head, i) for head, of_head in zip(heads, kept, strict=True) for i in of_head]
        dims = {len(head.shapes[i]) for head, i in chosen}
        if len(dims) > 1:
            raise InputError(f"labels: got images of {sorted(dims)} dimensions, they must be alike")
        shapes = np.array([head.shapes[i] for head, i in chosen] or np.zeros((0, 2)))
        table = ImageTable.of([head.ids[i] for head, i in chosen], shapes)
        return cls(store, heads, table, kept, num_classes, dtype)

    @cached_property
    def labels_dtype(self) -> np.dtype[Any]:
        return np.result_type(*{np.dtype(head.labels_dtype) for head in self.heads})

    def write(self, regular: bool) -> zarr.Group:
        """Write both arrays and the table."""
        shape = self.table.regular
        if regular and shape is None:
            by_size = np.argsort(self.table.shapes.prod(axis=1))[[0, -1]]
            sizes = [tuple(self.table.shapes[i].tolist()) for i in by_size]
            raise InputError(
                f"regular: images have different sizes, such as {sizes[0]} and "
                f"{sizes[1]}; leave it out"
            )
        group = zarr.open_group(self.store, mode="a")
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
        """Yield the images of each part that are kept."""
        for head, kept in zip(self.heads, self.kept, strict=True):
            if not kept:
                continue
            data = read_object(self.store, f"{PARTS}/{head.name}")
            if data is None or len(data) != sum(head.sizes):
                raise OutputError(f"store: the part {head.name} is not what was written")
            content = np.frombuffer(data, np.uint8)
            given = unpack(content[: head.sizes[0]], np.dtype(head.labels_dtype))
            predicted = unpack(content[head.sizes[0] :], self.dtype).reshape(self.num_classes, -1)
            if len(kept) < len(head.ids):
                here = ImageTable.of(head.ids, head.shapes).some(kept)
                index = here.flat_index(np.arange(here.size))
                given, predicted = given[index], predicted[:, index]
            yield given.astype(self.labels_dtype, copy=False), predicted


def _scale(dtype: np.dtype[Any]) -> dict[str, float]:
    """Return the attributes by which integers become probabilities."""
    return {"scale_factor": 1 / np.iinfo(dtype).max} if dtype.kind == "u" else {}


def _concatenated(parts: Sequence[tuple[AnyArray, AnyArray]]) -> tuple[AnyArray, AnyArray]:
    if len(parts) == 1:
        return parts[0]
    labels, stored = zip(*parts, strict=True)
    return np.concatenate(labels), np.concatenate(stored, axis=1)
