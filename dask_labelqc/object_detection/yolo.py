"""Folders of YOLO text files, read into the columnar dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection.dataset import columnar_dataset
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["from_yolo"]

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

ImageSizes = tuple[int, int] | Mapping[str, tuple[int, int]] | str | Path


def from_yolo(
    labels: str | Path,
    predictions: str | Path,
    image_sizes: ImageSizes,
    *,
    class_names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Read YOLO label and prediction folders into the columnar dataset.

    Parameters
    ----------
    labels
        Folder of text files, one an image; a line is ``class x y width height``, the centre and
        size of a box as fractions of the image.
    predictions
        Folder of files of the same names; a line has the probability as sixth number (Ultralytics:
        ``save_txt=True, save_conf=True``). A missing file is an image without boxes.
    image_sizes
        (width, height) in pixels of all images, or by file name without suffix, or the folder of
        the images, whose headers are then read. The last two also say which images there are.
    class_names
        K names. Without them K is one more than the highest class in the files.

    Returns
    -------
    xarray.Dataset
        Images sorted by name, with the coordinate ``image_name``.

    Raises
    ------
    InputError
        Naming the file and line that is not five, or six, numbers; or an image without a size.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "street.txt").write_text("0 0.5 0.5 0.2 0.4 0.9")
    >>> (folder / "labels").mkdir()
    >>> dataset = from_yolo(folder / "labels", folder, (100, 50))
    >>> dataset["predicted_boxes"].values
    array([[40., 15., 60., 35.]])
    """
    labels, predictions = Path(labels), Path(predictions)
    for name, folder in (("labels", labels), ("predictions", predictions)):
        if not folder.is_dir():
            raise InputError(f"{name} must be a folder, got {str(folder)!r}")
    sizes = _sizes(
        image_sizes, {file.stem for f in (labels, predictions) for file in f.glob("*.txt")}
    )
    names = sorted(sizes)
    if not names:
        raise InputError(f"no images: {str(labels)!r} and {str(predictions)!r} have no .txt files")
    given = [_read(labels / f"{name}.txt", 5) for name in names]
    predicted = [_read(predictions / f"{name}.txt", 6) for name in names]
    columns = _columns("given", given, [sizes[name] for name in names])
    columns |= _columns("predicted", predicted, [sizes[name] for name in names])
    columns["predicted_scores"] = np.concatenate(predicted)[:, 5]
    classes = np.concatenate([columns["given_classes"], columns["predicted_classes"]])
    num_classes = len(class_names) if class_names else int(classes.max(initial=0)) + 1
    return columnar_dataset(
        columns, num_classes, class_names=class_names, image_coords={"image_name": names}
    )


def _sizes(image_sizes: ImageSizes, stems: set[str]) -> Mapping[str, tuple[int, int]]:
    if isinstance(image_sizes, tuple):
        return dict.fromkeys(stems, image_sizes)
    if isinstance(image_sizes, (str, Path)):
        image_sizes = _sizes_of_files(Path(image_sizes))
    without = sorted(stems - set(image_sizes))
    if without:
        raise InputError(f"image_sizes has no size for {len(without)} images, first {without[0]!r}")
    return image_sizes


def _sizes_of_files(folder: Path) -> dict[str, tuple[int, int]]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'from_yolo needs Pillow to read image sizes: pip install "dask-labelqc[plot]"'
        ) from error
    sizes = {}
    for file in folder.iterdir():
        if file.suffix.lower() in IMAGE_SUFFIXES:
            with Image.open(file) as image:
                sizes[file.stem] = image.size
    return sizes


def _read(path: Path, numbers: int) -> Floats:
    """Return the lines of a file, float64 (boxes, numbers); none for a missing file."""
    if not path.exists():
        return np.zeros((0, numbers))
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if len(line) != numbers:
            raise InputError(
                f"{path}, line {number}: {len(line)} numbers, needed are {numbers}: class, x, y, "
                f"width, height{', probability' if numbers == 6 else ''}"
            )
    try:
        return np.array(lines, np.float64).reshape(-1, numbers)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _columns(side: str, images: Sequence[Floats], sizes: Sequence[Any]) -> dict[str, AnyArray]:
    counts = [len(image) for image in images]
    rows = np.concatenate(images)
    scale = np.repeat(np.array(sizes, np.float64).reshape(-1, 2), counts, axis=0)
    centre, half = rows[:, 1:3] * scale, rows[:, 3:5] * scale / 2
    return {
        f"{side}_boxes": np.concatenate([centre - half, centre + half], axis=1),
        f"{side}_classes": rows[:, 0].astype(np.int32),
        f"{side}_offsets": np.cumsum([0, *counts]),
    }
