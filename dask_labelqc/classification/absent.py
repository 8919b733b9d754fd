"""Storage chunks of labels and predictions that were never written: an error, or a warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import zarr

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.storage.chunks import fill_value
from dask_labelqc.typing import Ints

__all__ = ["check_rows", "warn_of_labels", "warn_of_predictions"]

MOST_NAMED = 5
"""Runs of examples that a message names."""


def check_rows(pred_probs: zarr.Array[Any], transposed: bool, absent: Iterable[int]) -> None:
    """Raise InputError if no class of some examples is in the store.

    Parameters
    ----------
    pred_probs
        (N, K), or (K, N) if `transposed`.
    transposed
        Which axis is that of the examples.
    absent
        Numbers of the chunks that are not there.
    """
    rows, _ = _places(pred_probs, transposed, absent)
    axis = 1 if transposed else 0
    numbers, count = np.unique(rows, return_counts=True)
    (gone,) = np.nonzero(count == pred_probs.cdata_shape[1 - axis])
    if gone.size:
        raise InputError(
            f"pred_probs: the chunks of {_runs('example', numbers[gone], pred_probs, axis)} are "
            f"not in the store, where they would read as {fill_value(pred_probs)}; write the "
            "predictions of these examples, or leave the examples out"
        )


def warn_of_labels(labels: zarr.Array[Any], absent: Iterable[int], stacklevel: int = 3) -> None:
    """Warn, if labels of some examples are not in the store.

    Parameters
    ----------
    labels
        (N,).
    absent
        Numbers of the chunks that are not there.
    stacklevel
        Of the warning: 3 points to the caller of the public function that calls this.
    """
    numbers = np.array(sorted(absent), np.int64)
    if numbers.size:
        warnings.warn(
            f"labels: {numbers.size} of {labels.cdata_shape[0]} chunks are not in the store, those "
            f"of {_runs('example', numbers, labels, 0)}; they were read as class "
            f"{fill_value(labels)}. Zarr leaves out chunks of nothing but that value: if they were "
            "written, all is well",
            LabelQCWarning,
            stacklevel=stacklevel,
        )


def warn_of_predictions(
    pred_probs: zarr.Array[Any], transposed: bool, absent: Iterable[int], stacklevel: int = 3
) -> None:
    """Warn, if the probabilities of some classes are not in the store for some examples.

    The parameters are those of `check_rows` and of `warn_of_labels`.
    """
    rows, classes = _places(pred_probs, transposed, absent)
    if rows.size == 0:
        return
    axis = 1 if transposed else 0
    where = [
        f"{_runs('class', np.array([k]), pred_probs, 1 - axis)} of "
        f"{_runs('example', np.unique(rows[classes == k]), pred_probs, axis)}"
        for k in np.unique(classes)
    ]
    more = f" and {len(where) - MOST_NAMED} more" if len(where) > MOST_NAMED else ""
    warnings.warn(
        f"pred_probs: {rows.size} of {np.prod(pred_probs.cdata_shape)} chunks are not in the "
        f"store; these probabilities were read as {fill_value(pred_probs)}: "
        f"{'; '.join(where[:MOST_NAMED])}{more}",
        LabelQCWarning,
        stacklevel=stacklevel,
    )


def _places(
    pred_probs: zarr.Array[Any], transposed: bool, absent: Iterable[int]
) -> tuple[Ints, Ints]:
    """Return the places of chunks along the examples and along the classes."""
    numbers = np.array(sorted(absent), np.int64)
    first, second = np.unravel_index(numbers, pred_probs.cdata_shape)
    return (second, first) if transposed else (first, second)


def _runs(what: str, numbers: Ints, array: zarr.Array[Any], axis: int) -> str:
    """Name what lies in chunks of these ascending numbers, neighbours together."""
    chunk, size = array.chunks[axis], array.shape[axis]
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    ends = [(int(run[0]) * chunk, min((int(run[-1]) + 1) * chunk, size) - 1) for run in runs]
    named = [str(a) if a == b else f"{a} to {b}" for a, b in ends[:MOST_NAMED]]
    if len(ends) > MOST_NAMED:
        named.append(f"{len(ends) - MOST_NAMED} more runs")
    plural = {"example": "examples", "class": "classes"}[what]
    only = len(ends) == 1 and ends[0][0] == ends[0][1]
    return f"{what if only else plural} {', '.join(named)}"
