"""Score the boxes and images of a detection dataset by how likely their labels are right.

The names, arguments and answers are those of `cleanlab.object_detection.rank` (ObjectLab). Every
function also takes the columnar dataset (see `dask_labelqc.object_detection.dataset`) as `labels`,
with `predictions` left out; it then returns a DataArray, lazy if the dataset is Dask or Zarr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import dask.array as da
import numpy as np
import xarray as xr
from dask import delayed

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes import pool_softmin
from dask_labelqc.object_detection.auxiliary import get_auxiliary_inputs
from dask_labelqc.object_detection.blocks import BLOCK_BOXES
from dask_labelqc.object_detection.box_scores import (
    compute_badloc_box_scores,
    compute_overlooked_box_scores,
    compute_spurious_box_scores,
    compute_swap_box_scores,
    score_of,
)
from dask_labelqc.object_detection.dataset import Columnar, check_offsets
from dask_labelqc.object_detection.lists import LabelLists, PredictionLists
from dask_labelqc.object_detection.options import BoxScoreOptions, check_fraction
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = [
    "compute_badloc_box_scores",
    "compute_overlooked_box_scores",
    "compute_spurious_box_scores",
    "compute_swap_box_scores",
    "get_auxiliary_inputs",
    "get_label_quality_scores",
    "issues_from_scores",
    "pool_box_scores_per_image",
]

_get_valid_inputs_for_compute_scores = get_auxiliary_inputs
"""The name by which cleanlab's documentation tells users to make `auxiliary_inputs`."""


@overload
def get_label_quality_scores(
    labels: LabelLists,
    predictions: PredictionLists,
    *,
    aggregation_weights: Mapping[str, float] | None = None,
    overlapping_label_check: bool | None = True,
    verbose: bool = True,
    block_boxes: int = BLOCK_BOXES,
) -> Floats: ...


@overload
def get_label_quality_scores(
    labels: Columnar,
    predictions: None = None,
    *,
    aggregation_weights: Mapping[str, float] | None = None,
    overlapping_label_check: bool | None = True,
    verbose: bool = True,
    block_boxes: int = BLOCK_BOXES,
) -> xr.DataArray: ...


def get_label_quality_scores(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    *,
    aggregation_weights: Mapping[str, float] | None = None,
    overlapping_label_check: bool | None = True,
    verbose: bool = True,
    block_boxes: int = BLOCK_BOXES,
) -> Floats | xr.DataArray:
    """Score each image between 0 and 1; the lower, the more likely its boxes are wrong.

    Parameters
    ----------
    labels
        N dictionaries ``{"bboxes": (L, 4), "labels": (L,)}``, x1, y1, x2, y2 in pixels; or a
        columnar dataset: xarray Dataset, Zarr group, its path or URL.
    predictions
        N sequences of K arrays (M, 5): x1, y1, x2, y2, probability. None with a dataset.
    aggregation_weights
        Weight of "overlooked", "badloc" and "swap" in the image score, a third each by default;
        "spurious" (see `compute_spurious_box_scores`) may be added. Not negative, sum 1.
    overlapping_label_check
        Whether a given box that nearly coincides with one of another class counts as swapped.
    verbose
        Show progress of what is computed at once, if it takes more than a moment.
    block_boxes
        Boxes that a task holds at a time.

    Returns
    -------
    numpy.ndarray or xarray.DataArray
        float64 (N,).

    Raises
    ------
    InputError
        Naming the image whose boxes, classes or probabilities cannot be used.

    Notes
    -----
    ``exp(sum_k w_k log(1e-100 + s_k))`` over the kinds of error, s_k the softmin of their box
    scores. Agrees with `cleanlab.object_detection.rank.get_label_quality_scores`.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    >>> good = [[np.array([[0, 0, 9, 9, 0.99]])]]
    >>> get_label_quality_scores(labels, good)
    array([1.])
    """
    options = BoxScoreOptions.given(
        weights=aggregation_weights, overlapping_label_check=bool(overlapping_label_check)
    )
    return score_of("image_score", labels, predictions, options, block_boxes, verbose)


@overload
def issues_from_scores(
    label_quality_scores: AnyArray | Sequence[float], *, threshold: float = 0.1
) -> Ints: ...


@overload
def issues_from_scores(label_quality_scores: da.Array, *, threshold: float = 0.1) -> da.Array: ...


