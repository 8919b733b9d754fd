"""Chunks of a stored dataset that are gone: their boxes would read as the fill value."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.extent import name_images
from dask_labelqc.limits import check_memory
from dask_labelqc.object_detection.dataset import COLUMNS
from dask_labelqc.storage.gaps import missing_objects, object_grid, object_shape
from dask_labelqc.typing import Ints, Shape

__all__ = ["Gap", "check_offsets_are_stored", "gaps_of_boxes"]

SHOWN = 3
OPTIONAL = "given_crowd"
"""Whole chunks without a crowd are common, and many writers leave out what is all zeros."""


def check_offsets_are_stored(group: zarr.Group) -> None:
    """Raise if a chunk of the offsets is not in the store, unless it can only have been zeros."""
    for side in ("given", "predicted"):
        offsets, boxes = _array(group, f"{side}_offsets"), _array(group, f"{side}_boxes")
        check_memory(f"{side}_offsets", offsets.shape, offsets.dtype.itemsize)
        missing = missing_objects(offsets)
        if missing and not _are_zeros(offsets, missing, boxes.shape[0]):
            raise _gone(offsets, missing, np.arange(offsets.shape[0]))


def _are_zeros(offsets: zarr.Array[Any], missing: list[Shape], num_boxes: int) -> bool:
    """Say if what is not there cannot but be zeros, which Zarr leaves out if asked to.

    Offsets begin at 0 and never fall: before a 0 that is there, or without any box, all are 0.
    """
    after = (missing[-1][0] + 1) * object_shape(offsets)[0]
    following = np.asarray(offsets[after : after + 1])
    return not offsets.fill_value and not (following.any() if following.size else num_boxes)


@dataclass(frozen=True)
class Gap:
    """Rows of a column whose chunk is not in the store, and what is to be said of them."""

    column: str
    rows: tuple[int, int]
    message: str


def gaps_of_boxes(
    group: zarr.Group, num_classes: int, given: Ints, predicted: Ints, *, every: bool
) -> tuple[Gap, ...]:
    """Return what is missing of the boxes; warn where the fill value is a class.

    Parameters
    ----------
    group
        With the variables of the columnar dataset.
    num_classes
        K.
    given, predicted
        The offsets (N + 1,), which say whose boxes a chunk has.
    every
        Return each chunk; otherwise the first column with one is an error.

    Raises
    ------
    InputError
        Naming the array, its chunks and their images.
    """
    gaps: list[Gap] = []
    for name in COLUMNS:
        if name.endswith("offsets") or name == OPTIONAL:
            continue
        array = _array(group, name)
        missing = missing_objects(array)
        if not missing:
            continue
        offsets = given if name.startswith("given") else predicted
        fill = int(array.fill_value or 0) if name.endswith("classes") else -1
        if 0 <= fill < num_classes:
            warnings.warn(
                f"{_described(array, missing, offsets)}: read as class {fill}, as if they had been "
                "left out because every box in them is of this class",
                LabelQCWarning,
                stacklevel=2,
            )
        elif not every:
            raise _gone(array, missing, offsets)
        else:
            gaps += [_gap(array, place) for place in missing]
    return tuple(gaps)


def _gap(array: zarr.Array[Any], place: Shape) -> Gap:
    length = object_shape(array)[0]
    rows = place[0] * length, min((place[0] + 1) * length, array.shape[0])
    chunk = ".".join(map(str, place))
    return Gap(array.basename, rows, f"{array.basename}: chunk {chunk} is not in the store")


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise InputError(f"{name} is a Zarr group; it must be an array")
    return array


def _gone(array: zarr.Array[Any], missing: list[Shape], offsets: Ints) -> InputError:
    left_out = (
        " If it was, they were left out because all in them is 0: write the array again with a "
        "fill value that is not in it, such as -1, as from_lists, from_coco and from_yolo do"
    )
    return InputError(
        f"{_described(array, missing, offsets)}: they would read as {array.fill_value}. Was the "
        f"dataset written, or copied, to the end?{'' if array.fill_value else left_out}"
    )


def _described(array: zarr.Array[Any], missing: list[Shape], offsets: Ints) -> str:
    length, total = object_shape(array)[0], math.prod(object_grid(array))
    places = []
    for position in missing[:SHOWN]:
        boxes = position[0] * length, min((position[0] + 1) * length, array.shape[0]) - 1
        images = np.searchsorted(offsets, boxes, side="right") - 1
        first, last = np.minimum(images, len(offsets) - 2).tolist()
        places.append(f"{'.'.join(map(str, position))} ({name_images(first, last)})")
    more = ", ..." if len(missing) > SHOWN else ""
    return (
        f"{array.basename}: {len(missing)} of {total} chunks are not in the store, "
        f"{', '.join(places)}{more}"
    )
