"""Score each box of a detection dataset; `object_detection.rank` has these functions, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, overload

import xarray as xr

from dask_labelqc.method.calls import call_progress
from dask_labelqc.object_detection.answers import shaped
from dask_labelqc.object_detection.auxiliary import score_auxiliary
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, open_boxes
from dask_labelqc.object_detection.dataset import Columnar
from dask_labelqc.object_detection.lists import LabelLists, PredictionLists
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.passes import score, survey
from dask_labelqc.typing import Floats

__all__ = [
    "compute_badloc_box_scores",
    "compute_overlooked_box_scores",
    "compute_spurious_box_scores",
    "compute_swap_box_scores",
    "score_of",
]

Auxiliary: TypeAlias = Sequence[Mapping[str, Any]]


@overload
def compute_overlooked_box_scores(
    *,
    labels: LabelLists | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    high_probability_threshold: float | None = None,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats]: ...


@overload
def compute_overlooked_box_scores(
    *,
    labels: Columnar,
    predictions: None = None,
    alpha: float | None = None,
    high_probability_threshold: float | None = None,
    auxiliary_inputs: None = None,
    block_boxes: int = BLOCK_BOXES,
) -> xr.DataArray: ...


def compute_overlooked_box_scores(
    *,
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    high_probability_threshold: float | None = None,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats] | xr.DataArray:
    """Score each predicted box: low when an object was probably not annotated.

    Parameters
    ----------
    labels, predictions, block_boxes
        As in `get_label_quality_scores`.
    alpha
        Weight of the IoU against the distance of the centres in the similarity, 0.9 by default.
    high_probability_threshold
        Predictions less probable than this are not scored, 0.95 by default.
    auxiliary_inputs
        What `get_auxiliary_inputs` made of labels and predictions, instead of them.

    Returns
    -------
    list of numpy.ndarray, or xarray.DataArray
        (M,) for each image, or (P,); NaN for boxes that are not scored: improbable ones and those
        that overlap a given box.

    Examples
    --------
    >>> import numpy as np
    >>> labels = [{"bboxes": np.array([]), "labels": np.array([])}]
    >>> compute_overlooked_box_scores(labels=labels, predictions=[[[[0, 0, 9, 9, 0.75]]]])
    [array([nan])]
    """
    options = BoxScoreOptions.given(
        alpha=alpha, high_probability_threshold=high_probability_threshold
    )
    return _box_scores("overlooked", labels, predictions, auxiliary_inputs, options, block_boxes)


@overload
def compute_badloc_box_scores(
    *,
    labels: LabelLists | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    low_probability_threshold: float | None = None,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats]: ...


@overload
def compute_badloc_box_scores(
    *,
    labels: Columnar,
    predictions: None = None,
    alpha: float | None = None,
    low_probability_threshold: float | None = None,
    auxiliary_inputs: None = None,
    block_boxes: int = BLOCK_BOXES,
) -> xr.DataArray: ...


def compute_badloc_box_scores(
    *,
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    low_probability_threshold: float | None = None,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats] | xr.DataArray:
    """Score each given box: low when its edges are probably in the wrong place.

    Parameters
    ----------
    labels, predictions, alpha, auxiliary_inputs, block_boxes
        As in `compute_overlooked_box_scores`.
    low_probability_threshold
        Only predictions more probable than this count, 0.5 by default.

    Returns
    -------
    list of numpy.ndarray, or xarray.DataArray
        (L,) for each image, or (B,).

    Examples
    --------
    >>> import numpy as np
    >>> labels = [{"bboxes": np.array([[0, 0, 10, 10]]), "labels": np.array([0])}]
    >>> compute_badloc_box_scores(labels=labels, predictions=[[[[0, 0, 10, 5, 0.9]]]], alpha=1)
    [array([0.5])]
    """
    options = BoxScoreOptions.given(
        alpha=alpha, low_probability_threshold=low_probability_threshold
    )
    return _box_scores("badloc", labels, predictions, auxiliary_inputs, options, block_boxes)


@overload
def compute_swap_box_scores(
    *,
    labels: LabelLists | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    high_probability_threshold: float | None = None,
    overlapping_label_check: bool | None = True,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats]: ...


@overload
def compute_swap_box_scores(
    *,
    labels: Columnar,
    predictions: None = None,
    alpha: float | None = None,
    high_probability_threshold: float | None = None,
    overlapping_label_check: bool | None = True,
    auxiliary_inputs: None = None,
    block_boxes: int = BLOCK_BOXES,
) -> xr.DataArray: ...


def compute_swap_box_scores(
    *,
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    high_probability_threshold: float | None = None,
    overlapping_label_check: bool | None = True,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats] | xr.DataArray:
    """Score each given box: low when its class was probably swapped with another.

    Parameters
    ----------
    labels, predictions, alpha, auxiliary_inputs, block_boxes
        As in `compute_overlooked_box_scores`.
    high_probability_threshold
        Only predictions more probable than this count, 0.95 by default.
    overlapping_label_check
        Whether a given box that nearly coincides with one of another class counts as swapped.

    Returns
    -------
    list of numpy.ndarray, or xarray.DataArray
        (L,) for each image, or (B,).

    Examples
    --------
    >>> import numpy as np
    >>> labels = [{"bboxes": np.array([[0, 0, 10, 10]]), "labels": np.array([0])}]
    >>> predictions = [[[], [[0, 0, 10, 5, 0.99]]]]
    >>> compute_swap_box_scores(labels=labels, predictions=predictions, alpha=1)
    [array([0.5])]
    """
    options = BoxScoreOptions.given(
        alpha=alpha,
        high_probability_threshold=high_probability_threshold,
        overlapping_label_check=bool(overlapping_label_check),
    )
    return _box_scores("swap", labels, predictions, auxiliary_inputs, options, block_boxes)


@overload
def compute_spurious_box_scores(
    *,
    labels: LabelLists | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats]: ...


@overload
def compute_spurious_box_scores(
    *,
    labels: Columnar,
    predictions: None = None,
    alpha: float | None = None,
    auxiliary_inputs: None = None,
    block_boxes: int = BLOCK_BOXES,
) -> xr.DataArray: ...


def compute_spurious_box_scores(
    *,
    labels: LabelLists | Columnar | None = None,
    predictions: PredictionLists | None = None,
    alpha: float | None = None,
    auxiliary_inputs: Auxiliary | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> list[Floats] | xr.DataArray:
    """Score each given box: low when there is probably no object, since no prediction supports it.

    Parameters
    ----------
    labels, predictions, alpha, auxiliary_inputs, block_boxes
        As in `compute_overlooked_box_scores`.

    Returns
    -------
    list of numpy.ndarray, or xarray.DataArray
        (L,) for each image, or (B,), between 0 and 1; NaN for crowds.

    Notes
    -----
    A prediction j of any class supports a given box i that it overlaps by

        u_ij = p_j (alpha IoU_ij + (1 - alpha) exp(-0.1 d_ij)),

    p_j its probability and d_ij the distance of the centres in pixels; u_ij is 0 where they do not
    overlap. In each image, boxes and predictions are matched one to one, the largest u first (of
    equal ones a pair of one class, then the first given, then the first predicted box), and the
    score of a box is the u of its match, 0 without one. So a box with no prediction near it scores
    0 whatever the other images hold, and of an object that was annotated twice the second box has
    only what a second prediction gives. cleanlab has no such score.

    Examples
    --------
    >>> import numpy as np
    >>> labels = [{"bboxes": np.array([[0, 0, 10, 10]]), "labels": np.array([0])}]
    >>> compute_spurious_box_scores(labels=labels, predictions=[[[[0, 0, 10, 10, 0.75]]]])
    [array([0.75])]
    """
    options = BoxScoreOptions.given(alpha=alpha)
    return _box_scores("spurious", labels, predictions, auxiliary_inputs, options, block_boxes)


def _box_scores(
    name: str,
    labels: LabelLists | Columnar | None,
    predictions: PredictionLists | None,
    auxiliary_inputs: Auxiliary | None,
    options: BoxScoreOptions,
    block_boxes: int,
) -> list[Floats] | xr.DataArray:
    """Return the scores of boxes of one kind, from whatever the boxes came in."""
    if auxiliary_inputs is not None:
        return score_auxiliary(name, auxiliary_inputs, options)
    return score_of(f"{name}_box_score", labels, predictions, options, block_boxes)


def score_of(
    name: str,
    labels: Any,
    predictions: Any,
    options: BoxScoreOptions,
    block_boxes: int,
    verbose: bool = False,
) -> Any:
    """Return one output of the second pass, in the shape of the question."""
    boxes = open_boxes(labels, predictions)
    with call_progress(verbose) as progress:
        boxes = replace(boxes, progress=progress)
        total, _ = survey(boxes, options.alpha, block_boxes)
        found = score(boxes, [name], options, total, block_boxes=block_boxes)
    return shaped(boxes, name, found[name])
