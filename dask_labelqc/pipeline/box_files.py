"""Boxes of COCO and YOLO files, stored where the tasks of a job can read them."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.errors import GroupNotFoundError, UnstableSpecificationWarning, ZarrUserWarning

from dask_labelqc.errors import OutputError, advise
from dask_labelqc.object_detection.coco import from_coco
from dask_labelqc.object_detection.yolo import from_yolo
from dask_labelqc.pipeline.lease import CHECKPOINT, hold
from dask_labelqc.pipeline.output import output_store, writing
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.objects import list_names

__all__ = ["store_coco", "store_yolo"]

MADE_OF = "made_of"
"""The attribute that names the files, as they were."""


def store_coco(
    boxes: str | Path,
    ground_truth: str | Path,
    results: str | Path,
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Store the boxes of two COCO files as a columnar dataset, unless that is done.

    Parameters
    ----------
    boxes
        Path or URL of the Zarr group to make.
    ground_truth, results
        As in `from_coco`.
    overwrite
        Replace what was made of other files.
    storage_options
        Of the store that `boxes` names.
    """
    files = f"{_state(ground_truth)} {_state(results)}"
    _store(boxes, files, lambda: from_coco(ground_truth, results), overwrite, storage_options)


def store_yolo(
    boxes: str | Path,
    labels: str | Path,
    predictions: str | Path,
    image_sizes: str,
    *,
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Store the boxes of two YOLO folders as a columnar dataset, unless that is done.

    Parameters
    ----------
    boxes
        Path or URL of the Zarr group to make.
    labels, predictions, class_names
        As in `from_yolo`.
    image_sizes
        "640x480" for all images, or the folder of the images.
    overwrite
        Replace what was made of other files.
    storage_options
        Of the store that `boxes` names.
    """
    numbers = re.fullmatch(r"(\d+)x(\d+)", image_sizes)
    sizes: Any = image_sizes if numbers is None else tuple(map(int, numbers.groups()))
    images = _state(image_sizes) if numbers is None else image_sizes
    files = f"{_state(labels)} {_state(predictions)} {images} {' '.join(class_names or ())}"

    def read() -> xr.Dataset:
        return from_yolo(labels, predictions, sizes, class_names=class_names)

    _store(boxes, files, read, overwrite, storage_options)


def _store(
    boxes: str | Path,
    files: str,
    read: Callable[[], xr.Dataset],
    overwrite: bool,
    storage_options: Mapping[str, Any] | None,
) -> None:
    store = output_store(boxes, storage_options)
    with writing(boxes), hold(store, str(boxes)) as lease:
        made_of, complete = _found(boxes, lease.store)
        if complete and made_of == files:
            return
        if complete and not overwrite:
            raise OutputError(
                f"output: {str(boxes)!r} was made of other files, or these have changed since",
                advise("{overwrite} replaces it", overwrite=True),
            )
        dataset = read()
        attributes: dict[str, Any] = {MADE_OF: files, "status": "unfinished"}
        group = zarr.open_group(lease.store, mode="w", attributes=attributes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnstableSpecificationWarning)  # strings
            warnings.simplefilter("ignore", ZarrUserWarning)  # the claims are no array
            dataset.to_zarr(lease.store, mode="a", consolidated=False, zarr_format=3)
            group.attrs["status"] = "complete"
            consolidate(group)


def _found(boxes: str | Path, store: Store) -> tuple[str | None, bool]:
    """Return of what files boxes were made before, if they were, and whether they are whole."""
    try:
        found: dict[str, Any] = dict(zarr.open_group(store, mode="r").attrs)
    except (FileNotFoundError, GroupNotFoundError):
        found = {}
    made_of, others = found.get(MADE_OF), set(list_names(store, "")) - {CHECKPOINT}
    if made_of is None and others:
        raise OutputError(
            f"output: {str(boxes)!r} exists and was not made of files by this command; name a new "
            "place for the boxes"
        )
    return made_of, found.get("status") == "complete"


def _state(path: str | Path) -> str:
    """Return a file, or a folder with all below, and a hash of its size and times."""
    path = Path(path)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    hashed = hashlib.sha256()
    for file in files:
        if file.is_file():
            about: os.stat_result = file.stat()
            name = file.relative_to(path).as_posix()
            hashed.update(f"{name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return f"{path}:{hashed.hexdigest()[:16]}"
