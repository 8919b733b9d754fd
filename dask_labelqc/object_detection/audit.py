"""Everything that can be said about the boxes of a dataset, in one xarray Dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from dask_labelqc.method.calls import call_progress
from dask_labelqc.object_detection.answers import named
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, Boxes, open_boxes
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.passes import OUTPUTS, precision_by_class, score, survey

__all__ = ["audit"]


def audit(
    labels: Any,
    predictions: Any = None,
    *,
    aggregation_weights: Mapping[str, float] | None = None,
    overlapping_label_check: bool = True,
    alpha: float | None = 0.9,
    low_probability_threshold: float | None = 0.5,
    high_probability_threshold: float | None = 0.95,
    temperature: float | None = 0.1,
    block_boxes: int = BLOCK_BOXES,
    verbose: bool = False,
) -> xr.Dataset:
    """Score every box and image, the four kinds of error apart, and flag the images with issues.

    Parameters
    ----------
    labels, predictions
        A columnar dataset (xarray Dataset, Zarr group, its path or URL), or cleanlab's two lists.
    aggregation_weights
        Weights in the image score: a third each for "overlooked", "badloc" and "swap" by default,
        as in cleanlab; "spurious" counts, there and in ``label_issues``, only when it is given a
        weight.
    overlapping_label_check
        Whether a given box that nearly coincides with one of another class counts as swapped.
    alpha
        Weight of the IoU against the distance of the centres in the similarity of two boxes.
    low_probability_threshold, high_probability_threshold
        Predictions above the first count for badloc, above the second for overlooked and swap.
    temperature
        Of the softmin over the boxes of an image; the lower, the nearer to the minimum.
    block_boxes
        Boxes that a task holds at a time.
    verbose
        Show progress of what is computed at once, if it takes more than a moment.

    Returns
    -------
    xarray.Dataset
        Along ``image``: ``image_score``, ``overlooked_score``, ``badloc_score``, ``swap_score``,
        ``spurious_score`` (float64) and ``label_issues`` (bool). Along ``given_box``:
        ``badloc_box_score``, ``swap_box_score``, ``spurious_box_score``. Along ``predicted_box``:
        ``overlooked_box_score``, NaN where not scored. Along ``class``: ``average_precision``
        (float32), ``given_count``, ``predicted_count`` (int64). And ``min_possible_similarity``,
        ``given_offsets``, ``predicted_offsets``. Lazy when the dataset is Dask or Zarr.

    Raises
    ------
    InputError
        Naming the image whose boxes, classes or probabilities cannot be used.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    >>> result = audit(labels, [[np.zeros((0, 5))]])
    >>> result["swap_score"].values
    array([1.])
    """
    boxes = open_boxes(labels, predictions)
    options = BoxScoreOptions.given(
        overlapping_label_check=bool(overlapping_label_check),
        alpha=alpha,
        low_probability_threshold=low_probability_threshold,
        high_probability_threshold=high_probability_threshold,
        temperature=temperature,
        weights=aggregation_weights,
    )
    with call_progress(verbose) as progress:
        boxes = replace(boxes, progress=progress)
        total, matched = survey(boxes, options.alpha, block_boxes, matches=True)
        precision = precision_by_class(boxes, total, matched)
        found = score(boxes, OUTPUTS, options, total, precision, block_boxes=block_boxes)
    variables: dict[str, Any] = {name: named(boxes, name, found[name]) for name in OUTPUTS}
    variables |= _of_classes(boxes, total, precision)
    variables["given_offsets"] = ("image_edge", boxes.given_offsets)
    variables["predicted_offsets"] = ("image_edge", boxes.predicted_offsets)
    coords = {
        name: coord for name, coord in (boxes.coords or {}).items() if coord.dims == ("class",)
    }
    parameters = {**vars(options)}
    weights = {f"weight_{kind}": value for kind, value in parameters.pop("weights").items()}
    # Numbers rather than bools, which Zarr attributes take but netCDF ones do not.
    attrs = {name: float(value) for name, value in (parameters | weights).items()}
    return xr.Dataset(variables, coords, attrs)


def _of_classes(boxes: Boxes, total: Any, precision: Any) -> dict[str, Any]:
    def array(value: Any, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
        return da.from_delayed(value, shape, dtype) if boxes.lazy else np.asarray(value, dtype)

    def scalar(value: Any) -> Any:
        return array(boxes.call(np.float64)(value), (), np.float64)

    per_class = (boxes.num_classes,)
    return {
        "average_precision": ("class", array(precision, per_class, np.float32)),
        "given_count": ("class", array(total.given_count, per_class, np.int64)),
        "predicted_count": ("class", array(total.predicted_count, per_class, np.int64)),
        "min_possible_similarity": ((), scalar(total.smallest_similarity)),
    }
