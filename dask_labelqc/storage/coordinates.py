"""The coordinates that outputs carry over, and the names that they must leave free."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
import zarr
from zarr.errors import UnstableSpecificationWarning
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError
from dask_labelqc.storage.arrays import BlockReader
from dask_labelqc.storage.dimensions import (
    coordinates_beside,
    describe,
    dimension_names,
    place_attributes,
)
from dask_labelqc.storage.layout import Layout

__all__ = [
    "CLASS_DIMS",
    "IMAGE",
    "Carried",
    "carried_coordinates",
    "check_dims",
    "class_labels",
    "default_dims",
    "output_dims",
    "output_image_dim",
    "portable_attributes",
    "write_coordinates",
]

CLASS_DIMS = ("class", "given_class", "predicted_class")
"""Dimensions of what an audit finds of the classes."""
IMAGE, SPATIAL = "image", ("z", "y", "x")
"""Names of dimensions that have none."""


def default_dims(layout: Layout) -> tuple[str, ...]:
    """Return names for the labels' own dimensions, where they have none."""
    return layout.own((IMAGE, *SPATIAL[len(SPATIAL) + 1 - len(layout.axes) :]))


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


def portable_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as NetCDF can hold them: numbers for booleans, nothing for None.

    Examples
    --------
    >>> portable_attributes({"from_logits": False, "probability_scale": None})
    {'from_logits': 0}
    """
    return {
        key: int(value) if isinstance(value, bool) else value
        for key, value in attributes.items()
        if value is not None
    }


def output_dims(reader: BlockReader) -> tuple[str, ...]:
    """Return the names of the labels' own dimensions: theirs, or image, y, x."""
    return dimension_names(reader.labels) or default_dims(reader.lineup.labels)


def output_image_dim(reader: BlockReader) -> str:
    """Return the name of the dimension of what there is for each image."""
    axis = reader.lineup.labels.axes[0]
    return IMAGE if axis is None else output_dims(reader)[axis]


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


@dataclass(frozen=True)
class Carried:
    """What the output of a job takes over from beside its inputs.

    Attributes
    ----------
    coordinates
        Those of the labels' places, and of the classes; decoded, in memory.
    attributes
        Of what there is for each pixel: the names of the other coordinates, and where it is.
    """

    coordinates: xr.Dataset
    attributes: Mapping[str, Any]


def carried_coordinates(
    reader: BlockReader, storage_options: Mapping[str, Any] | None = None
) -> Carried:
    """Read what is to be taken over; nothing of how it was encoded is.

    Raises
    ------
    InputError
        A coordinate cannot be decoded.
    """
    dims = output_dims(reader)
    place = place_attributes(reader.labels.attrs)
    grid = [name.rstrip(":") for name in str(place.get("grid_mapping", "")).split()]
    listed = str(reader.labels.attrs.get("coordinates", "")).split()
    found = coordinates_beside(reader.labels, (*dims, *listed, *grid), dims, storage_options)
    others = [name for name in listed if name in found.coords and name not in dims]
    image = output_image_dim(reader)
    if image in found.coords and image not in dims:  # of the image that one scene is
        found = found.expand_dims(image)
    classes = class_labels(reader.pred_probs, reader.lineup.class_dim, storage_options)
    if classes is not None:
        made = {dim: (dim, classes.values, classes.attrs) for dim in CLASS_DIMS}
        found = found.drop_vars(CLASS_DIMS, errors="ignore").assign_coords(made)
    named = {"coordinates": " ".join(others)} if others else {}
    return Carried(found.drop_encoding(), {**place, **named})


def write_coordinates(carried: Carried, group: zarr.Group, per_pixel: Iterable[str]) -> None:
    """Write the coordinates as xarray does, and the attributes of what there is for each pixel.

    xarray itself would put the group's attributes anew.
    """
    store = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)  # strings
        carried.coordinates.reset_coords().to_zarr(store, consolidated=False, zarr_format=3)
        for name, array in zarr.open_group(store, mode="r").arrays():
            zarr.from_array(
                group.store_path / name,
                data=array,
                fill_value=array.metadata.fill_value,
                dimension_names=dimension_names(array),
                attributes=dict(array.attrs),
                overwrite=True,
            )
    if carried.attributes:
        for name in per_pixel:
            group[name].attrs.update(carried.attributes)