@overload
def issues_from_scores(
    label_quality_scores: xr.DataArray, *, threshold: float = 0.1
) -> Ints | da.Array: ...


def issues_from_scores(
    label_quality_scores: AnyArray | Sequence[float] | da.Array | xr.DataArray,
    *,
    threshold: float = 0.1,
) -> Ints | da.Array:
    """Return the indices of the images with a score of at most `threshold`, lowest score first.

    Parameters
    ----------
    label_quality_scores
        (N,): array, DataArray or Dask array.
    threshold
        Between 0 and 1, as the scores are.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        int64; ties by index. Lazy, of unknown length, for lazy scores.

    Examples
    --------
    >>> issues_from_scores(np.array([0.05, 0.9, 0.01, 0.1]))
    array([2, 0, 3])
    """
    check_fraction("threshold", threshold)
    threshold = float(threshold)
    scores: Any = getattr(label_quality_scores, "data", label_quality_scores)
    if np.ndim(scores) != 1:
        raise InputError(f"label_quality_scores must be one score an image, got {np.shape(scores)}")
    if isinstance(scores, da.Array):
        issues = delayed(_lowest)(scores, threshold)
        return da.from_delayed(issues, (np.nan,), np.int64)
    return _lowest(np.asarray(label_quality_scores), threshold)


@overload
def pool_box_scores_per_image(
    box_scores: Sequence[AnyArray] | AnyArray,
    *,
    temperature: float | None = None,
    offsets: AnyArray | None = None,
) -> Floats: ...


@overload
def pool_box_scores_per_image(
    box_scores: da.Array, *, temperature: float | None = None, offsets: AnyArray
) -> da.Array: ...


@overload
def pool_box_scores_per_image(
    box_scores: xr.DataArray, *, temperature: float | None = None, offsets: AnyArray
) -> xr.DataArray: ...


def pool_box_scores_per_image(
    box_scores: Sequence[AnyArray] | AnyArray | da.Array | xr.DataArray,
    *,
    temperature: float | None = None,
    offsets: AnyArray | None = None,
) -> Floats | da.Array | xr.DataArray:
    """Return the softmin of the box scores of each image.

    Parameters
    ----------
    box_scores
        N arrays of scores between 0 and 1, NaN for boxes that were not scored; or the scores of
        all boxes (B,), with `offsets`.
    temperature
        Of the softmin, 0.1 by default; the lower, the nearer to the minimum.
    offsets
        (N + 1,): image i has the boxes ``offsets[i]:offsets[i + 1]``.

    Returns
    -------
    numpy.ndarray or xarray.DataArray
        float64 (N,), 1 for an image without a scored box. Lazy for lazy scores.

    Examples
    --------
    >>> pool_box_scores_per_image([np.array([0.5, np.nan, 0.5]), np.array([])])
    array([0.5, 1. ])
    """
    temperature = BoxScoreOptions.given(temperature=temperature).temperature
    if offsets is None:
        if any(np.ndim(scores) != 1 for scores in box_scores):
            raise InputError(
                "box_scores must be one array of scores for each image, or offsets given"
            )
        counts = [len(scores) for scores in box_scores]
        flat = np.concatenate([np.asarray(s, np.float64) for s in box_scores] or [np.zeros(0)])
        return pool_softmin(flat, np.cumsum([0, *counts]), temperature)
    scores: Any = getattr(box_scores, "data", box_scores)
    if not isinstance(scores, da.Array):
        scores = np.asarray(scores)
    if scores.ndim != 1:
        raise InputError(f"box_scores has shape {scores.shape}; with offsets it must be (boxes,)")
    offsets = check_offsets("offsets", offsets, scores.shape[0])
    if isinstance(scores, da.Array):
        pooled: Floats | da.Array = da.from_delayed(
            delayed(_pool)(scores, offsets, temperature), (len(offsets) - 1,), np.float64
        )
    else:
        pooled = _pool(scores, offsets, temperature)
    return xr.DataArray(pooled, dims="image") if isinstance(box_scores, xr.DataArray) else pooled


def _pool(scores: AnyArray, offsets: AnyArray, temperature: float) -> Floats:
    pooled: Floats = pool_softmin(scores.astype(np.float64), offsets, temperature)
    return pooled


def _lowest(scores: AnyArray, threshold: float) -> Ints:
    low = np.flatnonzero(scores <= threshold)
    return low[np.argsort(scores[low], kind="stable")]
