"""The frameworks whose arrays the tests make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

__all__ = ["FRAMEWORKS", "differentiable", "interleaved", "placed_on"]


def _strict(array: np.ndarray) -> Any:
    import array_api_strict

    return array_api_strict.asarray(array, device=array_api_strict.Device("device1"))


def _torch(array: np.ndarray, **settings: Any) -> Any:
    # Whoever does not use it does not wait for it, nor for JAX.
    import torch

    return torch.tensor(array, **settings)


def _jax(array: np.ndarray) -> Any:
    import jax.numpy

    return jax.numpy.asarray(array)


FRAMEWORKS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": np.asarray,
    "strict": _strict,
    "torch": _torch,
    "jax": _jax,
}
"""Makes an array of each from a NumPy array; JAX makes float32 of float64.

Those that are strict lie on a device that nothing can be mixed with which does not.
"""


def interleaved(array: np.ndarray) -> Any:
    """Return a tensor whose classes lie side by side in memory, as channels_last has them."""
    return _torch(np.moveaxis(array, 1, -1).copy()).moveaxis(-1, 1)


def differentiable(array: np.ndarray) -> Any:
    """Return a tensor that a gradient is wanted of."""
    return _torch(array, requires_grad=True) * 1


def placed_on(device: str) -> Callable[[np.ndarray], Any]:
    """Return what makes a tensor on a device of a NumPy array."""
    return partial(_torch, device=device)
