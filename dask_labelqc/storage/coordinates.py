"""The coordinates that outputs carry over, and the names that they must leave free."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.errors import UnstableSpecificationWarning
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError
from dask_labelqc.storage.alignment import Lineup
from dask_labelqc.storage.dimensions import (
    coordinates_beside,
    describe,
    dimension_names,
    place_attributes,
)

__all__ = [
    "AFFINE",
    "CLASS_DIMS",
    "SPATIAL",
    "Carried",
    "carried_coordinates",
    "check_dims",
    "class_labels",
    "output_dims",
    "output_image_dim",
    "portable_attributes",
    "with_classes",
    "with_places",
    "write_coordinates",
]

CLASS_DIMS = ("class", "given_class", "predicted_class")
"""Dimensions of what an audit finds of the classes."""
OUTPUTS = (
    *("label_issues", "pixel_scores", "predicted_label", "label_quality", "issue_index"),
    *("image_score", "image_issue_fraction", "image_issue_count"),
    *("confident_threshold", "class_count", "class_issue_count", "issue_matrix", "checkpoint"),
)
"""Names that no coordinate may have in an output."""
IMAGE, SPATIAL = "image", ("z", "y", "x")
"""Names of dimensions that have none; of space the last as many as there are."""
AFFINE = "affine"
"""A coordinate (image, world_axis, index_axis): where the pixels of an image are."""


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


def output_dims(labels: Any, lineup: Lineup) -> tuple[Hashable, ...]:
    """Return the names of the labels' own dimensions: theirs, or image, y, x."""
    if isinstance(labels, xr.DataArray):
        return labels.dims
    layout = lineup.labels
    seen = (IMAGE, *SPATIAL[len(SPATIAL) + 1 - len(layout.axes) :])
    return describe(labels, "labels").names or layout.own(seen)


def output_image_dim(labels: Any, lineup: Lineup) -> Hashable:
    """Return the name of the dimension of what there is for each image."""
    axis = lineup.labels.axes[0]
    return IMAGE if axis is None else output_dims(labels, lineup)[axis]


def class_labels(pred_probs: Any, class_dim: Hashable | None) -> xr.Variable | None:
    """Return the coordinate of the classes, which predictions have or which lies beside them."""
    dims = describe(pred_probs, "pred_probs").names
    if dims is None or class_dim not in dims:
        return None
    if isinstance(pred_probs, zarr.Array):
        names = [class_dim]
        coords: Any = coordinates_beside(pred_probs, "pred_probs", names, names).coords
    else:
        coords = pred_probs.coords
    if class_dim not in coords or coords[class_dim].dims != (class_dim,):
        return None
    variable: xr.Variable = coords[class_dim].variable.drop_encoding()
    return variable


def with_classes(coordinates: xr.Dataset, classes: xr.Variable | None) -> xr.Dataset:
    """Return coordinates with those of the classes, and without any called as an output is."""
    free = coordinates.drop_vars((*OUTPUTS, *CLASS_DIMS), errors="ignore")
    if classes is None:
        return free
    made = {dim: xr.Variable((dim,), classes.values, classes.attrs) for dim in CLASS_DIMS}
    return free.assign_coords(made)


def with_places(image: xr.Dataset) -> xr.Dataset:
    """Return one image with coordinates of its pixels, if it is known where they are.

    They are where its `AFFINE` says; where that turns axes, they have no coordinates of their own.
    """
    if AFFINE not in image.variables:
        return image
    affine = image[AFFINE].values
    size = len(affine)
    # World axes are x, y and z, whichever of the axes of the image runs along each.
    along = [np.flatnonzero(affine[:, axis]).tolist() for axis in range(size)]
    if np.isnan(affine).any() or sorted(along) != [[axis] for axis in range(size)]:
        return image
    coords = {}
    for axis, dim in enumerate(SPATIAL[-size:]):
        (world,) = along[axis]
        if dim in image.dims:
            index = np.arange(image.sizes[dim])
            coords[dim] = affine[world, axis] * index + affine[world, -1]
    return image.assign_coords(coords)


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


def carried_coordinates(labels: zarr.Array[Any], pred_probs: Any, lineup: Lineup) -> Carried:
    """Read what is to be taken over from beside labels; nothing of how it was encoded is.

    Raises
    ------
    InputError
        A coordinate cannot be decoded.
    """
    dims = output_dims(labels, lineup)
    place = place_attributes(labels.attrs)
    grid = [name.rstrip(":") for name in str(place.get("grid_mapping", "")).split()]
    listed = str(labels.attrs.get("coordinates", "")).split()
    names = (*dims, *listed, *grid)
    found = coordinates_beside(labels, "labels", names, dims)
    image = output_image_dim(labels, lineup)
    if image in found.coords and image not in dims:  # of the image that one scene is
        found = found.expand_dims(image)
    classes = class_labels(pred_probs, lineup.class_dim)
    found = with_classes(found, classes)
    others = [name for name in found.coords if name not in found.dims]
    named = {"coordinates": " ".join(map(str, others))} if others else {}
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
