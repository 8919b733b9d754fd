"""COCO's JSON files, read as a stream into the columnar dataset."""

from __future__ import annotations

import reprlib
import warnings
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.object_detection.coco_segmentation import (
    box_of_segmentation,
    finite_number,
    finite_numbers,
)
from dask_labelqc.object_detection.dataset import as_text, columnar_dataset
from dask_labelqc.object_detection.json_lists import entries, is_list
from dask_labelqc.typing import AnyArray

__all__ = ["from_coco"]

Corners: TypeAlias = tuple[float, float, float, float]

LARGEST_ID = 2**63 - 1
NEEDED_BOX = "[x, y, width, height], finite and not negative in size"


def from_coco(ground_truth: str | Path, results: str | Path) -> xr.Dataset:
    """Read COCO annotations and detection results into the columnar dataset.

    The files may be larger than memory: they are read as a stream, and about 60 bytes a box are
    kept. They may be packed with gzip.

    Parameters
    ----------
    ground_truth
        JSON with ``images``, ``annotations`` (``bbox`` x, y, width, height in pixels) and
        ``categories``. Of an annotation without ``bbox`` the box of its ``segmentation`` is taken;
        without either it is left out, and one warning says how many were. An image or category
        that is listed twice, with the same name, is one.
    results
        JSON list of ``{"image_id", "category_id", "bbox", "score"}``, or an object with that list
        as ``annotations``, whose ``images`` and ``categories`` must then be those of the ground
        truth.

    Returns
    -------
    xarray.Dataset
        Images in the order of the file, also those without boxes, with the coordinates
        ``image_id`` and ``image_name``. Classes 0..K-1 in the order of ``categories``, with
        ``category_id`` and ``class_name``. ``given_crowd`` has the ``iscrowd`` flags: such boxes
        are not scored, and excuse the predictions inside.

    Raises
    ------
    ImportError
        ijson is not installed, or pycocotools and a box must be found from a mask.
    InputError
        A file is damaged, or an entry has a key missing or a value that cannot be used; the
        message names the file, the entry and the key.

    Examples
    --------
    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> truth = {"images": [{"id": 7}], "categories": [{"id": 90, "name": "kite"}]}
    >>> box = {"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4]}
    >>> _ = (folder / "truth.json").write_text(json.dumps(truth | {"annotations": [box]}))
    >>> _ = (folder / "results.json").write_text(json.dumps([box | {"score": 0.5}]))
    >>> from_coco(folder / "truth.json", folder / "results.json")["given_boxes"].values
    array([[1., 2., 4., 6.]])
    """
    if is_list(ground_truth):
        raise InputError(
            f"{ground_truth} is a list; the ground truth must be an object with images, "
            "annotations and categories"
        )
    categories = _names(ground_truth, "categories", "name")
    images = _names(ground_truth, "images", "file_name")
    if not images or not categories:
        raise InputError(
            f"ground_truth {str(ground_truth)!r} has {len(images)} images and {len(categories)} "
            "categories; at least one of each is needed"
        )
    known = _Known(_positions(images), _positions(categories))
    given = _given(ground_truth, known)
    predicted = _predicted(results, images, categories, known)
    dataset = columnar_dataset(
        given | predicted,
        len(categories),
        class_names=[name or str(key) for key, name in categories.items()],
        image_coords={"image_id": list(images), "image_name": [n or "" for n in images.values()]},
    )
    ids = list(categories)
    return dataset.assign_coords(
        category_id=("class", as_text(ids) if isinstance(ids[0], str) else np.array(ids))
    )


class _Known(NamedTuple):
    """The positions of the images and categories of the ground truth by their ids."""

    image_id: Mapping[Any, int]
    category_id: Mapping[Any, int]


def _positions(ids: Mapping[Any, Any]) -> dict[Any, int]:
    return {key: position for position, key in enumerate(ids)}


