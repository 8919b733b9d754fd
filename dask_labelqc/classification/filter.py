"""Find mislabeled examples, larger than memory or not."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.arguments import check_flag, number_of_threads, positive_integer
from dask_labelqc.classification.absent import warn_of_labels, warn_of_predictions
from dask_labelqc.classification.facts import FoundIssues
from dask_labelqc.classification.in_memory import in_memory
from dask_labelqc.classification.inputs import (
    ExampleArrays,
    InMemoryExamples,
    mask_like,
    normalize,
    open_file,
)
from dask_labelqc.classification.on_scheduler import on_scheduler
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.selection import ExampleMethod, find
from dask_labelqc.classification.validity import warn_if_none, warn_of_sum
from dask_labelqc.errors import InputError
from dask_labelqc.method.calls import call_progress
from dask_labelqc.method.sequence import Selection
from dask_labelqc.progress import progress_for
from dask_labelqc.storage.containers import ArrayLike, LazyArray, PlainArray
from dask_labelqc.typing import BoolArray, Ints

__all__ = ["find_label_issues_batched"]


class _Arguments(TypedDict, total=False):
    labels_file: str | Path | None
    pred_probs_file: str | Path | None
    batch_size: int
    n_jobs: int | None
    verbose: bool
    quality_score_kwargs: Mapping[str, Any] | None
    num_issue_kwargs: Mapping[str, Any] | None


@overload
def find_label_issues_batched(
    labels: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    *,
    return_mask: Literal[False] = False,
    **arguments: Unpack[_Arguments],
) -> Ints: ...


@overload
def find_label_issues_batched(
    labels: xr.DataArray,
    pred_probs: ArrayLike | None = None,
    *,
    return_mask: Literal[True],
    **arguments: Unpack[_Arguments],
) -> xr.DataArray: ...


@overload
def find_label_issues_batched(
    labels: PlainArray | LazyArray | None = None,
    pred_probs: ArrayLike | None = None,
    *,
    return_mask: Literal[True],
    **arguments: Unpack[_Arguments],
) -> BoolArray: ...


@overload
def find_label_issues_batched(
    labels: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    *,
    return_mask: bool,
    **arguments: Unpack[_Arguments],
) -> Ints | BoolArray | xr.DataArray: ...


def find_label_issues_batched(
    labels: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    *,
    labels_file: str | Path | None = None,
    pred_probs_file: str | Path | None = None,
    batch_size: int = 10000,
    n_jobs: int | None = 1,
    verbose: bool = True,
    quality_score_kwargs: Mapping[str, Any] | None = None,
    num_issue_kwargs: Mapping[str, Any] | None = None,
    return_mask: bool = False,
) -> Ints | BoolArray | xr.DataArray:
    """Return the examples whose label is estimated to be wrong.

    As many examples as confident learning (Northcutt et al., 2021) estimates to be mislabeled are
    selected, those of the lowest label quality score; the ones among them whose given label is
    the most probable class are dropped. Agrees with
    ``cleanlab.experimental.label_issues_batched.find_label_issues_batched``. Sums are exact, so
    the answer depends neither on the storage chunks nor on the scheduler.

    The answer is always in memory: it takes a byte for each example, where the predictions take
    K numbers. Predictions in Zarr and Dask arrays are read block by block on the Dask scheduler
    in use, a cluster if there is a client, and once; twice for the margin of adjusted
    probabilities. (Where the last issue ranks behind examples that were not kept, once more:
    probabilities that sum to more than one, or an entropy or adjusted scores that are far from
    alike throughout the dataset.) What is kept meanwhile is a few numbers of each example that
    disagrees with its prediction and of those that could rank before one; the docs have the
    bytes (how-to/chunks-and-memory).

    Parameters
    ----------
    labels
        Integers (N,) in 0..K-1; NumPy (memory maps too), Zarr, Dask, xarray, or a list. Floats
        that are whole numbers count as integers; NaN or a masked label (`numpy.ma`) leaves its
        example out, as does a masked probability.
    pred_probs
        (N, K): probabilities in float16, float32 or float64, or uint8 or uint16 whose largest
        value (or the ``scale_factor`` in their attributes) means 1. If labels and predictions are
        xarray arrays with an index of the examples, they are matched by it.
    labels_file, pred_probs_file
        Instead of the arrays: a ``.npy`` file, which is opened as a memory map, or the path or
        URL of a Zarr array.
    batch_size
        Examples that cleanlab goes through at a time. Here they are whole storage chunks, about
        24 MB of predictions; the answer depends on neither.
    n_jobs
        Threads for arrays in memory; None: one for each core. Zarr and Dask arrays use the
        workers of the scheduler.
    verbose
        Show the progress; for arrays in memory, of calls that last longer than two seconds.
    quality_score_kwargs
        ``method``: "self_confidence" (the default), "normalized_margin" or
        "confidence_weighted_entropy"; ``adjust_pred_probs``: subtract the confident thresholds
        from the probabilities first, for classes of very different sizes.
    num_issue_kwargs
        ``estimation_method``: "off_diagonal" (the default) or "off_diagonal_calibrated".
    return_mask
        Return a mask instead of indices.

    Returns
    -------
    numpy.ndarray
        int64 indices of the issues, the lowest score first, ties by index; or a boolean mask
        (N,), an xarray.DataArray if `labels` are one.

    Raises
    ------
    InputError
        The inputs or arguments cannot be used.

    See Also
    --------
    LabelInspector : the same by hand, batch by batch.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([0, 0, 1, 1, 0])
    >>> certain = np.array([0.9, 0.8, 0.1, 0.2, 0.05])
    >>> pred_probs = np.stack([certain, 1 - certain], axis=1)
    >>> find_label_issues_batched(labels, pred_probs, verbose=False)
    array([4])
    """
    positive_integer("batch_size", batch_size)
    threads = number_of_threads(n_jobs)
    check_flag("verbose", verbose)
    check_flag("return_mask", return_mask)
    labels = _given("labels", labels, labels_file)
    pred_probs = _given("pred_probs", pred_probs, pred_probs_file)
    options = ScoreOptions.of(quality_score_kwargs, num_issue_kwargs)
    examples = normalize(labels, pred_probs)
    selection, issues = _find(examples, options, threads, bool(verbose))
    found = selection.total.statistics
    if isinstance(examples.labels, zarr.Array):
        warn_of_labels(examples.labels, found.absent_labels)
    if isinstance(examples.pred_probs, zarr.Array):
        absent = found.absent_pred_probs
        warn_of_predictions(examples.pred_probs, examples.transposed, absent)
    warn_of_sum(found.worst_sum, examples.form.sum_tolerance)
    warn_if_none(found.class_count)
    if not return_mask:
        return issues.ranked()
    mask = np.zeros(examples.form.num_examples, np.bool_)
    mask[issues.index] = True
    return mask_like(labels, mask) if isinstance(labels, xr.DataArray) else mask


def _given(name: str, array: Any, file: str | Path | None) -> Any:
    if (array is None) == (file is None):
        count = "neither" if array is None else "both"
        raise InputError(f"{name}, {name}_file: got {count}, exactly one of them must be given")
    return array if file is None else open_file(file, f"{name}_file")


def _find(
    examples: ExampleArrays, options: ScoreOptions, threads: int, verbose: bool
) -> tuple[Selection, FoundIssues]:
    method = ExampleMethod(examples.form, options)
    if isinstance(examples, InMemoryExamples):
        with call_progress(verbose) as progress, ThreadPoolExecutor(threads) as pool:
            return find(in_memory(examples, options, pool, threads, progress), method)
    with progress_for(verbose) as progress:
        return find(on_scheduler(examples, options, progress), method)
