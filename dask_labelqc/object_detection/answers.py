"""Answers in the shape of the question: lists for lists, xarray for the columnar dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection.blocks import Boxes
from dask_labelqc.object_detection.passes import OUTPUTS
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["ClassName", "ClassNames", "named", "names_by_id", "per_image", "shaped"]

ClassName: TypeAlias = int | str
"""Name of a class in an answer: its id where it has none."""
ClassNames: TypeAlias = (
    Mapping[str, ClassName] | Mapping[int, ClassName] | Sequence[ClassName] | AnyArray
)
"""Names of classes, by their ids or in the order of these."""


def shaped(boxes: Boxes, name: str, values: Any) -> Any:
    """Return an output of the second pass as the caller of a public function expects it.

    From lists: an array (N,), or for scores of boxes a list of N arrays. From a columnar
    dataset: a DataArray, lazy if the dataset is.
    """
    if boxes.coords is not None:
        return named(boxes, name, values)
    dim = OUTPUTS[name]
    if dim == "image":
        return values
    offsets = boxes.given_offsets if dim == "given_box" else boxes.predicted_offsets
    return per_image(values, offsets)


def names_by_id(class_names: Any) -> dict[str, Any] | None:
    """Return the names of the classes by their ids as text, from a mapping or a list.

    Examples
    --------
    >>> names_by_id(["car", "bus"]), names_by_id({1: "bus"})
    ({'0': 'car', '1': 'bus'}, {'1': 'bus'})
    """
    if class_names is None:
        return None
    if isinstance(class_names, Sequence | np.ndarray) and not isinstance(class_names, str):
        class_names = dict(enumerate(class_names))
    if not isinstance(class_names, Mapping):
        raise InputError(f"class_names must be a mapping or a list of names, got {class_names!r}")
    wrong = [key for key in class_names if not str(key).isdecimal()]
    if wrong:
        raise InputError(f"class_names must be named by class ids, '0' and so on, got {wrong[0]!r}")
    return {str(key): name for key, name in class_names.items()}


def named(boxes: Boxes, name: str, values: Any) -> xr.DataArray:
    """Return an output as a DataArray with the coordinates of its images."""
    dim = OUTPUTS[name]
    coords = {key: coord for key, coord in (boxes.coords or {}).items() if coord.dims == ("image",)}
    return xr.DataArray(values, dims=(dim,), coords=coords if dim == "image" else None, name=name)


def per_image(values: AnyArray, offsets: Ints) -> list[AnyArray]:
    """Cut values of boxes into one array for each image.

    Examples
    --------
    >>> per_image(np.array([0.1, 0.2, 0.3]), np.array([0, 2, 2, 3]))
    [array([0.1, 0.2]), array([], dtype=float64), array([0.3])]
    """
    return np.split(values, offsets[1:-1])
