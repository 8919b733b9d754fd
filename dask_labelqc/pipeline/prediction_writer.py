"""Keep the predictions of a model, batch by batch, as a dataset that an audit reads.

Batches become records: objects with what was put into them, each written whole. Any number of
processes make them side by side, none waits for another, and what a process that was killed had not
yet put into one is all that is lost. In the end one process lays the records out as arrays, every
shard of which it writes once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
import zarr
from array_api_compat import array_namespace

from dask_labelqc.arguments import (
    check_flag,
    names_of_classes,
    number_of_classes,
    positive_integer,
    texts_of_ids,
)
from dask_labelqc.devices.arrays import in_memory, to_host
from dask_labelqc.devices.condense import probabilities
from dask_labelqc.errors import InputError, LabelQCError, OutputError
from dask_labelqc.kernels.tiles import PROBABILITY_TOLERANCE
from dask_labelqc.pipeline.lease import hold
from dask_labelqc.pipeline.output import output_store, writing
from dask_labelqc.pipeline.prediction_layout import BEGUN, LABELS_DTYPE, SHAPE, JoinedImages
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.ledger import FOLDER, HASH_BYTES, PARAMETERS, PREDICTIONS, Ledger
from dask_labelqc.storage.objects import (
    is_absent,
    list_names,
    read_object,
    remove_folder,
    remove_object,
    write_object,
)
from dask_labelqc.storage.packing import pack
from dask_labelqc.storage.recorder import Recorder
from dask_labelqc.typing import AnyArray

__all__ = ["PredictionWriter", "StoredDtype"]

StoredDtype = Literal["uint8", "uint16", "float16", "float32"]

FORM = 1
"""Of the records; those of another form say something else by the same names."""
PART_BYTES = 2**26
"""Of labels and predictions of a record, as they are stored but for their compression."""
PART_IMAGES = 2**14
FINISHING = f"{FOLDER}/finishing"
"""Is there from when the records are counted that are to be laid out."""


@dataclass(frozen=True)
class _Images:
    r"""Images that wait for a record: labels (\*spatial), and predictions (K, \*spatial)."""

    ids: Sequence[str]
    labels: Sequence[AnyArray]
    stored: Sequence[AnyArray]
    begun: int

    @property
    def hashes(self) -> AnyArray:
        """Of what each is, however wide the dtype of its labels."""
        digests = [
            hashlib.blake2b(repr(labels.shape).encode(), digest_size=HASH_BYTES)
            for labels in self.labels
        ]
        for digest, labels, stored in zip(digests, self.labels, self.stored, strict=True):
            digest.update(labels.astype(np.int64).data)
            digest.update(np.ascontiguousarray(stored).data)
        found = np.frombuffer(b"".join(digest.digest() for digest in digests), np.uint8)
        return found.reshape(-1, HASH_BYTES)

    @property
    def num_bytes(self) -> int:
        return sum(image.nbytes for image in (*self.labels, *self.stored))

    def follows(self, other: _Images) -> bool:
        return self.labels[0].ndim == other.labels[0].ndim

    def joined_with(self, others: Sequence[_Images]) -> _Images:
        parts = [self, *others]
        ids, labels, stored = (
            [image for part in parts for image in getattr(part, name)]
            for name in ("ids", "labels", "stored")
        )
        return _Images(ids, labels, stored, self.begun)

    def head(self) -> dict[str, AnyArray]:
        dtype = np.result_type(*{image.dtype for image in self.labels})
        shapes = np.array([image.shape for image in self.labels])
        return {BEGUN: np.array(self.begun), SHAPE: shapes, LABELS_DTYPE: np.zeros(0, dtype)}

    def body(self) -> dict[str, AnyArray]:
        dtype = self.head()[LABELS_DTYPE].dtype
        given = np.concatenate([image.astype(dtype).reshape(-1) for image in self.labels])
        flat = [image.reshape(len(image), -1) for image in self.stored]
        return {"labels": pack(given), "pred_probs": pack(np.concatenate(flat, axis=1))}


class _Recorder(Recorder[_Images]):
    """Puts images on record as long as nobody lays them out."""

    def flush(self) -> None:
        self._own()
        with self._lock:
            if self._waiting:
                self.check_unfinished("put on record", within=False)
                super().flush()
                # Who began to finish meanwhile may have counted the records before.
                self.check_unfinished("put on record for sure", within=False)

    def missing(self, ids: Iterable[str]) -> list[str]:
        self.check_unfinished("looked up")
        return super().missing(ids)

    def check_unfinished(self, what: str, *, within: bool = True) -> None:
        """Raise OutputError if the records are laid out, or, not `within` that, if they are being.

        Parameters
        ----------
        what
            That cannot be done with images.
        within
            Whether it may be done meanwhile.
        """
        store = self._ledger.store
        if self._ledger.parameters() is None:
            raise OutputError(
                f"store: {str(store)!r} is finished, no more images can be {what}; name a new place"
            )
        if not within and read_object(store, FINISHING) is not None:
            raise OutputError(
                f"store: {str(store)!r} is being finished, no more images can be {what}; name a "
                "new place, or where that was killed, call finish() again"
            )

    @contextmanager
    def finishing(self, url: str) -> Iterator[Ledger]:
        """Give the records to be laid out, alone; after that there are none, and no writers."""
        self.check_unfinished("finished")
        store = self._ledger.store
        with hold(store, url):
            self.check_unfinished("finished")  # by who held it before
            remove_object(store, FINISHING)  # of who was killed
            self.flush()
            write_object(store, FINISHING, b"")
            try:
                yield self._ledger
            except InputError:  # nothing was laid out
                remove_object(store, FINISHING)
                raise
            remove_object(store, PARAMETERS)  # first: then it is finished
            remove_folder(store, FOLDER)


class PredictionWriter:
    r"""Writes labels and predictions of images of any sizes, as an audit reads them.

    Probabilities are stored as integers by default: as ``round(255 p)`` they take a quarter of the
    space of float32. Of a hard set of labels that changed 0.06 % of the issues, where float16
    changed 0.01 %. Logits become probabilities in float32 before.

    Several processes may write to one store, each with a writer of its own. What a process has
    written is there for good once `close` has returned, or a part was full; one that was killed is
    started again with the images that are `missing`. When all are there, one process calls
    `finish`. Threads may share a writer; a copy of it, in a process that was forked or by pickle,
    is a writer of its own that holds nothing.

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
        self._num_classes = number_of_classes("num_classes", num_classes)
        if dtype not in get_args(StoredDtype):
            allowed = ", ".join(get_args(StoredDtype))
            raise InputError(f"dtype: got {dtype!r}, it must be one of {allowed}")
        self._url, self._dtype = str(store), np.dtype(dtype)
        with _of_store(self._url):
            _check_place(store, storage_options)
            self._recorder = _Recorder(
                store,
                {
                    "form": FORM,
                    "what": PREDICTIONS,
                    "num_classes": self._num_classes,
                    "dtype": self._dtype.name,
                },
                flush_items=PART_IMAGES,
                flush_bytes=positive_integer("part_bytes", part_bytes),
                storage_options=storage_options,
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
            What each image is called, texts or whole numbers. An image that comes again, as from a
            sampler that pads, counts once; it must be the same.
        labels
            Integers (n, \*spatial), or a list of arrays (\*spatial): NumPy, torch, JAX, CuPy.
        pred_probs, logits
            One of them: (n, K, \*spatial), or a list of arrays (K, \*spatial). Probabilities may
            be of the stored dtype already.

        Raises
        ------
        InputError
            What is given does not fit, and nothing of the batch is taken; names the image.
        OutputError
            It cannot be written, or it is finished.
        """
        if (pred_probs is None) == (logits is None):
            raise InputError("pred_probs, logits: give one of them")
        names = texts_of_ids(ids)
        predictions = logits if pred_probs is None else pred_probs
        if not len(names) == len(labels) == len(predictions):
            raise InputError(
                f"ids, labels, predictions: got {len(names)}, {len(labels)} and "
                f"{len(predictions)} of them; they must be as many"
            )
        _check_unmasked(names, labels, predictions)
        stored = self._stored(names, predictions, from_logits=pred_probs is None)
        # Copies: who predicts uses the memory of a batch again.
        given = [np.array(to_host(image)) for image in labels]
        images = list(zip(names, given, stored, strict=True))
        for image in images:
            _check_image(*image, self._num_classes)
        with _of_store(self._url):
            for name, labeled, predicted in images:
                self._recorder.add(_Images([name], [labeled], [predicted], time.time_ns()))

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

    def close(self) -> None:
        """Write what is held; the writer may go on after that."""
        with _of_store(self._url):
            self._recorder.flush()

    def missing(self, ids: Iterable[Any]) -> list[str]:
        """Return those of some ids, in their order, that no process has written.

        What this writer holds counts as written.
        """
        with _of_store(self._url):
            return self._recorder.missing(texts_of_ids(ids))

    def finish(
        self, *, regular: bool = False, class_names: Sequence[str] | None = None
    ) -> zarr.Group:
        """Lay out what all processes have written as a dataset; one of them does this, at the end.

        An image that was written twice, the same, is there once. Killed on the way, this is done
        again; once it is done, nothing can be written here any more.

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
            There are no images, one was written twice and not the same, they have not one size and
            it is to be regular, or the names are not those of K classes.
        OutputError
            It is finished, or another process is finishing it; or it cannot be written.
        """
        check_flag("regular", regular)
        names = names_of_classes(class_names, self._num_classes)
        with _of_store(self._url), self._recorder.finishing(self._url) as ledger:
            joined = JoinedImages.of(ledger, self._num_classes, self._dtype)
            if regular:
                joined.check_regular()
            group = joined.write(regular)
            if names:
                group.attrs["class_names"] = [
                    names.get(k, str(k)) for k in range(self._num_classes)
                ]
            consolidate(group)
        return zarr.open_group(ledger.store, mode="r")


@contextmanager
def _of_store(url: str) -> Iterator[None]:
    """Say which store cannot be written; what is an output elsewhere is called a store here."""
    try:
        with writing(url):
            yield
    except LabelQCError as error:
        error.message = error.message.replace("output: ", "store: ", 1)
        raise


def _check_place(url: str | Path, storage_options: Mapping[str, Any] | None) -> None:
    """Raise OutputError if there is something else than records of predictions."""
    store = output_store(url, storage_options)
    there = [] if is_absent(store) else list_names(store, "")
    if not there or read_object(store, PARAMETERS) is not None:
        return
    if "zarr.json" not in there:
        others = [name for name in there if name != FOLDER and not name.endswith(".partial")]
        if others:
            raise OutputError(
                f"store: {str(url)!r} exists and has other files; name a new place for it"
            )
        return
    found = set(zarr.open_group(store, mode="r"))
    if {"labels", "pred_probs", "image_id"} <= found:
        raise OutputError(
            f"store: {str(url)!r} is finished, no more images can be written; name a new place. "
            "The images that are there are in its image_id"
        )
    raise OutputError(f"store: {str(url)!r} is a Zarr group of something else; name a new place")


def _check_unmasked(names: Sequence[str], labels: Any, predictions: Any) -> None:
    """Raise InputError for the first image with masked pixels, which a store would not know of."""
    for what, images in (("labels", labels), ("pred_probs", predictions)):
        parts = images if isinstance(images, list | tuple) else [images]
        if not any(np.ma.is_masked(part) for part in parts):
            continue
        name = next(n for n, image in zip(names, images, strict=True) if np.ma.is_masked(image))
        raise InputError(
            f"{what}: {name!r} has masked pixels, and masks are not stored; give these pixels a "
            "label of their own, such as 255, and audit with ignore_index of it"
        )


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
    if not labels.size:
        raise InputError(f"labels: {name!r} has shape {labels.shape}; it must have pixels")
