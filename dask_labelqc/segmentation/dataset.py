"""The whole audit of segmentation labels in one call."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import xarray as xr
import zarr

from dask_labelqc.images import IMAGE, PIXEL, ImageTable
from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.segmentation.image_lists import ImageLists
from dask_labelqc.segmentation.in_memory import audit_inputs
from dask_labelqc.segmentation.inputs import InMemory, Lazy, LikeLabels, normalize
from dask_labelqc.segmentation.stored_images import LazyImages
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.containers import ArrayLike
from dask_labelqc.storage.coordinates import (
    CLASS_DIMS,
    Carried,
    carried_coordinates,
    check_dims,
    class_labels,
    portable_attributes,
    with_classes,
)
from dask_labelqc.typing import LabelDownsample, Validate

__all__ = ["audit"]


def audit(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    *,
    downsample: int = 1,
    label_downsample: LabelDownsample = "mean",
    ignore_index: int | Iterable[int] | None = None,
    temperature: float = 0.1,
    from_logits: bool = False,
    validate: Validate = "full",
    pixel_scores: bool = False,
    predicted_label: bool = False,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    batch_size: int | None = None,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> xr.Dataset:
    r"""Find the label issues of a segmentation dataset, with every output from one read.

    Of arrays in memory everything is computed at once. Of Zarr and Dask arrays nothing is: the
    variables are lazy and share one graph, so compute (or write) together what belongs together;
    what is computed separately reads the predictions again.

    Parameters
    ----------
    labels
        Integers (N, \*spatial), one to three spatial dimensions; NumPy, Zarr, Dask or xarray. Also
        floats that are whole numbers. NaN, what a masked array masks, and what a Zarr array's
        ``_FillValue`` and ``missing_value`` name take part in nothing, as what is ignored. Or a
        list of arrays (\*spatial) of different sizes; or, of images of different sizes in Zarr, the
        flat array of all pixels, beside which there is a table of images.
    pred_probs
        (N, K, \*spatial): probabilities in float16, float32 or float64, or uint8 or uint16 whose
        largest value (or the ``scale_factor`` in their attributes) means 1. Where both arrays
        name their dimensions, in any order; where both have an index along one, its labels say
        which positions belong together. A pixel that any class is masked of takes part in nothing.
        Of images of different sizes a list of arrays (K, \*spatial).
    downsample
        Factor, a divisor of every spatial extent, to count and select issues on a smaller grid.
    label_downsample
        Label of a cell of that grid: the "mean" of the class ids rounded half to even, as
        cleanlab has it, or the "majority", the lowest class on ties.
    ignore_index
        Label, or several, of pixels that take part in nothing: their mask is False, their score
        NaN.
    temperature
        Of the softmin image score.
    from_logits
        Put the predictions through a softmax over the classes first.
    validate
        "full"; "labels" does not look at the probabilities; "none" leaves labels out of range
        aside as if they were ignored.
    pixel_scores, predicted_label
        Also return the score and the predicted class of every pixel.
    image_dim
        The dimension of `labels` that counts the images, by name or axis; False where there is
        none, and labels (y, x) with predictions (class, y, x) are one scene. By default the
        first, unless it is called as a place is ("y", "lat", "row", ...); of arrays without
        names, unless only one scene fits.
    class_dim
        The dimension of `pred_probs` that counts the classes, by name or axis; by default the one
        that labels do not have, or where there are no names the one after the images.
    batch_size
        Images that are gone through at a time.
    n_jobs
        Threads for arrays in memory, by default one for each core.
    verbose
        Show the progress, for arrays in memory, of calls that last longer than two seconds.

    Returns
    -------
    xarray.Dataset
        ``label_issues`` (image, y, x) bool; ``pixel_scores`` and ``predicted_label`` if asked
        for; ``image_score``, ``image_issue_fraction``, ``image_issue_count`` (image,);
        ``confident_threshold``, ``class_count``, ``class_issue_count`` (class,) and
        ``issue_matrix`` (given_class, predicted_class). Dimensions and coordinates of the labels
        are kept (of a Zarr array those that lie beside it), so are the attributes that say where
        the place is, and the predictions' coordinate of the classes. The attributes
        ``image_dim`` and ``class_dim`` say which dimensions were taken for these. Images of
        different sizes have their pixels one after the other along the dimension ``pixel``, beside
        ``height``, ``width`` and the ``offset`` of the first of each.

    Raises
    ------
    InputError
        The inputs or arguments cannot be used; lazily, when something is computed.

    See Also
    --------
    dask_labelqc.pipeline.audit_zarr : the same as a job from Zarr to Zarr that can be resumed.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[[0, 0, 1, 1]]])
    >>> certain = np.array([0.9, 0.9, 0.1, 0.9])
    >>> pred_probs = np.stack([certain, 1 - certain])[None, :, None, :]
    >>> audit(labels, pred_probs).label_issues.values
    array([[[False, False, False,  True]]])
    """
    options = Options.of(
        downsample=downsample,
        label_downsample=label_downsample,
        ignore_index=ignore_index,
        temperature=temperature,
        from_logits=from_logits,
        validate=validate,
        outputs=every_output(pixel_scores=pixel_scores, predicted_label=predicted_label),
    )
    inputs = normalize(labels, pred_probs, options, image_dim=image_dim, class_dim=class_dim)
    if isinstance(inputs, ImageLists | LazyImages):
        values = audit_inputs(inputs, batch_size, n_jobs, verbose)
        coordinates = (
            xr.Dataset() if isinstance(inputs, ImageLists) else inputs.source.coordinates()
        )
        return ragged_dataset(values, inputs.params, inputs.table, coordinates)
    check_dims(inputs.like.dims, inputs.like.lineup.one_scene)
    values = audit_inputs(inputs, batch_size, n_jobs, verbose)
    return _dataset(values, inputs, _carried(labels, pred_probs, inputs.like))


def _carried(labels: ArrayLike, pred_probs: ArrayLike, like: LikeLabels) -> Carried:
    if isinstance(labels, zarr.Array):
        return carried_coordinates(labels, pred_probs, like.lineup)
    classes = class_labels(pred_probs, like.lineup.class_dim)
    coords = xr.Dataset(coords=like.coords)
    place = {} if like.template is None else like.template.attrs
    return Carried(with_classes(coords, classes), place)


def ragged_dataset(
    values: dict[str, Any], params: Parameters, table: ImageTable, coordinates: xr.Dataset
) -> xr.Dataset:
    """Return the outputs of images of every size, whose pixels are on one axis."""
    dims = {"pixel": (PIXEL,), "image": (IMAGE,), "class": CLASS_DIMS[:1], "pair": CLASS_DIMS[1:]}
    variables = {o.name: (dims[o.over], values[o.name]) for o in params.outputs}
    made = {**params.attributes(), **params.naming(), "version": version("dask-labelqc")}
    found = xr.Dataset(variables, table.variables(), portable_attributes(made))
    return found.assign_coords(coordinates.coords)


def _dataset(values: dict[str, Any], inputs: InMemory | Lazy, carried: Carried) -> xr.Dataset:
    like, place = inputs.like, dict(carried.attributes)
    place.pop("coordinates", None)  # xarray lists them where it writes
    dims = {"image": (like.image_dim,), "class": CLASS_DIMS[:1], "pair": CLASS_DIMS[1:]}
    variables = {
        output.name: (like.dims, like.lineup.labels.outwards(values[output.name]), place)
        if output.over == "pixel"
        else (dims[output.over], values[output.name])
        for output in inputs.params.outputs
    }
    params = inputs.params
    made = {**params.attributes(), **params.naming(), **like.lineup.attributes()}
    made["version"] = version("dask-labelqc")
    return xr.Dataset(variables, carried.coordinates.coords, portable_attributes(made))
