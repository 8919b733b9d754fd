"""The names of an array's dimensions, and the labels along them, whatever it is."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.errors import NodeNotFoundError, UnstableSpecificationWarning
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError, StoreError, advise
from dask_labelqc.limits import check_memory
from dask_labelqc.storage.stores import RemoteStore, open_store, store_url
from dask_labelqc.typing import Shape

__all__ = [
    "Dimensions",
    "coordinates_beside",
    "describe",
    "dimension_names",
    "place_attributes",
    "siblings",
]

MEND = advise("write it again or delete it, and then go on with {resume}", resume=True)
PLACE_ATTRIBUTES = {"grid_mapping", "crs", "crs_wkt", "spatial_ref", "transform", "res", "_CRS"}
"""Of CF, GDAL and rasterio; those of STAC begin with "proj:"."""


def dimension_names(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return the names of the dimensions if every one has a name of its own."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    if names is None:
        names = array.attrs.get("_ARRAY_DIMENSIONS")  # where xarray puts them in Zarr 2
    named = tuple(str(name) for name in names or () if name is not None)
    return named if len(set(named)) == array.ndim and _are_given(named) else None


def _are_given(names: tuple[Hashable, ...]) -> bool:
    """Whether somebody gave these names: xarray numbers dimensions without any."""
    return names != tuple(f"dim_{axis}" for axis in range(len(names)))


def place_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return those of the labels' attributes that say where they are: CRS and grid mapping.

    Examples
    --------
    >>> place_attributes({"grid_mapping": "crs", "_FillValue": 255, "flag_values": [0, 1]})
    {'grid_mapping': 'crs'}
    """
    return {
        key: value
        for key, value in attributes.items()
        if key in PLACE_ATTRIBUTES or str(key).startswith("proj:")
    }


def siblings(array: zarr.Array[Any]) -> zarr.Group | None:
    """Return the group that an array lies in, None if it lies in none."""
    path = array.store_path.path
    try:
        if path:
            parent = path.rpartition("/")[0]
            return zarr.open_group(array.store_path.store, path=parent, mode="r")
        parent_url = str(array.store).rstrip("/").rpartition("/")[0]
        store = array.store
        beside = store.at(parent_url) if isinstance(store, RemoteStore) else open_store(parent_url)
        return zarr.open_group(beside, mode="r")
    except (FileNotFoundError, NodeNotFoundError, ValueError, StoreError):
        return None


def coordinates_beside(
    array: zarr.Array[Any],
    argument: str,
    names: Iterable[Hashable],
    dims: Iterable[Hashable],
) -> xr.Dataset:
    """Return the coordinates of these names that lie beside an array, in memory and decoded.

    Parameters
    ----------
    array
        Whose group is looked into.
    argument
        That it was given as, for the message.
    names
        Of the coordinates; those that are not there, or along other dimensions, are left out.
    dims
        Along which they may lie.

    Raises
    ------
    InputError
        One cannot be decoded.
    """
    beside, allowed = siblings(array), {str(dim) for dim in dims}
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)  # strings
        for name in dict.fromkeys(map(str, names)):
            coordinate = beside.get(name) if beside is not None else None
            if isinstance(coordinate, zarr.Array) and _lies_along(coordinate, allowed):
                _check_coordinate(coordinate, argument, name)
                found[name] = coordinate
        try:
            return _decoded(found)
        except Exception as error:
            raise InputError(
                f"{argument}: what lies beside it as coordinates, {', '.join(found)}, cannot be "
                f"decoded ({error})",
                MEND,
            ) from error


def _check_coordinate(coordinate: zarr.Array[Any], argument: str, name: str) -> None:
    """See that a coordinate can be read, before it is decoded together with others."""
    place = f"{store_url(coordinate.store)}/{coordinate.path}".rstrip("/")
    check_memory(f"the coordinate {name!r} at {place}", coordinate.shape, coordinate.dtype.itemsize)
    try:
        coordinate[...]
    except Exception as error:  # whatever a codec or a store raises
        raise InputError(
            f"{argument}: the coordinate {name!r} beside it, {place}, cannot be read ({error})",
            MEND,
        ) from error


def _lies_along(coordinate: zarr.Array[Any], dims: set[str]) -> bool:
    along = dimension_names(coordinate)
    return coordinate.ndim == 0 or (along is not None and set(along) <= dims)


def _decoded(arrays: Mapping[str, zarr.Array[Any]]) -> xr.Dataset:
    """Decode arrays as xarray does: it opens a copy of them, and of nothing else in the group."""
    store = MemoryStore()
    formats = {array.metadata.zarr_format for array in arrays.values()} or {3}
    zarr.open_group(store, mode="w", zarr_format=min(formats))
    for name, array in arrays.items():
        names = getattr(array.metadata, "dimension_names", None)
        zarr.from_array(
            store,
            data=array,
            name=name,
            fill_value=array.metadata.fill_value,
            attributes=dict(array.attrs),
            dimension_names=names,
        )
    decoded: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None)
    return decoded.set_coords(list(arrays)).load()


@dataclass(frozen=True)
class Dimensions:
    """What an array says of its dimensions.

    Attributes
    ----------
    argument
        That the array was given as.
    shape
        Of the array.
    names
        None if it has none.
    container
        An xarray.DataArray or a Zarr array, which may have labels along them.
    """

    argument: str
    shape: Shape
    names: tuple[Hashable, ...] | None = None
    container: Any = None

    def index(self, name: Hashable) -> pd.Index[Any] | None:
        """Return the labels along a dimension, None if there are none."""
        if self.names is None or name not in self.names:
            return None
        if isinstance(self.container, zarr.Array):
            found: Any = coordinates_beside(self.container, self.argument, [name], [name])
        else:
            found = self.container
        if name not in found.xindexes or found.coords[name].dims != (name,):
            return None
        index: pd.Index[Any] = found.coords[name].to_index()
        return index

    def shares_coordinates(self, other: Dimensions) -> bool:
        """Whether both are arrays of one Zarr group, so that one's coordinates are the other's."""
        one, two = self.container, other.container
        if not (isinstance(one, zarr.Array) and isinstance(two, zarr.Array)):
            return False
        return _group_of(one) == _group_of(two)


def _group_of(array: zarr.Array[Any]) -> tuple[Any, str]:
    """Return what is the same for two arrays only if they lie in the same group."""
    if path := array.store_path.path:
        return array.store_path.store, path.rpartition("/")[0]
    return None, str(array.store).rstrip("/").rpartition("/")[0]


def describe(array: Any, argument: str) -> Dimensions:
    """Say what is known of an array's dimensions.

    Examples
    --------
    >>> describe(xr.DataArray([[1, 2]], dims=("y", "x")), "labels").names
    ('y', 'x')
    >>> describe(np.array([[1, 2]]), "labels").names
    """
    if isinstance(array, xr.DataArray):
        names = array.dims if _are_given(array.dims) else None
        return Dimensions(argument, array.shape, names, array)
    if isinstance(array, zarr.Array):
        return Dimensions(argument, array.shape, dimension_names(array), array)
    return Dimensions(argument, np.shape(array))
