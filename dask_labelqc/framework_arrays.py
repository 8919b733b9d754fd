"""Arrays of any framework on the host, as NumPy sees them; none of the frameworks is imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_cupy_array, is_torch_array, to_device

__all__ = ["on_host"]


def on_host(values: Any) -> Any:
    """Return the NumPy array of a tensor of torch, JAX, CuPy or what else speaks DLPack.

    Whatever does not is returned as it is. Nothing is copied that lies on the host already, so what
    is to be kept has to be. bfloat16, which NumPy does not have, becomes float32.

    Examples
    --------
    >>> on_host([1, 2])
    [1, 2]
    """
    if isinstance(values, np.ndarray | np.generic) or not hasattr(values, "__dlpack__"):
        return values
    tensor = values.detach() if hasattr(values, "detach") else values  # from what learns
    if "bfloat16" in str(tensor.dtype):
        xp = array_namespace(tensor)
        tensor = xp.astype(tensor, xp.float32)
    if is_torch_array(tensor) or is_cupy_array(tensor):  # others do that when they are asked
        tensor = to_device(tensor, "cpu")
    return np.asarray(tensor) if hasattr(tensor, "__array__") else np.from_dlpack(tensor)
