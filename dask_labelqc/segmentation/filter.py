"""Find mislabeled pixels; the module path of ``cleanlab.segmentation.filter``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack, overload

import dask.array as da
import xarray as xr

from dask_labelqc.method.outputs import only_outputs
from dask_labelqc.method.parameters import Options
from dask_labelqc.segmentation.arguments import IssueArguments
from dask_labelqc.segmentation.in_memory import audit_inputs
from dask_labelqc.segmentation.inputs import normalize
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.containers import ArrayLike, ImageList, LazyArray, PlainArray
from dask_labelqc.typing import BoolArray, LabelDownsample, Validate

__all__ = ["find_label_issues"]


@overload
def find_label_issues(
    labels: xr.DataArray, pred_probs: ArrayLike, **arguments: Unpack[IssueArguments]
) -> xr.DataArray: ...


@overload
def find_label_issues(
    labels: ImageList, pred_probs: ImageList, **arguments: Unpack[IssueArguments]
) -> BoolArray | list[BoolArray]: ...


@overload
def find_label_issues(
    labels: PlainArray, pred_probs: PlainArray, **arguments: Unpack[IssueArguments]
) -> BoolArray: ...


@overload
def find_label_issues(
    labels: LazyArray, pred_probs: ArrayLike, **arguments: Unpack[IssueArguments]
) -> da.Array: ...


@overload
def find_label_issues(
    labels: PlainArray, pred_probs: LazyArray, **arguments: Unpack[IssueArguments]
) -> da.Array: ...


@overload
def find_label_issues(
    labels: PlainArray, pred_probs: xr.DataArray, **arguments: Unpack[IssueArguments]
) -> BoolArray | da.Array: ...


def find_label_issues(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    *,
    batch_size: int | None = None,
    n_jobs: int | None = None,
    verbose: bool = True,
    downsample: int = 1,
    label_downsample: LabelDownsample = "mean",
    ignore_index: int | Iterable[int] | None = None,
    from_logits: bool = False,
    validate: Validate = "full",
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> BoolArray | list[BoolArray] | da.Array | xr.DataArray:
    r"""Return a boolean mask of the pixels whose label is estimated to be wrong.

    The thresholds and the number of issues are those of confident learning (Northcutt et al.,
    Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021), the selection that
    of ``cleanlab.segmentation.filter.find_label_issues``, with whose answers it agrees.

    Parameters
    ----------
    labels
        Integers (N, \*spatial), or floats; NumPy, Zarr, Dask or xarray; see `audit`. Or a list of
        arrays (\*spatial) of different sizes.
    pred_probs
        (N, K, \*spatial) predicted probabilities; see `audit`. Or a list of arrays
        (K, \*spatial).
    batch_size
        Images that are gone through at a time.
    n_jobs
        Threads for arrays in memory, by default one for each core. Lazy arrays are computed by
        the Dask scheduler in use.
    verbose
        Show the progress, for arrays in memory, of calls that last longer than two seconds.
    downsample, label_downsample, ignore_index, from_logits, validate, image_dim, class_dim
        As in `audit`.

    Returns
    -------
    mask
        bool (N, \*spatial) in the container of the labels: a NumPy array for NumPy arrays, a lazy
        Dask array for Zarr and Dask arrays, a DataArray for a DataArray; of images of different
        sizes a list of masks. Slicing a lazy mask and
        computing the slice reads all predictions: write the mask to Zarr instead.

    Raises
    ------
    InputError
        The inputs or arguments cannot be used; lazily, when the mask is computed.

    See Also
    --------
    dask_labelqc.segmentation.audit : all outputs from one read.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[[0, 0, 1, 1]]])
    >>> certain = np.array([0.9, 0.9, 0.1, 0.9])
    >>> pred_probs = np.stack([certain, 1 - certain])[None, :, None, :]
    >>> find_label_issues(labels, pred_probs, verbose=False)
    array([[[False, False, False,  True]]])
    """
    options = Options.of(
        downsample=downsample,
        label_downsample=label_downsample,
        ignore_index=ignore_index,
        from_logits=from_logits,
        validate=validate,
        outputs=only_outputs("label_issues"),
    )
    inputs = normalize(labels, pred_probs, options, image_dim=image_dim, class_dim=class_dim)
    values = audit_inputs(inputs, batch_size, n_jobs, verbose)
    like: Any = inputs.like
    return like.per_pixel(values["label_issues"], "label_issues")
