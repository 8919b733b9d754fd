"""Folders of YOLO text files, read into the columnar dataset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.object_detection.dataset import columnar_dataset
from dask_labelqc.object_detection.yolo_lines import (
    BOX,
    IGNORED,
    PROBABILITY,
    SLACK,
    Lines,
    find_files,
    read_lines,
)
from dask_labelqc.typing import AnyArray

__all__ = ["from_yolo"]

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
ORIENTATION, ON_THE_SIDE = 274, {5, 6, 7, 8}
"""The EXIF tag that says how a picture is turned, and its values for a quarter."""
MOST_CLASSES = 2**16
"""Where nobody says how many classes there are, a number above is taken for a typing error."""

ImageSizes = tuple[int, int] | Mapping[str, tuple[int, int]] | str | Path


def from_yolo(
    labels: str | Path,
    predictions: str | Path,
    image_sizes: ImageSizes,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    label_columns: Sequence[str] = BOX,
    prediction_columns: Sequence[str] = (*BOX, PROBABILITY),
) -> xr.Dataset:
    """Read YOLO label and prediction folders into the columnar dataset.

    Parameters
    ----------
    labels
        Folder of text files, one an image, also in folders below; a line is ``class x y width
        height``, the centre and size of a box as fractions of the image. Of polygons and oriented
        boxes, ``class x1 y1 x2 y2 x3 y3 ...``, the box around is taken, and one warning says how
        many there were.
    predictions
        Folder of files of the same names; a line has the probability as last number (Ultralytics:
        ``save_txt=True, save_conf=True``). A missing file is an image without boxes.
    image_sizes
        (width, height) in pixels of all images, or by file name without suffix, or the folder of
        the images, whose headers are then read. The last two also say which images there are.
    class_names
        K names.
    num_classes
        K. Without names either K is one more than the highest class in the files, which must be
        below 65,536.
    label_columns, prediction_columns
        What the numbers of a line are, where the order is another: "class", "x", "y", "width",
        "height", for predictions "probability", and "id" for one to be left out.

    Returns
    -------
    xarray.Dataset
        Images sorted by name, with the coordinate ``image_name``: the path from the folder on,
        without suffix.

    Raises
    ------
    InputError
        Naming the file, the line and the value that cannot be used; or an image without a size.

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
    num_classes = _num_classes(class_names, num_classes)
    _check_columns("label_columns", label_columns, BOX)
    _check_columns("prediction_columns", prediction_columns, (*BOX, PROBABILITY))
    given_files, predicted_files = _files(Path(labels), Path(predictions))
    sizes = _sizes(image_sizes, given_files.keys() | predicted_files.keys())
    names = sorted(sizes)
    if not names:
        raise InputError(f"no images: {str(labels)!r} and {str(predictions)!r} have no .txt files")
    limit = MOST_CLASSES if num_classes is None else num_classes
    given = read_lines(list(map(given_files.get, names)), label_columns, "label_columns", limit)
    predicted = read_lines(
        list(map(predicted_files.get, names)), prediction_columns, "prediction_columns", limit
    )
    _warn_of_polygons(given, predicted)
    _warn_of_outside(given, predicted)
    scale = np.array([sizes[name] for name in names], np.float64)
    columns = _columns("given", given, scale) | _columns("predicted", predicted, scale)
    columns["predicted_scores"] = predicted.rows[:, 5]
    if num_classes is None:
        highest = max(given.rows[:, 0].max(initial=0), predicted.rows[:, 0].max(initial=0))
        num_classes = int(highest) + 1
    return columnar_dataset(
        columns, num_classes, class_names=class_names, image_coords={"image_name": names}
    )


def _num_classes(class_names: Sequence[str] | None, num_classes: int | None) -> int | None:
    names = None if class_names is None else len(class_names)
    if num_classes is not None and num_classes < 1:
        raise InputError(f"num_classes: got {num_classes}, it must be 1 or more")
    if None not in (names, num_classes) and names != num_classes:
        raise InputError(f"class_names: got {names}, but num_classes is {num_classes}")
    if names == 0:
        raise InputError("class_names: got none, at least one class is needed")
    return names or num_classes


