"""The arrays inside the containers that users have."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.storage.arrays import decoded_fill, fill_labels, name_group, pixel_scale
from dask_labelqc.typing import AnyArray

__all__ = [
    "ArrayLike",
    "ImageList",
    "LazyArray",
    "PlainArray",
    "labels_fill",
    "plain_array",
    "stored_scale",
]

PlainArray: TypeAlias = "AnyArray | list[Any] | tuple[Any, ...]"
"""Of this process: what is made of it is a NumPy array."""
ImageList: TypeAlias = "list[AnyArray] | tuple[AnyArray, ...]"
"""An array for each image; of different sizes, what is made of it is a list, too."""
LazyArray: TypeAlias = "zarr.Array[Any] | da.Array"
"""What is made of it is a Dask array."""
ArrayLike: TypeAlias = "PlainArray | LazyArray | xr.DataArray"
"""What users have; what is made of a DataArray is one."""


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
    if isinstance(data, zarr.Group):
        raise InputError(f"{name}: got {name_group(data)}")
    if isinstance(data, xr.Dataset):
        raise InputError(
            f"{name}: got a Dataset; name the variable in it, such as dataset['labels'] (it has "
            f"{', '.join(repr(v) for v in data.data_vars) or 'none'})"
        )
    if isinstance(data, da.Array) and any(math.isnan(n) for n in data.shape):
        raise InputError(
            f"{name}: got a Dask array with chunks of unknown size, shape {data.shape}; call its "
            "compute_chunk_sizes(), which computes it once"
        )
    if isinstance(data, np.ndarray | da.Array | zarr.Array):
        return data
    if hasattr(data, "__array__") or isinstance(data, list | tuple):
        return _stacked(data, name)
    raise InputError(
        f"{name}: got {type(array).__name__}, it must be a NumPy, Zarr, Dask or xarray array"
    )


def _stacked(data: Any, name: str) -> AnyArray:
    try:
        return np.asarray(data)
    except ValueError as error:  # NumPy's word for it is an inhomogeneous shape
        shapes = list(dict.fromkeys(getattr(item, "shape", None) for item in data))
        such = f", such as {shapes[0]} and {shapes[1]}" if len(shapes) > 1 else ""
        raise InputError(
            f"{name}: got a {type(data).__name__} of arrays whose shapes differ{such}; all images "
            "must have one shape: pad them, with a label that ignore_index leaves out"
        ) from error


def stored_scale(pred_probs: Any) -> float | None:
    """Return the ``scale_factor`` in the attributes of a Zarr or xarray array, if there is one.

    Raises
    ------
    InputError
        The attributes say that what is stored is not what it stands for, and not by this alone.
    """
    if not isinstance(pred_probs, zarr.Array | xr.DataArray):
        return None
    scale = pixel_scale(pred_probs.attrs)
    if pred_probs.dtype.kind == "f" and scale not in (None, 1):
        raise InputError(
            f"pred_probs: scale_factor is {scale!r} beside {pred_probs.dtype}, where only integers "
            "have one; decode the predictions, or delete the attribute"
        )
    for key in ("_FillValue", "missing_value"):
        fill = decoded_fill(pred_probs.attrs.get(key), pred_probs.dtype)
        if fill is not None and fill == fill:
            raise InputError(
                f"pred_probs: {key} is {fill!r}, so that some predictions may be missing; mask "
                "the labels of these pixels (ignore_index) and delete the attribute, or decode the "
                "predictions and pass a masked array"
            )
    return scale


def labels_fill(labels: Any) -> tuple[int, ...]:
    """Return the labels that stand for none, as the attributes of a Zarr array say.

    Of a DataArray of floats, what they were before xarray decoded them to NaN. xarray takes the
    fill value of every Zarr 2 array for one.
    """
    _check_class_ids(labels)
    if isinstance(labels, zarr.Array):
        return fill_labels(labels.attrs, labels.dtype)
    if isinstance(labels, xr.DataArray) and labels.dtype.kind == "f":
        return fill_labels(labels.encoding, labels.dtype)
    return ()


def _check_class_ids(labels: Any) -> None:
    """Raise InputError if the labels' attributes say that other numbers are meant."""
    attributes = labels.attrs if isinstance(labels, zarr.Array | xr.DataArray) else {}
    for key, neutral in (("scale_factor", 1), ("add_offset", 0)):
        value = attributes.get(key)
        if value is not None and not np.all(np.asarray(value) == neutral):
            raise InputError(
                f"labels: {key} is {value!r}, so that the classes are not the numbers that are "
                "stored; decode the labels, as xarray does, or delete the attribute"
            )
