"""What kind of dataset arrays or a Zarr group hold: images, examples, or boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import NodeNotFoundError

from dask_labelqc.errors import InputError
from dask_labelqc.pipeline.image_source import table_beside
from dask_labelqc.storage.alignment import SPATIAL_NAMES
from dask_labelqc.storage.arrays import StoreLocation, open_array
from dask_labelqc.storage.dimensions import describe
from dask_labelqc.storage.stores import open_store

__all__ = ["are_examples", "arrays_in"]

INPUTS = "labels", "pred_probs"


def are_examples(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    storage_options: Mapping[str, Any] | None = None,
) -> bool:
    """Say if arrays are (N,) and (N, K), and not of one scene whose pixels have one dimension.

    Nor are they where a table beside says which pixels are those of which image. Of a dimension
    that is called as a place is, it is a scene if the classes come first.

    Raises
    ------
    InputError
        They cannot be opened, or are neither.
    """
    given = open_array(labels, "labels", storage_options)
    predicted = open_array(pred_probs, "pred_probs", storage_options)
    if given.ndim != 1 or table_beside(given):
        return False
    if predicted.ndim > 3:
        return False  # whose labels lack their dimensions
    if predicted.ndim != 2:
        raise InputError(
            f"pred_probs: got shape {predicted.shape}; for labels of shape {given.shape} it must "
            "be (N, K), or (K, N) where the labels are one scene"
        )
    (name,) = describe(given, "labels").names or ("example",)
    if str(name).casefold() not in SPATIAL_NAMES:
        return True
    names = describe(predicted, "pred_probs").names
    if names is None:
        return bool(predicted.shape[0] == given.shape[0])
    return bool(names[0] == name)


def arrays_in(
    store: str | Path, storage_options: Mapping[str, Any] | None = None
) -> tuple[str, str] | None:
    """Return where the labels and predictions are that a Zarr group holds; None if it has boxes.

    Raises
    ------
    InputError
        There is neither.
    """
    found = _at(store, storage_options)
    if isinstance(found, zarr.Array):
        raise InputError(
            f"store: {str(store)!r} is a Zarr array; name LABELS and PRED_PROBS, two arrays, or "
            "the group that holds both"
        )
    if found is not None and "given_boxes" in found:
        return None
    labels, pred_probs = (f"{str(store).rstrip('/')}/{name}" for name in INPUTS)
    there = {
        name: _at(p, storage_options) for name, p in zip(INPUTS, (labels, pred_probs), strict=True)
    }
    if missing := [name for name, array in there.items() if array is None]:
        what = (
            "no Zarr group"
            if found is None and len(missing) == 2
            else "no " + " and no ".join(missing)
        )
        raise InputError(
            f"store: there is {what} at {str(store)!r}; it must be a group with the arrays labels "
            "and pred_probs, or with boxes; two arrays are named as LABELS PRED_PROBS"
        )
    return labels, pred_probs


def _at(
    place: str | Path, storage_options: Mapping[str, Any] | None
) -> zarr.Array[Any] | zarr.Group | str | None:
    """Return what is at a place, None if nothing is, its name if it is damaged."""
    store = open_store(place, storage_options)
    try:
        return zarr.open(store, mode="r")
    except (FileNotFoundError, NodeNotFoundError):
        return None
    except ValueError:
        return str(place)  # whoever reads it will say how
