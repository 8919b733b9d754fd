"""The columnar ragged dataset: all boxes of all images side by side, as one xarray Dataset.

=====================  ======================  ============================================
variable               dims                    content
=====================  ======================  ============================================
``given_boxes``        given_box, corner       float, x1, y1, x2, y2 in pixels
``given_classes``      given_box               integer, 0..K-1
``given_crowd``        given_box               bool, optional: a crowd of objects, not scored
``given_offsets``      image_edge              integer (N + 1,): image i owns the given boxes
                                               ``given_offsets[i]:given_offsets[i + 1]``
``predicted_boxes``    predicted_box, corner   float, x1, y1, x2, y2 in pixels
``predicted_classes``  predicted_box           integer, 0..K-1
``predicted_scores``   predicted_box           float, probability of the predicted class
``predicted_offsets``  image_edge              integer (N + 1,), the same for predicted boxes
``class``              class                   coordinate: 0..K-1, says how many classes there are
=====================  ======================  ============================================

Further coordinates along ``image`` and ``class`` (``image_name``, ``class_name``) are carried
into the answers. ``dataset.to_zarr(path)`` stores it; the path or URL, the opened Zarr group or
the Dataset itself is what every function of `dask_labelqc.object_detection` takes. Chunks need
not fit the images; 2**16 to 2**18 boxes a chunk suit the tasks, which hold 2**19 boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection.lists import (
    LabelLists,
    PredictionLists,
    flatten_labels,
    flatten_predictions,
)
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["COLUMNS", "Columnar", "as_text", "check_offsets", "columnar_dataset", "from_lists"]

Columnar: TypeAlias = xr.Dataset | zarr.Group | str | Path
"""The columnar dataset, or where it is."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "given_boxes": ("given_box", "corner"),
    "given_classes": ("given_box",),
    "given_crowd": ("given_box",),
    "given_offsets": ("image_edge",),
    "predicted_boxes": ("predicted_box", "corner"),
    "predicted_classes": ("predicted_box",),
    "predicted_scores": ("predicted_box",),
    "predicted_offsets": ("image_edge",),
}
"""The variables of the dataset and their dimensions; ``given_crowd`` may be missing."""


def columnar_dataset(
    columns: Mapping[str, Any],
    num_classes: int,
    *,
    class_names: Sequence[str] | None = None,
    image_coords: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Assemble the columnar dataset from its arrays.

    Parameters
    ----------
    columns
        The variables listed at the top of this module, by name: NumPy or Dask arrays.
    num_classes
        K; the classes are 0..K-1.
    class_names
        K names, kept as the coordinate ``class_name``.
    image_coords
        Coordinates along the images, by name, (N,) each.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        A variable is missing, unknown or does not fit the others, or the number of names is not K.
    """
    missing = [name for name in COLUMNS if name not in columns and name != "given_crowd"]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown:
        raise InputError(f"columns: missing {missing}, unknown {unknown}; allowed: {list(COLUMNS)}")
    coords: dict[str, Any] = {
        "class": ("class", np.arange(num_classes)),
        "corner": ("corner", as_text(["x1", "y1", "x2", "y2"])),
    }
    if class_names is not None:
        if len(class_names) != num_classes:
            raise InputError(f"class_names has {len(class_names)} names for {num_classes} classes")
        coords["class_name"] = ("class", as_text(class_names))
    for name, values in (image_coords or {}).items():
        text = len(values) > 0 and isinstance(values[0], str)
        coords[name] = ("image", as_text(values) if text else np.asarray(values))
    try:
        dataset = xr.Dataset({name: (COLUMNS[name], columns[name]) for name in columns}, coords)
    except ValueError as error:
        raise InputError(f"columns do not fit each other: {error}") from error
    for name in columns:
        dtype = dataset[name].dtype
        if dtype.kind in "iu":
            # Zero is a class and an offset. With another fill value chunks of zeros are written,
            # and one that is lost is noticed; xarray gives floats NaN.
            fill = -1 if dtype.kind == "i" else int(np.iinfo(dtype).max)
            dataset[name].encoding["fill_value"] = fill
    return dataset


def from_lists(
    labels: LabelLists,
    predictions: PredictionLists,
    *,
    class_names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Turn cleanlab's lists into the columnar dataset.

    Parameters
    ----------
    labels
        N dictionaries ``{"bboxes": (L, 4), "labels": (L,)}``, x1, y1, x2, y2 in pixels;
        ``"image_name"`` is kept when every image has one.
    predictions
        N sequences of K arrays (M, 5): x1, y1, x2, y2, probability.
    class_names
        K names.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        The lists do not fit each other; the message names the image.

    Examples
    --------
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([1])}]
    >>> predictions = [[np.zeros((0, 5)), np.array([[0, 0, 9, 8, 0.9]])]]
    >>> dict(from_lists(labels, predictions).sizes)["predicted_box"]
    1
    """
    predicted, num_classes = flatten_predictions(predictions)
    columns = flatten_labels(labels, len(predictions)) | predicted
    names = [label.get("image_name") for label in labels]
    coords = {} if any(name is None for name in names) else {"image_name": names}
    return columnar_dataset(columns, num_classes, class_names=class_names, image_coords=coords)


def as_text(values: Sequence[Any]) -> AnyArray:
    """Return names as xarray and Zarr keep them."""
    # Objects are stored as Zarr's variable-length strings; NumPy's own have no specification.
    return np.array([str(value) for value in values], dtype=object)


def check_offsets(name: str, offsets: AnyArray, num_boxes: int) -> Ints:
    """Return the offsets as int64, or raise unless they cut `num_boxes` boxes into images."""
    offsets = np.asarray(offsets)
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise InputError(
            f"{name} has shape {offsets.shape} and dtype {offsets.dtype}; needed are N + 1 "
            "integers for N >= 1 images"
        )
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != num_boxes:
        raise InputError(
            f"{name} runs from {offsets[0]} to {offsets[-1]}; it must run from 0 to the number "
            f"of boxes, {num_boxes}"
        )
    falling = np.flatnonzero(np.diff(offsets) < 0)
    if falling.size:
        image = int(falling[0])
        raise InputError(
            f"{name} falls from {offsets[image]} to {offsets[image + 1]} at image {image}; it "
            "must never fall"
        )
    return offsets
