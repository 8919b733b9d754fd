"""The names of classes, from wherever a dataset keeps them."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.errors import UnstableSpecificationWarning

from dask_labelqc.errors import InputError
from dask_labelqc.storage.dimensions import dimension_names, siblings
from dask_labelqc.typing import AnyArray

__all__ = ["class_names", "names_of_audit"]


def class_names(labels: Any, pred_probs: Any) -> dict[int, str]:
    """Return the names of labels, as far as there are any: most often of the classes 0..K-1.

    Names are, the first of these that has one: text in the coordinate of the classes, in xarray
    or beside a Zarr array; ``flag_values`` and ``flag_meanings`` of the labels, as the CF
    conventions have them; ``class_names`` in the attributes of either array or of a Zarr group.

    Parameters
    ----------
    labels, pred_probs
        Arrays in any container.

    Examples
    --------
    >>> flags = {"flag_values": [0, 1, 255], "flag_meanings": "sky road void"}
    >>> class_names(xr.DataArray([[0, 1]], attrs=flags), None)
    {0: 'sky', 1: 'road', 255: 'void'}
    """
    names: dict[int, str] = {}
    groups = [_group(array) for array in (labels, pred_probs)]
    for owner in (*groups, pred_probs, labels):
        names |= _listed(_attributes(owner).get("class_names"))
    flags = _flags(_attributes(labels))
    names |= flags
    if (dim := _class_dim(labels, pred_probs)) is not None:
        own = _coordinate(pred_probs, groups[1], dim)
        _check_order(flags, own)
        _check_ids(pred_probs, groups[1], dim)
        names |= own
    return names


def _check_order(flags: Mapping[int, str], own: Mapping[int, str]) -> None:
    """Raise InputError if labels and predictions have the same classes in another order."""
    places = {name: k for k, name in own.items()}
    for k, name in flags.items():
        if k in own and own[k] != name and name in places:
            raise InputError(
                f"pred_probs: their class {k} is {own[k]!r} by the coordinate of the classes, and "
                f"that of the labels {name!r} by flag_meanings; put the classes of the predictions "
                "in the order of the labels' ids, or mend the names"
            )


def _check_ids(array: Any, group: zarr.Group | None, dim: Hashable) -> None:
    """Raise InputError if the coordinate of the classes has all class ids, in another order."""
    found = _named(array, group, dim)
    if found is None or found.dtype.kind not in "iu" or tuple(_dims(found)) != (dim,):
        return
    ids = _read(found)
    if ids is None:
        return
    if np.array_equal(np.sort(ids), np.arange(ids.size)) and (np.diff(ids) != 1).any():
        raise InputError(
            f"pred_probs: the coordinate {str(dim)!r} of the classes is {ids[:4].tolist()}...; the "
            f"classes must be in the order of their ids: pred_probs.sortby({str(dim)!r})"
        )


def names_of_audit(audit: zarr.Group | xr.Dataset) -> dict[int, str]:
    """Return the names of classes that an output of an audit holds."""
    coordinate = audit.get("class")
    if isinstance(coordinate, zarr.Array | xr.DataArray):
        return _listed(_attributes(audit).get("class_names")) | _texts(coordinate)
    return _listed(_attributes(audit).get("class_names"))


def _group(array: Any) -> zarr.Group | None:
    return siblings(array) if isinstance(array, zarr.Array) else None


def _attributes(owner: Any) -> dict[Any, Any]:
    return dict(getattr(owner, "attrs", {}))


def _dims(array: Any) -> Sequence[Hashable]:
    if isinstance(array, zarr.Array):
        return dimension_names(array) or ()
    return array.dims if isinstance(array, xr.DataArray) else ()


def _class_dim(labels: Any, pred_probs: Any) -> Hashable | None:
    """Return the dimension that the labels lack; the second one where these have no names."""
    dims, given = _dims(pred_probs), _dims(labels)
    if not given:
        return dims[1] if len(dims) > 1 else None
    extra = [dim for dim in dims if dim not in given]
    return extra[0] if len(extra) == 1 else None


def _named(array: Any, group: zarr.Group | None, name: Hashable) -> Any:
    if isinstance(array, xr.DataArray):
        return array.coords.get(name)
    return None if group is None else _beside(group, str(name))


def _coordinate(array: Any, group: zarr.Group | None, dim: Hashable) -> dict[int, str]:
    names: dict[int, str] = {}
    for name in ("class_name", dim):
        found = _named(array, group, name)
        if found is not None and tuple(_dims(found)) == (dim,):
            names |= _texts(found)
    return names


def _beside(group: zarr.Group, name: str) -> zarr.Array[Any] | None:
    with warnings.catch_warnings(), suppress(ValueError, OSError):  # an audit needs no names
        warnings.simplefilter("ignore", UnstableSpecificationWarning)  # of text
        found = group.get(name)
        return found if isinstance(found, zarr.Array) else None
    return None


def _read(coordinate: Any) -> AnyArray | None:
    """Return the values of a coordinate; that it cannot be decoded is said where it is needed."""
    with suppress(ValueError, OSError, RuntimeError):
        values: AnyArray = np.asarray(coordinate[...])
        return values
    return None


def _texts(coordinate: Any) -> dict[int, str]:
    """Return what a coordinate says, if it is text: numbers name nothing."""
    values = _read(coordinate)
    if values is None or values.dtype.kind not in "UTO":
        return {}
    named = all(isinstance(value, str) for value in values.flat)
    return {k: str(value) for k, value in enumerate(values.flat)} if named else {}


def _listed(names: Any) -> dict[int, str]:
    if isinstance(names, Mapping):
        return {int(k): str(name) for k, name in names.items() if str(k).isdecimal()}
    if isinstance(names, list | tuple | np.ndarray):
        return {k: str(name) for k, name in enumerate(names)}
    return {}


def _flags(attributes: Mapping[str, Any]) -> dict[int, str]:
    meanings, values = attributes.get("flag_meanings"), attributes.get("flag_values")
    if meanings is None or values is None:
        return {}
    words = meanings.split() if isinstance(meanings, str) else list(meanings)
    if isinstance(values, str):
        values = values.replace(",", " ").split()
    with suppress(ValueError, TypeError):
        numbers = [int(value) for value in np.atleast_1d(values)]
        return {k: str(word) for k, word in zip(numbers, words, strict=True)}
    return {}
