"""Type aliases that every layer shares."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["AnyArray", "BoolArray", "Floats", "Ints", "LabelDownsample", "Shape", "Validate"]

AnyArray: TypeAlias = NDArray[Any]
BoolArray: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.integer[Any]]
Shape: TypeAlias = tuple[int, ...]

Validate: TypeAlias = Literal["full", "labels", "none"]
LabelDownsample: TypeAlias = Literal["mean", "majority"]
