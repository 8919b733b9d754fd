"""Find the images of a detection dataset with at least one wrong box.

The name, arguments and answers are those of `cleanlab.object_detection.filter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, overload

import dask.array as da
import numpy as np
import xarray as xr
from dask import delayed

from dask_labelqc.object_detection.answers import shaped
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, open_boxes
from dask_labelqc.object_detection.dataset import Columnar
from dask_labelqc.object_detection.lists import LabelLists, PredictionLists
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.passes import precision_by_class, score, survey
from dask_labelqc.typing import AnyArray, BoolArray, Ints

__all__ = ["find_label_issues"]

Weights: TypeAlias = Mapping[str, float] | None


@overload
def find_label_issues(
    labels: LabelLists,
    predictions: PredictionLists,
    *,
    return_indices_ranked_by_score: Literal[False] | None = False,
    overlapping_label_check: bool | None = True,
    aggregation_weights: Weights = None,
    block_boxes: int = BLOCK_BOXES,
) -> BoolArray: ...


@overload
def find_label_issues(
    labels: LabelLists,
    predictions: PredictionLists,
    *,
    return_indices_ranked_by_score: Literal[True],
    overlapping_label_check: bool | None = True,
    aggregation_weights: Weights = None,
    block_boxes: int = BLOCK_BOXES,
) -> Ints: ...


@overload
def find_label_issues(
    labels: Columnar,
    predictions: None = None,
    *,
    return_indices_ranked_by_score: Literal[False] | None = False,
    overlapping_label_check: bool | None = True,
    aggregation_weights: Weights = None,
    block_boxes: int = BLOCK_BOXES,
) -> xr.DataArray: ...


@overload
def find_label_issues(
    labels: Columnar,
    predictions: None = None,
    *,
    return_indices_ranked_by_score: Literal[True],
    overlapping_label_check: bool | None = True,
    aggregation_weights: Weights = None,
    block_boxes: int = BLOCK_BOXES,
) -> Ints | da.Array: ...


@overload
def find_label_issues(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    *,
    return_indices_ranked_by_score: bool | None,
    overlapping_label_check: bool | None = True,
    aggregation_weights: Weights = None,
    block_boxes: int = BLOCK_BOXES,
) -> BoolArray | Ints | xr.DataArray | da.Array: ...


def find_label_issues(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    *,
    return_indices_ranked_by_score: bool | None = False,
    overlapping_label_check: bool | None = True,
    aggregation_weights: Weights = None,
    block_boxes: int = BLOCK_BOXES,
) -> BoolArray | Ints | xr.DataArray | da.Array:
    """Find the images with a box that was overlooked, badly placed or given another's class.

    Parameters
    ----------
    labels, predictions, overlapping_label_check, block_boxes
        As in `dask_labelqc.object_detection.rank.get_label_quality_scores`.
    return_indices_ranked_by_score
        Return the indices of those images instead of a mask, worst first.
    aggregation_weights
        As there: they rank the images. With a weight for "spurious" above 0, images with a box
        that no prediction supports are found as well.

    Returns
    -------
    numpy.ndarray, xarray.DataArray or dask.array.Array
        bool (N,): a DataArray for a columnar dataset, lazy if the dataset is. Or int64 indices,
        by `get_label_quality_scores` of these weights, ties by index; a Dask array of unknown
        length for a lazy dataset.

    Raises
    ------
    InputError
        Naming the image whose boxes, classes or probabilities cannot be used.

    Notes
    -----
    A box is an issue when a score of it is at most ``0.8 * 0.25 * AP`` of its class, AP the
    average precision of the predictions, mean over the IoU thresholds 0.5, 0.55, ..., 0.95.
    Agrees with `cleanlab.object_detection.filter.find_label_issues`, but for the spurious boxes,
    which it does not know: their score (see `rank.compute_spurious_box_scores`) must be below.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}] * 2
    >>> good = [[[0, 0, 9, 9, 0.99]], [[90, 90, 99, 99, 0.1]]]
    >>> swapped = [[], [[0, 0, 9, 9, 0.99]]]
    >>> find_label_issues(labels, [good, swapped])
    array([False,  True])
    """
    boxes = open_boxes(labels, predictions)
    options = BoxScoreOptions.given(
        weights=aggregation_weights, overlapping_label_check=bool(overlapping_label_check)
    )
    total, matched = survey(boxes, options.alpha, block_boxes, matches=True)
    precision = precision_by_class(boxes, total, matched)

    def found(name: str, options: BoxScoreOptions) -> Any:
        return score(boxes, [name], options, total, precision, block_boxes=block_boxes)[name]

    issues = found("label_issues", options)
    if not return_indices_ranked_by_score:
        return shaped(boxes, "label_issues", issues)
    scores = found("image_score", BoxScoreOptions.given(weights=aggregation_weights))
    if not boxes.lazy:
        return _ranked(issues, scores)
    return da.from_delayed(delayed(_ranked)(issues, scores), (np.nan,), np.int64)


def _ranked(issues: AnyArray, scores: AnyArray) -> Ints:
    indices = np.flatnonzero(issues)
    return indices[np.argsort(scores[indices], kind="stable")]
