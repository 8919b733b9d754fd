"""The frameworks whose arrays the tests make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import array_api_strict
import jax.numpy as jnp
import numpy as np
import torch

__all__ = ["FRAMEWORKS", "differentiable", "interleaved", "placed_on"]

FRAMEWORKS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": np.asarray,
    "strict": partial(array_api_strict.asarray, device=array_api_strict.Device("device1")),
    "torch": torch.tensor,
    "jax": jnp.asarray,
}
"""Makes an array of each from a NumPy array; JAX makes float32 of float64.

Those that are strict lie on a device that nothing can be mixed with which does not.
"""


def interleaved(array: np.ndarray) -> Any:
    """Return a tensor whose classes lie side by side in memory, as channels_last has them."""
    return torch.moveaxis(torch.tensor(np.moveaxis(array, 1, -1).copy()), -1, 1)


def differentiable(array: np.ndarray) -> Any:
    """Return a tensor that a gradient is wanted of."""
    return torch.tensor(array, requires_grad=True) * 1


def placed_on(device: str) -> Callable[[np.ndarray], Any]:
    """Return what makes a tensor on a device of a NumPy array."""
    return lambda array: torch.tensor(array, device=device)
