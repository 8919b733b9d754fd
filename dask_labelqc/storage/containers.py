"""The arrays inside the containers that users have."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.storage.arrays import fill_labels, pixel_scale

__all__ = ["in_order", "labels_fill", "plain_array", "stored_scale"]


def plain_array(array: Any, name: str) -> Any:
    """Return the NumPy, Dask or Zarr array in a container.

    Parameters
    ----------
    array
        One of these, an xarray.DataArray of one, a sequence, or what NumPy can convert.
    name
        The argument it came from, for the message.

    Raises
    ------
    InputError
        It is none of these.

    Examples
    --------
    >>> plain_array(xr.DataArray([1, 2]), "labels")
    array([1, 2])
    """
    data = array.data if isinstance(array, xr.DataArray) else array
    if isinstance(data, np.ndarray | da.Array | zarr.Array):
        return data
    if hasattr(data, "__array__") or isinstance(data, list | tuple):
        return np.asarray(data)
    raise InputError(
        f"{name}: got {type(array).__name__}, it must be a NumPy, Zarr, Dask or xarray array"
    )


def in_order(labels: xr.DataArray, pred_probs: xr.DataArray) -> xr.DataArray:
    """Transpose the predictions to (N, K, *spatial) by the names of the labels' dimensions.

    Raises
    ------
    InputError
        They do not have these and one more.
    """
    extra = [dim for dim in pred_probs.dims if dim not in labels.dims]
    missing = [dim for dim in labels.dims if dim not in pred_probs.dims]
    if len(extra) != 1 or missing:
        raise InputError(
            f"pred_probs: got dimensions {pred_probs.dims}, they must be those of labels "
            f"{labels.dims} and one for the classes"
        )
    return pred_probs.transpose(labels.dims[0], extra[0], *labels.dims[1:])


def stored_scale(pred_probs: Any) -> float | None:
    """Return the ``scale_factor`` in the attributes of a Zarr or xarray array, if there is one."""
    named = isinstance(pred_probs, zarr.Array | xr.DataArray)
    return pixel_scale(pred_probs.attrs) if named else None


def labels_fill(labels: Any) -> tuple[int, ...]:
    """Return the labels that stand for none, as the attributes of a Zarr array say.

    Of a DataArray of floats, what they were before xarray decoded them to NaN. xarray takes the
    fill value of every Zarr 2 array for one.
    """
    if isinstance(labels, zarr.Array):
        return fill_labels(labels.attrs, labels.dtype)
    if isinstance(labels, xr.DataArray) and labels.dtype.kind == "f":
        return fill_labels(labels.encoding, labels.dtype)
    return ()
