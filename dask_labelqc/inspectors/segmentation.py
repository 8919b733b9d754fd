"""An audit inside the loop that predicts: what is learned of images, put on record as they come."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from dask_labelqc.arguments import (
    names_of_classes,
    number_of_classes,
    positive_integer,
    texts_of_ids,
)
from dask_labelqc.devices.arrays import on_host
from dask_labelqc.devices.scan import scan_predictions
from dask_labelqc.errors import Advice, InputError, LabelQCWarning
from dask_labelqc.extent import Extent
from dask_labelqc.inspectors.arguments import check_bound, check_class_axis
from dask_labelqc.inspectors.facts import ImageFacts, facts_of_scan, stored_dtype
from dask_labelqc.inspectors.recording import Recording
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.predictions import without_masked
from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.statistics import WorstSum
from dask_labelqc.method.validity import check_labels, check_predictions, wrong_sum
from dask_labelqc.storage.recorder import Recorder, check_repeated
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["FORM", "WHAT", "SegmentationInspector"]

FORM = 1
"""Of the records; those of another form say something else by the same names."""
WHAT = "segmentation"
BOUND = "; if that is meant, make inspectors with bound=1: to finish may need what others leave out"
FLUSH_BYTES = 64 * 2**20
FLUSH_IMAGES = 4096
STACKED, STACKED_PIXELS = 64, 2**14
"""How many images of a list are scanned together, which copies them, and the pixels of each."""
MOST_PIXELS = 2**31
"""Of an image: their probabilities add up to 63 bits."""


class SegmentationInspector(Recording):
    r"""Audit the labels of images while a model predicts, without storing predictions.

    What the audit needs of an image is a small record; `update` makes it, and puts the records of
    many images into the output as one object. Any number of inspectors, in any processes, may
    write to one output. `finish_audit` makes the audit of all records, the same that `audit_zarr`
    makes of the predictions.

    Parameters
    ----------
    output
        Path or URL of the output to make.
    num_classes
        K.
    ignore_index
        Label, or several, of pixels that take part in nothing.
    temperature
        Of the softmin image score.
    class_names
        Of the K classes, or of some by their number.
    bound
        Up to which score pixels that agree with their prediction are on record. The usual bound is
        enough for probabilities that sum to one; 1 is for others.
    class_axis
        Which axis of the predictions of a batch has the classes; -1 where it is the last.
    flush_bytes, flush_images
        How much may wait to be put on record, which is what is lost if the process is killed.
    storage_options
        Of the store that the URL names, as in `dask_labelqc.storage.stores.open_store`.

    Raises
    ------
    InputError
        An argument cannot be used.
    OutputError
        The output is there and is something else, or its records were made with other parameters.

    See Also
    --------
    dask_labelqc.finish_audit

    Notes
    -----
    Threads may share an inspector. A copy of it, in a process that was forked or by pickle, is a
    writer of its own that has nothing waiting.

    Examples
    --------
    >>> import tempfile
    >>> labels = np.array([[[0, 0], [1, 1]]])
    >>> certain = np.array([[[0.9, 0.2], [0.1, 0.1]]])
    >>> pred_probs = np.stack([certain, 1 - certain], axis=1)
    >>> with SegmentationInspector(tempfile.mkdtemp(), num_classes=2) as inspector:
    ...     inspector.update(["tile_7"], labels, pred_probs=pred_probs)
    ...     inspector.missing(["tile_7", "tile_8"])
    ['tile_8']
    """

    def __init__(
        self,
        output: str | Path,
        num_classes: int,
        *,
        ignore_index: int | Iterable[int] | None = None,
        temperature: float = 0.1,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        bound: float | None = None,
        class_axis: int = 1,
        flush_bytes: int = FLUSH_BYTES,
        flush_images: int = FLUSH_IMAGES,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.num_classes = number_of_classes("num_classes", num_classes)
        self._options = Options.of(
            ignore_index=ignore_index, temperature=temperature, outputs=every_output()
        )
        self._class_names = names_of_classes(class_names, self.num_classes)
        self._bound = check_bound(bound)
        self._class_axis = check_class_axis(class_axis)
        self._recorder: Recorder[ImageFacts] = Recorder(
            output,
            {
                "form": FORM,
                "what": WHAT,
                "num_classes": self.num_classes,
                "ignore_index": list(self._options.ignore_index),
                "temperature": self._options.temperature,
                "class_names": {str(k): name for k, name in self._class_names.items()},
                "bound": self._bound,
            },
            flush_items=positive_integer("flush_images", flush_images),
            flush_bytes=positive_integer("flush_bytes", flush_bytes),
            storage_options=storage_options,
        )
        self._warned = False
        self._dtype: np.dtype[Any] | None = None
        self._ndim: int | None = None

    def update(self, ids: Any, labels: Any, *, logits: Any = None, pred_probs: Any = None) -> None:
        r"""Take in the labels and the predictions of some images.

        Parameters
        ----------
        ids
            Of the images, texts or whole numbers; an image of which the same is known already
            counts once.
        labels
            Integers (n, \*spatial), or a list of n images of any sizes.
        logits, pred_probs
            One of the two, (n, K, \*spatial) or a list of n arrays (K, \*spatial).

        Raises
        ------
        InputError
            The batch cannot be used, and nothing of it is taken in; the message names the image.
        StoreError, OutputError
            The records that were due cannot be written; they are kept, and tried again.
        """
        self._recorder.check_open()
        names = texts_of_ids(ids)
        if (logits is None) == (pred_probs is None):
            given = "both" if logits is not None else "neither"
            raise InputError(f"logits, pred_probs: got {given}, it must be one of the two")
        predictions = pred_probs if logits is None else logits
        argument = "pred_probs" if logits is None else "logits"
        batches = _batches(names, labels, predictions, argument)
        found = [self._scanned(*batch, argument) for batch in batches]
        check_repeated(found)
        for facts in found:
            self._recorder.add(facts)

    def _scanned(
        self, names: Sequence[str], labels: AnyArray, predictions: Any, argument: str
    ) -> ImageFacts:
        """Return what is known of the images of a batch of one size."""
        try:
            return self._facts(names, labels, predictions, from_logits=argument == "logits")
        except InputError as error:
            if error.advice is not None and "from_logits" in error.advice.arguments:
                error.advice = Advice("logits= is for logits", {})
            error.message = error.message.replace("pred_probs: ", f"{argument}: ", 1)
            raise

    def _facts(
        self, names: Sequence[str], labels: AnyArray, predictions: Any, from_logits: bool
    ) -> ImageFacts:
        if self._class_axis != 1:
            predictions = array_namespace(predictions).moveaxis(predictions, self._class_axis, 1)
        params = self._params(labels, predictions, from_logits)
        extent: Any = _Batch((0,) * labels.ndim, labels.shape, tuple(names))
        bound = params.bound if self._bound is None else max(self._bound, params.bound)
        bound = bound if bound < 1 else math.inf
        labels, predictions = without_masked(labels, predictions)
        encoded = encode_labels(labels, params.num_classes, params.ignore_index)
        check_labels(encoded, labels, extent, params)
        options = params.scan_options(bound)
        scan = scan_predictions(predictions, encoded.codes, options, params.table)
        check_predictions(*scan.unusable, predictions, extent, params)
        facts = facts_of_scan(names, scan, encoded.codes, params, bound)
        self._warn(facts, extent, params)
        return facts

    def _params(self, labels: AnyArray, predictions: Any, from_logits: bool) -> Parameters:
        """Check the shapes and dtypes of a batch."""
        params = Parameters.of_images(
            replace(self._options, from_logits=from_logits),
            labels.shape,
            labels.dtype,
            tuple(predictions.shape),
            _dtype_of(predictions),
            class_names=self._class_names,
        )
        if params.num_classes != self.num_classes:
            raise InputError(
                f"pred_probs: got shape {tuple(predictions.shape)}, K = {params.num_classes} "
                f"classes; num_classes is {self.num_classes}"
            )
        if math.prod(params.shape[1:]) >= MOST_PIXELS:
            raise InputError(
                f"labels: got shape {labels.shape}; an image must have fewer than {MOST_PIXELS:,} "
                "pixels, cut it into several"
            )
        dtype = stored_dtype(params)
        self._dtype = self._dtype or dtype
        if dtype != self._dtype:
            raise InputError(
                f"pred_probs: got dtype {dtype} after {self._dtype}; the predictions of one audit "
                "must have one dtype"
            )
        ndim = labels.ndim - 1
        self._ndim = self._ndim or ndim
        if ndim != self._ndim:
            raise InputError(
                f"labels: got images of {ndim} dimensions after those of {self._ndim}; the images "
                "of one audit must have as many, put others on record in an output of their own"
            )
        return params

    def _warn(self, facts: ImageFacts, extent: _Batch, params: Parameters) -> None:
        """Warn once of probabilities that do not sum to one."""
        for worst in facts.worst:
            size = extent.size // extent.shape[0]
            image, pixel = extent.place(worst.image * size + worst.position)
            found = WorstSum(worst.deviation, (image, *pixel), worst.total)
            message = wrong_sum(found, params.sum_tolerance)
            if message is not None and not self._warned:
                self._warned = True
                more = "" if self._bound == 1 else BOUND
                warnings.warn(f"{message}{more}", LabelQCWarning, stacklevel=5)


@dataclass(frozen=True)
class _Batch(Extent):
    """The pixels of a batch, whose images have ids."""

    ids: tuple[str, ...] = ()

    def place(self, index: int) -> tuple[Any, Shape]:
        image, pixel = super().place(index)
        return repr(self.ids[image]), pixel

    @property
    def name(self) -> str:
        if len(self.ids) == 1:
            return f"image {self.ids[0]!r}"
        return f"images {self.ids[0]!r} to {self.ids[-1]!r}"


def _batches(
    names: list[str], labels: Any, predictions: Any, argument: str
) -> list[tuple[list[str], AnyArray, Any]]:
    """Cut what is given into batches of images of one size."""
    together = not isinstance(labels, list | tuple) and not isinstance(predictions, list | tuple)
    for what, images in (("labels", labels), (argument, predictions)):
        shape = getattr(images, "shape", None)
        count = len(images) if isinstance(images, list | tuple) else (*(shape or ()), 0)[0]
        if count != len(names):
            raise InputError(f"{what}: got {count} images for {len(names)} ids")
    if not names:
        return []
    if together:
        return [(names, np.asanyarray(on_host(labels)), _array(predictions))]
    given = [np.asanyarray(on_host(image)) for image in labels]
    predicted = [_array(image) for image in predictions]
    return [
        ([names[i] for i in alike], _stacked([given[i] for i in alike]),
         _stacked([predicted[i] for i in alike]))
        for alike in _alike(given, predicted)
    ]  # fmt: skip


def _alike(labels: Sequence[AnyArray], predictions: Sequence[Any]) -> list[list[int]]:
    """Put small images together that can be one batch: what is done for each would cost more."""
    groups: dict[Any, list[int]] = {}
    seen: Counter[Any] = Counter()
    for i, (given, predicted) in enumerate(zip(labels, predictions, strict=True)):
        kind = given.shape, given.dtype, tuple(predicted.shape), str(predicted.dtype)
        masked = any(isinstance(array, np.ma.MaskedArray) for array in (given, predicted))
        alone = masked or given.size > STACKED_PIXELS
        groups.setdefault(i if alone else (kind, seen[kind] // STACKED), []).append(i)
        seen[kind] += 1
    return list(groups.values())


def _stacked(images: Sequence[Any]) -> Any:
    """Return a batch of images of one size."""
    if len(images) == 1:
        return images[0][None, ...]
    return array_namespace(*images).stack(images)


def _array(predictions: Any) -> Any:
    """Return predictions where they are if their framework can work on them, else as NumPy has."""
    return predictions if hasattr(predictions, "__dlpack__") else np.asanyarray(predictions)


def _dtype_of(predictions: Any) -> np.dtype[Any]:
    """Return what the dtype of any framework is once it is scanned."""
    if isinstance(predictions, np.ndarray):
        return predictions.dtype
    name = str(predictions.dtype).rpartition(".")[2]
    return np.dtype("float32" if name == "bfloat16" else name)
