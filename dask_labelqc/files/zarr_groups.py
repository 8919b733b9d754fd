"""A Zarr group with one array for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.files.formats import reading, whole_numbers
from dask_labelqc.files.reader import Form, Reader, Window
from dask_labelqc.storage.ahead import reads_ahead
from dask_labelqc.storage.containers import stored_scale
from dask_labelqc.storage.objects import list_names, list_tags
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import AnyArray

__all__ = ["ZarrImages", "holds_arrays"]

MARKS = ("zarr.json", ".zgroup")
OWN = (*MARKS, ".zattrs", ".zmetadata")


def holds_arrays(location: str | Path, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Say if there is a Zarr group at a place."""
    try:
        names = list_names(open_store(location, storage_options), "")
    except (OSError, NotImplementedError):
        return str(location).rstrip("/").endswith(".zarr")
    return any(mark in names for mark in MARKS)


class ZarrImages(Reader):
    """The arrays of a group, by their names; parts of them are read alone.

    Parameters
    ----------
    location
        Path or URL of the group.
    side
        "labels" or "pred_probs".
    class_axis
        Of predictions.
    storage_options
        Of the store.
    """

    in_parts = True

    def __init__(
        self,
        location: str | Path,
        side: str,
        class_axis: int = 0,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.side, self.location, self.class_axis = side, str(location).rstrip("/"), class_axis
        self._store = open_store(location, storage_options)
        self.ahead = reads_ahead(self._store)
        with reading(side, self.location):
            self.ids = self._names()
        if not self.ids:
            raise InputError(f"{side}: {self.location} has no arrays")

    def _names(self) -> list[str]:
        """Return what lies in the group: to open all of it takes a request or two for each."""
        try:
            return sorted(name for name in list_names(self._store, "") if name not in OWN)
        except (StoreError, NotImplementedError):
            return sorted(self._group.array_keys())

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(self._store, mode="r")

    @cached_property
    def _tags(self) -> Mapping[str, str] | None:
        """What the store says of all objects of an array, put together."""
        listed = list_tags(self._store, "")
        if listed is None:
            return None
        tags: dict[str, list[str]] = defaultdict(list)
        for key, tag in listed:
            tags[key.partition("/")[0]].append(f"{key} {tag}")
        return {name: "\n".join(sorted(each)) for name, each in tags.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("ids", "_group", "_tags")}

    def name(self, id: str) -> str:
        """Return where an array is."""
        return f"{self.location}/{id}"

    def tag(self, id: str) -> str | None:
        """Return what changes with an array."""
        return None if self._tags is None else self._tags.get(id, "")

    def about(self) -> Mapping[str, Any]:
        """Return where the group is, and which axis is that of the classes."""
        return {"reader": "zarr", "location": self.location, "class_axis": self.class_axis}

    def form(self, id: str) -> Form:
        """Return shape and dtype."""
        with reading(self.side, self.name(id)):
            array = self._array(id)
            shape = array.shape
            if self.side == "pred_probs":
                sizes = list(shape)
                shape = (sizes.pop(self.class_axis), *sizes)
            return Form(shape, array.dtype, scale=stored_scale(array))

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Read an array, or a part of it."""
        with reading(self.side, self.name(id)):
            array = self._array(id)
            if self.side == "labels":
                return whole_numbers(np.asarray(array[window or ...]))
            index = list(window or (slice(None),) * (array.ndim - 1))
            index.insert(self.class_axis % array.ndim, slice(None))
            return np.moveaxis(np.asarray(array[tuple(index)]), self.class_axis, 0)

    def _array(self, id: str) -> zarr.Array[Any]:
        array = self._group[id]
        if not isinstance(array, zarr.Array):
            raise InputError("is a group, not an array")
        return array
