"""Readers of what a path or URL names: which format it is, and what it needs to be read."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from dask_labelqc.errors import InputError
from dask_labelqc.files.class_colors import ClassColors, Colors, read_colors
from dask_labelqc.files.coco import CocoInstances, CocoPanoptic, is_panoptic
from dask_labelqc.files.file_reader import FileReader
from dask_labelqc.files.formats import (
    FORMATS,
    FileFormat,
    GeoTiff,
    Nifti,
    Npy,
    Npz,
    Picture,
    Tiff,
    needed,
)
from dask_labelqc.files.parquet import ParquetImages
from dask_labelqc.files.places import Files, Locations, find_files, is_pattern, suffix_of
from dask_labelqc.files.reader import ImageReader, OwnReader, Reader
from dask_labelqc.files.zarr_groups import ZarrImages, holds_arrays

__all__ = ["Images", "is_known_file", "labels", "pred_probs"]

Images: TypeAlias = "Locations | ImageReader"
"""What is read: a path or URL, several, or a reader of your own."""

BY_SUFFIX: Mapping[str, type[FileFormat]] = {
    suffix: kind for kind in (Picture, Tiff, Nifti, Npy, Npz) for suffix in kind.suffixes
}
OTHERS = ("zarr", "parquet", "panoptic", "instances")
TRIED = 10
"""Files that are looked into for their format, as long as they are damaged."""


def labels(
    location: Images,
    *,
    format: str | None = None,
    class_colors: ClassColors | None = None,
    background: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> Reader:
    r"""Return a reader of labels: its ``ids``, and ``read(id)``, the class ids (\*spatial) of one.

    Parameters
    ----------
    location
        A folder, a pattern with ``*``, ``**`` or ``{id}``, a file, or several; on this machine or
        at any URL. The id of an image is what stands for ``{id}``, else the name of the file
        without its ending. PNG and other pictures (of a palette the indices), TIFF, GeoTIFF, NIfTI,
        ``.npy`` and ``.npz``; a Zarr group with one array for each image; Parquet files with
        encoded images, ``files.parquet#column``; COCO's JSON of instances, or of panoptic
        segmentation with the folder of its pictures, ``file.json#folder``. Or a reader of your own:
        `ImageReader`.
    format
        Where the names of files do not say it: picture, tiff, geotiff, nifti, npy, npz, zarr,
        parquet, panoptic or instances.
    class_colors
        The labels are colours: which is which class; see `read_colors`.
    background
        Of COCO instances: class 0 is what none of them covers, else that stands for no label.
    storage_options
        Of the store that the URL names.

    Returns
    -------
    Reader
        It can be pickled.

    Raises
    ------
    ImportError
        What reads the format is not installed.
    InputError
        There is nothing that can be read, or files of several formats.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> import numpy as np
    >>> np.save(folder / "a.npy", np.zeros((2, 3), np.uint8))
    >>> reader = labels(folder)
    >>> reader.ids, reader.read("a").shape
    (['a'], (2, 3))
    """
    colors = None if class_colors is None else read_colors(class_colors)
    how = {"colors": colors, "background": background}
    return _open("labels", location, format, how, storage_options)


def pred_probs(
    location: Images,
    *,
    format: str | None = None,
    class_axis: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Reader:
    r"""Return a reader of predictions: its ``ids``, and ``read(id)``, the (K, \*spatial) of one.

    Parameters
    ----------
    location
        As of `labels`: ``.npy``, ``.npz``, TIFF or GeoTIFF with a band for each class, NIfTI with
        the classes last, a Zarr group, Parquet, or a reader of your own.
    format
        As of `labels`.
    class_axis
        Which of the stored axes is that of the classes: the first, or -1 for the last.
    storage_options
        Of the store that the URL names.

    Returns
    -------
    Reader
        It can be pickled.

    Raises
    ------
    ImportError
        What reads the format is not installed.
    InputError
        There is nothing that can be read, or files of several formats.
    """
    return _open("pred_probs", location, format, {"class_axis": class_axis or 0}, storage_options)


def is_known_file(location: str) -> bool:
    """Say if the name of a file says which format it has.

    Examples
    --------
    >>> is_known_file("masks/a.png"), is_known_file("data.zarr/labels")
    (True, False)
    """
    return suffix_of(location.partition("#")[0]) in (*BY_SUFFIX, ".json", ".parquet")


def _open(
    side: str,
    location: Images,
    format: str | None,
    how: Mapping[str, Any],
    storage_options: Mapping[str, Any] | None,
) -> Reader:
    if isinstance(location, Reader):
        return location
    if isinstance(location, ImageReader):
        return OwnReader(location, side)
    if format is not None and format not in (*FORMATS, *OTHERS):
        allowed = ", ".join((*FORMATS, *OTHERS))
        raise InputError(f"{side}: got the format {format!r}, it must be one of {allowed}")
    first = str(location if isinstance(location, str | Path) else next(iter(location), ""))
    plain, _, named = first.partition("#")
    ending = suffix_of(plain)
    colors: Colors | None = how.get("colors")
    class_axis = how.get("class_axis", 0)
    if format in ("panoptic", "instances") or (format is None and ending == ".json"):
        if side != "labels":
            raise InputError(f"{side}: {first!r} is JSON, which has no predictions")
        return _coco(plain, format, named, how["background"], storage_options)
    if format == "parquet" or (format is None and ending == ".parquet"):
        several = plain if isinstance(location, str | Path) else location
        return ParquetImages(
            several,
            side,
            named or None,
            colors=colors,
            class_axis=class_axis,
            storage_options=storage_options,
        )
    folder = isinstance(location, str | Path) and not ending.strip(".") and not is_pattern(first)
    maybe = folder or ending == ".zarr" or ".zarr/" in first
    if format == "zarr" or (format is None and maybe and holds_arrays(first, storage_options)):
        return ZarrImages(first, side, class_axis, storage_options)
    suffixes = FORMATS[format]().suffixes if format else (*BY_SUFFIX, ".parquet")
    files = find_files(side, location, suffixes, storage_options)
    kind = FORMATS[format] if format else _kind(side, files)
    if kind is None:
        return ParquetImages(
            location, side, colors=colors, class_axis=class_axis, storage_options=storage_options
        )
    return FileReader(side, files, kind(side == "pred_probs", colors, class_axis))


def _coco(
    location: str,
    format: str | None,
    folder: str,
    background: bool,
    storage_options: Mapping[str, Any] | None,
) -> Reader:
    if format == "panoptic" or (format is None and is_panoptic(location, storage_options)):
        return CocoPanoptic(location, folder or None, storage_options)
    return CocoInstances(location, background, storage_options)


def _kind(side: str, files: Files) -> Any:
    """Return the format that the files' names, and those of TIFF themselves, tell."""
    ending = suffix_of(files.keys[files.ids[0]])
    if ending == ".parquet":
        return None
    if ending not in BY_SUFFIX:
        raise InputError(
            f"{side}: {files.name(files.ids[0])} is of no format that is known by its name; format "
            f"says which of {', '.join((*FORMATS, *OTHERS))} it is"
        )
    kind = BY_SUFFIX[ending]
    return (GeoTiff if _are_geotiff(files) else Tiff) if kind is Tiff else kind


def _are_geotiff(files: Files) -> bool:
    """Say if TIFF files tell where they are; those that are damaged tell nothing."""
    try:
        tifffile = needed("tifffile", "files", "TIFF")
    except ImportError:
        return True  # rasterio reads any, and says so where it is missing, too
    for id in islice(files.ids, TRIED):
        try:
            with files.open(id) as file, tifffile.TiffFile(file) as opened:
                return bool(opened.is_geotiff)
        except Exception:
            continue
    return False
