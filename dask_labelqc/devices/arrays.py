"""Arrays of any framework, seen from NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import (
    array_namespace,
    is_array_api_obj,
    is_cupy_array,
    is_jax_array,
    is_torch_array,
)

from dask_labelqc.errors import InputError
from dask_labelqc.typing import AnyArray

__all__ = ["detached", "in_memory", "on_host", "pixel_values", "to_host"]

HOST = 1
"""What DLPack calls the memory of this process."""


def in_memory(array: Any) -> AnyArray | None:
    """Return what lies in the memory of this process as a NumPy array; None if it does not.

    Only bfloat16, which NumPy has not, is copied: to float32.

    Raises
    ------
    InputError
        It is no array, or one on a device with which nothing can be computed there.

    Examples
    --------
    >>> in_memory(np.ones(2))
    array([1., 1.])
    """
    if isinstance(array, np.ndarray):
        return array
    array = detached(array)
    if is_jax_array(array):
        on_host = all(place.platform == "cpu" for place in array.devices())
    else:
        on_host = array.__dlpack_device__()[0] == HOST
    if not (on_host or is_array_api_obj(array)):
        raise InputError(
            f"pred_probs: got {type(array).__name__} on a device, which speaks DLPack alone; give "
            "torch.from_dlpack or cupy.from_dlpack of it, or copy it to a NumPy array"
        )
    return to_host(array) if on_host else None


def to_host(array: Any) -> AnyArray:
    """Return an array of any framework as a NumPy array, without a copy where there need be none.

    Examples
    --------
    >>> to_host(np.ones(2))
    array([1., 1.])
    """
    array = detached(array)
    if "bfloat16" in str(array.dtype):
        xp = array_namespace(array)
        array = xp.astype(array, xp.float32)
    if is_torch_array(array):
        return array.cpu().numpy()
    if is_cupy_array(array):
        return array.get()
    return np.asarray(array) if is_jax_array(array) else np.from_dlpack(array)


def on_host(values: Any) -> Any:
    """Return what is an array of some framework as a NumPy array, and anything else as it is.

    Examples
    --------
    >>> on_host([1, 2])
    [1, 2]
    """
    known = isinstance(values, np.ndarray | np.generic) or not hasattr(values, "__dlpack__")
    return values if known else to_host(values)


def detached(array: Any) -> Any:
    """Return an array without what its framework keeps of it for a gradient."""
    if not (is_array_api_obj(array) or hasattr(array, "__dlpack__")):
        raise InputError(
            f"pred_probs: got {type(array).__name__}, it must be an array: NumPy, torch, JAX, "
            "CuPy, or another that speaks the array API or DLPack"
        )
    return array.detach() if is_torch_array(array) else array


def pixel_values(
    predictions: Any, image: int, pixel: tuple[int, ...], class_axis: int = 1
) -> AnyArray:
    """Return the K predictions of a pixel.

    Examples
    --------
    >>> pixel_values(np.array([[[0.25, 1], [0.75, 0]]]), 0, (0,))
    array([0.25, 0.75])
    """
    place: list[int | slice] = [image, *pixel]
    place.insert(class_axis % predictions.ndim, slice(None))
    values = predictions[tuple(place)]
    return values if isinstance(values, np.ndarray) else to_host(values)
