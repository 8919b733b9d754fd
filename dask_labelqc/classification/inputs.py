"""Labels and predictions of examples in any container become one of two things.

In memory: NumPy arrays, memory maps too, and xarray over them. Lazy: everything else; the
predictions are a Zarr array, which the tasks read, or a Dask array, which they depend on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numpy.lib.format import MAGIC_PREFIX, open_memmap

from dask_labelqc.classification.absent import (
    check_rows,
    warn_of_labels,
    warn_of_predictions,
)
from dask_labelqc.classification.options import ExampleFormat, check_format
from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.method.format import warn_of_fill
from dask_labelqc.storage.arrays import open_array
from dask_labelqc.storage.class_names import class_names
from dask_labelqc.storage.containers import labels_fill, stored_scale
from dask_labelqc.storage.dimensions import place_attributes
from dask_labelqc.storage.gaps import watched
from dask_labelqc.storage.reading import decoding
from dask_labelqc.storage.together import lined_up
from dask_labelqc.typing import AnyArray, BoolArray

__all__ = [
    "ExampleArrays",
    "InMemoryExamples",
    "LazyExamples",
    "loaded",
    "mask_like",
    "name_examples",
    "normalize",
    "open_file",
]

ZIP = b"PK\x03\x04"
ArrayLike: TypeAlias = Any
"""numpy.ndarray (memmap too), zarr.Array, dask.array.Array, xarray.DataArray or a sequence."""


@dataclass(frozen=True)
class InMemoryExamples:
    """Labels (N,) and predictions (N, K) that are arrays of this process."""

    labels: AnyArray
    pred_probs: AnyArray
    form: ExampleFormat
    transposed: bool = False


@dataclass(frozen=True)
class LazyExamples:
    """Labels (N,) anywhere, and predictions (N, K) in Zarr, or (K, N) if `transposed`, or Dask."""

    labels: AnyArray | zarr.Array[Any] | da.Array
    pred_probs: zarr.Array[Any] | da.Array
    form: ExampleFormat
    transposed: bool = False


ExampleArrays: TypeAlias = InMemoryExamples | LazyExamples


def normalize(labels: ArrayLike, pred_probs: ArrayLike) -> ExampleArrays:
    """Check the inputs, and say how they will be read.

    Raises
    ------
    InputError
        Naming the argument, what it is, and what it may be.
    """
    scale = stored_scale(pred_probs)
    (given, predicted), lineup = lined_up({"labels": labels}, pred_probs, 0, None)
    layout = lineup.pred_probs
    in_zarr = isinstance(predicted, zarr.Array)
    transposed = in_zarr and layout.axes == (1, 0) and layout.order[0] is None
    if not (layout.is_plain or transposed):
        predicted = layout.ordered(
            layout.inwards(da.from_zarr(predicted) if in_zarr else predicted)
        )
    shape = predicted.shape[::-1] if transposed else predicted.shape
    form = check_format(given.shape, given.dtype, shape, predicted.dtype, scale)
    fill = labels_fill(labels)
    warn_of_fill(fill, form.num_classes)
    form = replace(form, class_names=class_names(labels, pred_probs), fill_labels=fill)
    if isinstance(predicted, np.ndarray):
        if isinstance(given, np.ndarray):
            return InMemoryExamples(given, predicted, form)
        predicted = da.from_array(predicted, chunks=(given.chunks[0], -1))
    return LazyExamples(given, predicted, form, transposed)


def loaded(examples: ExampleArrays) -> InMemoryExamples:
    """Return the examples in memory; a warning of theirs points to the caller of a method.

    Raises
    ------
    InputError
        Predictions of whole examples are not in their store.
    """
    if isinstance(examples, InMemoryExamples):
        return examples
    labels, absent_labels = _read(examples.labels, "labels", examples)
    pred_probs, absent = _read(examples.pred_probs, "pred_probs", examples)
    if isinstance(examples.pred_probs, zarr.Array):
        check_rows(examples.pred_probs, examples.transposed, absent)
        warn_of_predictions(examples.pred_probs, examples.transposed, absent, stacklevel=5)
    if isinstance(examples.labels, zarr.Array):
        warn_of_labels(examples.labels, absent_labels, stacklevel=5)
    return InMemoryExamples(
        labels, pred_probs.T if examples.transposed else pred_probs, examples.form
    )


def name_examples(start: int, stop: int) -> str:
    """Name a run of examples in a message.

    Examples
    --------
    >>> name_examples(3, 4), name_examples(3, 8)
    ('example 3', 'examples 3 to 7')
    """
    return f"example {start}" if start + 1 == stop else f"examples {start} to {stop - 1}"


def _read(array: ArrayLike, name: str, examples: LazyExamples) -> tuple[AnyArray, frozenset[int]]:
    """Return an array in memory, where a mask is kept, and which chunks are not in its store."""
    if isinstance(array, zarr.Array):
        reads = watched(array)
        with decoding(name, name_examples(0, examples.form.num_examples)):
            values = reads.read()
        return values, reads.chunks_missing_in(Extent((0,) * array.ndim, array.shape))
    values = array.compute() if isinstance(array, da.Array) else array[...]
    return values if isinstance(values, np.ma.MaskedArray) else np.asarray(values), frozenset()


def mask_like(labels: xr.DataArray, mask: BoolArray) -> xr.DataArray:
    """Return a mask of the examples with the coordinates of their labels."""
    attributes = place_attributes(labels.attrs)
    return xr.DataArray(mask, labels.coords, labels.dims, "label_issues", attributes)


def open_file(path: str | Path, name: str) -> AnyArray | zarr.Array[Any]:
    """Open a ``.npy`` file as a memory map, or else the Zarr array at a path or URL.

    Raises
    ------
    InputError
        There is neither; the message names the argument.
    """
    if not isinstance(path, str | Path):
        raise InputError(
            f"{name}: got {type(path).__name__}, it must be the path of a .npy file, "
            "or the path or URL of a Zarr array"
        )
    path = str(path)
    if not Path(path).is_file():
        if path.endswith(".npy") and "://" not in path and not Path(path).exists():
            raise InputError(f"{name}: there is no file {path!r}")
        return open_array(path, name)
    with Path(path).open("rb") as file:
        start = file.read(len(ZIP))
    if start == ZIP:
        raise InputError(
            f"{name}: {path!r} is not a .npy file: it is a ZIP file, as .npz files are; save one "
            "array with numpy.save"
        )
    if not start:
        raise InputError(f"{name}: {path!r} is not a .npy file: it is empty")
    try:
        return open_memmap(path, mode="r")
    except ValueError as error:
        if not MAGIC_PREFIX.startswith(start):
            raise InputError(f"{name}: {path!r} is not a .npy file: {error}") from error
        raise InputError(
            f"{name}: {path!r} is a .npy file that is cut off, damaged or of Python objects "
            f"({error}); write it again"
        ) from error
