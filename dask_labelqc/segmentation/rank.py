"""Score images and pixels; the module path of ``cleanlab.segmentation.rank``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, TypeAlias, Unpack, get_args, overload

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.limits import check_blocks
from dask_labelqc.method.outputs import only_outputs
from dask_labelqc.method.parameters import Options
from dask_labelqc.segmentation.arguments import Method, ScoreArguments
from dask_labelqc.segmentation.in_memory import audit_inputs
from dask_labelqc.segmentation.inputs import normalize
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.containers import ArrayLike, ImageList, LazyArray, PlainArray
from dask_labelqc.typing import BoolArray, Floats, Ints, LabelDownsample, Validate

__all__ = ["get_label_quality_scores", "issues_from_scores"]

Scores: TypeAlias = "Floats | da.Array | xr.DataArray"


@overload
def get_label_quality_scores(
    labels: xr.DataArray, pred_probs: ArrayLike, **arguments: Unpack[ScoreArguments]
) -> tuple[xr.DataArray, xr.DataArray]: ...


@overload
def get_label_quality_scores(
    labels: ImageList, pred_probs: ImageList, **arguments: Unpack[ScoreArguments]
) -> tuple[Floats, Floats | list[Floats]]: ...


@overload
def get_label_quality_scores(
    labels: PlainArray, pred_probs: PlainArray, **arguments: Unpack[ScoreArguments]
) -> tuple[Floats, Floats]: ...


@overload
def get_label_quality_scores(
    labels: LazyArray, pred_probs: ArrayLike, **arguments: Unpack[ScoreArguments]
) -> tuple[da.Array, da.Array]: ...


@overload
def get_label_quality_scores(
    labels: PlainArray, pred_probs: LazyArray, **arguments: Unpack[ScoreArguments]
) -> tuple[da.Array, da.Array]: ...


@overload
def get_label_quality_scores(
    labels: PlainArray, pred_probs: xr.DataArray, **arguments: Unpack[ScoreArguments]
) -> tuple[Floats, Floats] | tuple[da.Array, da.Array]: ...


def get_label_quality_scores(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    *,
    method: Method = "softmin",
    batch_size: int | None = None,
    n_jobs: int | None = None,
    verbose: bool = True,
    downsample: int = 1,
    temperature: float = 0.1,
    label_downsample: LabelDownsample = "mean",
    ignore_index: int | Iterable[int] | None = None,
    from_logits: bool = False,
    validate: Validate = "full",
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> tuple[Scores, Scores | list[Floats]]:
    r"""Return a label quality score for each image and each pixel; lower is worse.

    Agrees with ``cleanlab.segmentation.rank.get_label_quality_scores``.

    Parameters
    ----------
    labels
        Integers (N, \*spatial), or floats; NumPy, Zarr, Dask or xarray; see `audit`. Or a list of
        arrays (\*spatial) of different sizes.
    pred_probs
        (N, K, \*spatial) predicted probabilities; see `audit`. Or a list of arrays
        (K, \*spatial).
    method
        "softmin": the mean of the image's pixel scores s weighted by softmax((1 - s) /
        temperature). "num_pixel_issues": one minus the fraction of its pixels that are label
        issues.
    batch_size
        Images that are gone through at a time.
    n_jobs
        Threads for arrays in memory, by default one for each core.
    verbose
        Show the progress, for arrays in memory, of calls that last longer than two seconds.
    downsample, label_downsample
        For "num_pixel_issues"; see `audit`.
    temperature
        Of the softmin.
    ignore_index, from_logits, validate, image_dim, class_dim
        As in `audit`.

    Returns
    -------
    image_scores
        float64 (N,).
    pixel_scores
        (N, \*spatial): the probability of the given label, float32 or wider; of images of
        different sizes a list.

    Raises
    ------
    InputError
        The inputs or arguments cannot be used; lazily, when something is computed.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[[0, 1]]])
    >>> pred_probs = np.array([[[[0.9, 0.9]], [[0.1, 0.1]]]])
    >>> image_scores, pixel_scores = get_label_quality_scores(labels, pred_probs, verbose=False)
    >>> image_scores.round(3), pixel_scores
    (array([0.1]), array([[[0.9, 0.1]]]))
    """
    if method not in get_args(Method):
        raise InputError(f"method: got {method!r}, it must be one of {', '.join(get_args(Method))}")
    softmin = method == "softmin"
    if softmin and downsample != 1:
        warnings.warn(
            f"downsample: {downsample} has no effect with method='softmin'",
            LabelQCWarning,
            stacklevel=2,
        )
    options = Options.of(
        downsample=1 if softmin else downsample,
        label_downsample=label_downsample,
        temperature=temperature,
        ignore_index=ignore_index,
        from_logits=from_logits,
        validate=validate,
        outputs=only_outputs("image_score" if softmin else "image_issue_fraction", "pixel_scores"),
    )
    inputs = normalize(labels, pred_probs, options, image_dim=image_dim, class_dim=class_dim)
    values = audit_inputs(inputs, batch_size, n_jobs, verbose)
    images = values["image_score"] if softmin else 1 - values["image_issue_fraction"]
    like: Any = inputs.like
    return (
        like.per_image(images, "image_score"),
        like.per_pixel(values["pixel_scores"], "pixel_scores"),
    )


@overload
def issues_from_scores(
    image_scores: ArrayLike, pixel_scores: None = None, threshold: float = 0.1
) -> Ints: ...


@overload
def issues_from_scores(
    image_scores: ArrayLike, pixel_scores: PlainArray, threshold: float = 0.1
) -> BoolArray: ...


@overload
def issues_from_scores(
    image_scores: ArrayLike, pixel_scores: LazyArray, threshold: float = 0.1
) -> da.Array: ...


@overload
def issues_from_scores(
    image_scores: ArrayLike, pixel_scores: xr.DataArray, threshold: float = 0.1
) -> xr.DataArray: ...


def issues_from_scores(
    image_scores: ArrayLike, pixel_scores: ArrayLike | None = None, threshold: float = 0.1
) -> Ints | BoolArray | da.Array | xr.DataArray:
    r"""Return the images, or the pixels, whose score is below a threshold.

    Parameters
    ----------
    image_scores
        (N,) from `get_label_quality_scores`.
    pixel_scores
        (N, \*spatial) from `get_label_quality_scores`.
    threshold
        Between 0 and 1.

    Returns
    -------
    issues
        With `pixel_scores`, a boolean mask of their shape and container. Without, the indices of
        the images below the threshold, the lowest score first: a NumPy array, for which lazy
        scores are computed.

    Raises
    ------
    InputError
        The threshold is not between 0 and 1, or there are no image scores.

    Examples
    --------
    >>> import numpy as np
    >>> issues_from_scores(np.array([0.3, 0.05, 0.5, 0.01]), threshold=0.2)
    array([3, 1])
    """
    if image_scores is None:
        raise InputError("image_scores: got None, they must be given")
    if threshold is None or not 0 <= threshold <= 1:
        raise InputError(f"threshold: got {threshold!r}, it must be between 0 and 1")
    if pixel_scores is not None:
        return _comparable(pixel_scores) < threshold
    scores = np.asarray(image_scores)
    ranking = np.argsort(scores, kind="stable")
    return ranking[scores[ranking] < threshold]


def _comparable(scores: ArrayLike) -> Scores:
    """Return scores as an array that can be compared with a number, a Zarr array lazily."""
    if isinstance(scores, da.Array | xr.DataArray):
        return scores
    if isinstance(scores, zarr.Array):
        check_blocks("pixel_scores", scores.shape, scores.chunks)
        return da.from_zarr(scores)
    return np.asarray(scores)