def _objects(
    path: str | Path, key: str | None, name: str, *, required: bool = True
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each entry of a list that must be an object, and how to call it in an error."""
    start = f"{path}: {name}"
    for number, entry in enumerate(entries(path, key, required=required)):
        place = f"{start}[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{place} must be an object, got {reprlib.repr(entry)}")
        yield place, entry


def _names(path: str | Path, key: str, name_key: str) -> dict[Any, str | None]:
    """Return the names of the images or categories by their ids, in the order of the file."""
    names: dict[Any, str | None] = {}
    for place, entry in _objects(path, key, key):
        identifier, name = _identifier(entry, "id", place), entry.get(name_key)
        if not isinstance(name, str | None):
            raise InputError(f"{place}: {name_key} must be a text, got {reprlib.repr(name)}")
        if names.get(identifier, name) != name:
            raise InputError(
                f"{place}: id {identifier!r} was there before, with the {name_key} "
                f"{names[identifier]!r} instead of {name!r}"
            )
        names[identifier] = name
        if type(identifier) is not type(next(iter(names))):
            raise InputError(f"{place}: id {identifier!r} and others before are text and numbers")
    return names


def _identifier(entry: Mapping[str, Any], key: str, place: str) -> int | str:
    value = entry.get(key)
    if isinstance(value, str):
        return value
    number = finite_number(value)
    if number is None or value != int(number) or abs(value) > LARGEST_ID:
        shown = _shown(entry, key)
        raise InputError(f"{place}: {key} must be a whole number or a text, got {shown}")
    return int(value)


def _shown(entry: Mapping[str, Any], key: str) -> str:
    return reprlib.repr(entry[key]) if key in entry else "nothing: the key is missing"


def _given(path: str | Path, known: _Known) -> dict[str, AnyArray]:
    boxes = _Boxes(known)
    total, without, first = 0, 0, ""
    for place, entry in _objects(path, "annotations", "annotations"):
        total += 1
        box = _box(entry, place)
        if box is None:
            without, first = without + 1, first or place
        else:
            boxes.add(box, _crowd(entry, place), entry, place)
    if without:
        warnings.warn(
            f"{without} of {total} annotations have neither a bbox nor a segmentation and were "
            f"left out; the first is {first}",
            LabelQCWarning,
            stacklevel=3,
        )
    return boxes.columns("given", "crowd", np.bool_)


def _predicted(
    path: str | Path, images: Mapping[Any, Any], categories: Mapping[Any, Any], known: _Known
) -> dict[str, AnyArray]:
    plain = is_list(path)
    if not plain:
        _check_names(path, "images", "file_name", images)
        _check_names(path, "categories", "name", categories)
    key = None if plain else "annotations"
    boxes = _Boxes(known)
    for place, entry in _objects(path, key, key or "results"):
        box = _box(entry, place)
        if box is None:
            raise InputError(f"{place}: bbox must be {NEEDED_BOX}, got {_shown(entry, 'bbox')}")
        score = finite_number(entry.get("score"))
        if score is None or not 0 <= score <= 1:
            raise InputError(
                f"{place}: score must be a number between 0 and 1, got {_shown(entry, 'score')}"
            )
        boxes.add(box, score, entry, place)
    return boxes.columns("predicted", "scores", np.float64)


def _check_names(
    path: str | Path, key: str, name_key: str, expected: Mapping[Any, str | None]
) -> None:
    """Raise if results that list images or categories themselves mean others by an id."""
    for place, entry in _objects(path, key, key, required=False):
        name, known = entry.get(name_key), expected.get(_identifier(entry, "id", place))
        if None not in (name, known) and name != known:
            raise InputError(
                f"{place}: {name_key} is {reprlib.repr(name)}; in the ground truth the id "
                f"{entry['id']!r} is {known!r}"
            )


def _box(entry: Mapping[str, Any], place: str) -> Corners | None:
    """Return x1, y1, x2, y2 of an entry, None if it has no box."""
    box = entry.get("bbox")
    if box is None or box == []:
        try:
            box = box_of_segmentation(entry.get("segmentation"))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
        if box is None:
            return None
    numbers = finite_numbers(box)
    if numbers is not None and len(numbers) == 4:
        x, y, width, height = numbers
        if width >= 0 and height >= 0 and max(x + width, y + height) < np.inf:
            return x, y, x + width, y + height
    raise InputError(f"{place}: bbox must be {NEEDED_BOX}, got {reprlib.repr(box)}")


def _crowd(entry: Mapping[str, Any], place: str) -> bool:
    value = entry.get("iscrowd")
    if value in (None, 0, 1):
        return bool(value)
    raise InputError(f"{place}: iscrowd must be 0 or 1, got {reprlib.repr(value)}")


def _position(entry: Mapping[str, Any], key: str, place: str, known: Mapping[Any, int]) -> int:
    value = entry.get(key)
    position = known.get(value if type(value) is int else _identifier(entry, key, place))
    if position is None:
        raise InputError(f"{place}: {key} {value!r} is not in the ground truth")
    return position


class _Boxes:
    """The boxes of one side in compact arrays, in the order of the file."""

    def __init__(self, known: _Known) -> None:
        self.known = known
        self.corners, self.extra = array("d"), array("d")
        self.images, self.classes = array("q"), array("q")

    def add(self, corners: Corners, extra: float, entry: Mapping[str, Any], place: str) -> None:
        """Keep a box, and what else its side has: whether it is a crowd, or its score."""
        self.images.append(_position(entry, "image_id", place, self.known.image_id))
        self.classes.append(_position(entry, "category_id", place, self.known.category_id))
        self.corners.extend(corners)
        self.extra.append(extra)

    def columns(self, side: str, extra: str, dtype: type[np.generic]) -> dict[str, AnyArray]:
        """Return the columns of the dataset, sorted by image."""
        of_image = np.asarray(self.images, np.int64)
        order = np.argsort(of_image, kind="stable")
        counts = np.bincount(of_image, minlength=len(self.known.image_id))
        return {
            f"{side}_boxes": np.asarray(self.corners, np.float64).reshape(-1, 4)[order],
            f"{side}_classes": np.asarray(self.classes, np.int32)[order],
            f"{side}_{extra}": np.asarray(self.extra, np.float64)[order].astype(dtype),
            f"{side}_offsets": np.concatenate([[0], np.cumsum(counts)]),
        }
