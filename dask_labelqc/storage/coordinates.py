"""The coordinates that outputs carry over, and the names that they must leave free."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.storage.dimensions import coordinates_beside, describe

__all__ = ["CLASS_DIMS", "check_dims", "class_labels"]

CLASS_DIMS = ("class", "given_class", "predicted_class")
"""Dimensions of what an audit finds of the classes."""
IMAGE = "image"


def check_dims(dims: Sequence[Hashable], one_scene: bool) -> None:
    """Raise InputError if labels call a dimension as an output needs it for something else."""
    for dim in dims:
        if dim in CLASS_DIMS:
            what = "the classes"
        elif one_scene and dim == IMAGE:
            what = "the image that a scene is"
        else:
            continue
        raise InputError(
            f"labels: got dimensions {tuple(dims)}; {dim!r} is what outputs call the dimension of "
            f"{what}: rename it in both arrays, such as labels.rename({{{dim!r}: 'tile'}})"
        )


def class_labels(
    pred_probs: Any,
    class_dim: Hashable | None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Variable | None:
    """Return the coordinate of the classes, which predictions have or which lies beside them."""
    dims = describe(pred_probs, "pred_probs").names
    if dims is None or class_dim not in dims:
        return None
    if isinstance(pred_probs, zarr.Array):
        name = str(class_dim)
        coords: Any = coordinates_beside(pred_probs, [name], [name], storage_options).coords
    else:
        coords = pred_probs.coords
    if class_dim not in coords or coords[class_dim].dims != (class_dim,):
        return None
    variable: xr.Variable = coords[class_dim].variable.drop_encoding()
    return variable