def _check_columns(argument: str, columns: Sequence[str], needed: Sequence[str]) -> None:
    if isinstance(columns, str) or sorted(c for c in columns if c != IGNORED) != sorted(needed):
        raise InputError(
            f"{argument} must be {', '.join(needed)} in some order, and {IGNORED!r} for what is to "
            f"be left out, got {columns!r}"
        )


def _files(labels: Path, predictions: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    for name, folder in (("labels", labels), ("predictions", predictions)):
        if not folder.is_dir():
            raise InputError(f"{name} must be a folder, got {str(folder)!r}")
    given, predicted = find_files(labels, predictions), find_files(predictions, labels)
    if given and predicted and not given.keys() & predicted.keys():
        raise InputError(
            "no image has both labels and predictions; the first are "
            f"{str(next(iter(given.values())))!r} and {str(next(iter(predicted.values())))!r}. "
            "Files of one image have the same path from labels and from predictions on"
        )
    return given, predicted


def _warn_of_polygons(given: Lines, predicted: Lines) -> None:
    if given.polygons or predicted.polygons:
        warnings.warn(
            f"{given.polygons} of {len(given.rows)} labels and {predicted.polygons} of "
            f"{len(predicted.rows)} predictions are polygons or oriented boxes; the boxes around "
            "them were taken",
            LabelQCWarning,
            stacklevel=3,
        )


def _warn_of_outside(given: Lines, predicted: Lines) -> None:
    sides = ("labels", "label_columns", given), ("predictions", "prediction_columns", predicted)
    found = [
        f"{lines.outside} of {len(lines.rows)} {what} reach out of their image by more than "
        f"{100 * SLACK:g} % of its size, the first in {lines.first_outside}; are the columns in "
        f"order ({columns}=)?"
        for what, columns, lines in sides
        if lines.outside
    ]
    if found:
        warnings.warn("; ".join(found), LabelQCWarning, stacklevel=3)


def _sizes(image_sizes: Any, names: set[str]) -> Mapping[str, tuple[float, float]]:
    if isinstance(image_sizes, str | Path):
        sizes: Mapping[str, Any] = _sizes_of_files(Path(image_sizes))
    elif isinstance(image_sizes, Mapping):
        sizes = image_sizes
    else:
        sizes = dict.fromkeys(names, image_sizes)
        names = set()
        _check_size(image_sizes, "image_sizes")
    for name, size in sizes.items():
        _check_size(size, f"image_sizes[{name!r}]")
    without = sorted(names - set(sizes))
    if without:
        raise InputError(
            f"image_sizes: none for {len(without)} images, the first is {without[0]!r}"
        )
    return sizes


def _check_size(size: Any, what: str) -> None:
    array = np.asarray(size) if isinstance(size, Sequence | np.ndarray) else np.empty(0)
    numbers = array.shape == (2,) and array.dtype.kind in "iuf"
    if not numbers or not np.all((array > 0) & (array < np.inf)):
        raise InputError(f"{what}: got {size!r}, it must be (width, height) in pixels, above 0")


def _sizes_of_files(folder: Path) -> dict[str, tuple[int, int]]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'from_yolo needs Pillow to read image sizes: pip install "dask-labelqc[plot]"'
        ) from error
    if not folder.is_dir():
        raise InputError(
            f"image_sizes: got {str(folder)!r}, neither a size nor the folder of the images"
        )
    sizes: dict[str, tuple[int, int]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        try:
            with Image.open(file) as image:
                # Labels are fractions of the picture as it is shown.
                turned = image.getexif().get(ORIENTATION) in ON_THE_SIDE
                size = image.size[::-1] if turned else image.size
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"image_sizes: {file} is no image: {error}") from error
        name = file.relative_to(folder).with_suffix("").as_posix()
        if sizes.setdefault(name, size) != size:
            raise InputError(f"image_sizes: {file} is {size}, another of its name {sizes[name]}")
    return sizes


def _columns(side: str, lines: Lines, scale: AnyArray) -> dict[str, AnyArray]:
    of_box = np.repeat(scale, lines.counts, axis=0)
    centre, half = lines.rows[:, 1:3] * of_box, lines.rows[:, 3:5] * of_box / 2
    return {
        f"{side}_boxes": np.concatenate([centre - half, centre + half], axis=1),
        f"{side}_classes": lines.rows[:, 0].astype(np.int32),
        f"{side}_offsets": np.concatenate([[0], np.cumsum(lines.counts)]),
    }
