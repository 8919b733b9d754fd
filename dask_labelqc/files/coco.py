"""COCO's segmentations: panoptic (pictures and JSON), and instances (JSON alone)."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from zarr.abc.store import Store

from dask_labelqc.errors import InputError
from dask_labelqc.files.formats import needed, reading
from dask_labelqc.files.places import Files, one_file
from dask_labelqc.files.reader import Form, Reader, Window
from dask_labelqc.storage.ahead import reads_ahead
from dask_labelqc.storage.objects import list_tags, tag_of
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["CocoInstances", "CocoPanoptic", "is_panoptic"]


@dataclass(frozen=True)
class JsonFile:
    """A file of annotations, which each process reads once.

    Attributes
    ----------
    place, key, tag
        Where it is, and what changes with it.
    store
        That it is in.
    """

    place: str
    key: str
    tag: str
    store: Store = field(compare=False, repr=False)

    @classmethod
    def at(cls, location: str | Path, storage_options: Mapping[str, Any] | None) -> JsonFile:
        """Name a file, as it is now."""
        store, place, key = one_file(location, storage_options)
        with reading("labels", str(location)):
            tag = tag_of(store, key)
        return cls(place, key, tag or "", store)

    @property
    def name(self) -> str:
        return f"{self.place}/{self.key}"

    def lists(self, *keys: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the entries of some lists, each with the name of its list."""
        ijson = needed("ijson", "coco", "COCO")
        files = Files(self.store, self.place, {"": self.key})
        for key in keys:
            with files.read("") as file:
                for number, entry in enumerate(_items(ijson, file, key)):
                    if not isinstance(entry, dict):
                        raise InputError(f"has something else than an object as {key}[{number}]")
                    yield key, entry


def _items(ijson: Any, file: BinaryIO, key: str) -> Iterator[Any]:
    found: Iterator[Any] = ijson.items(file, f"{key}.item", use_float=True)
    return found


def is_panoptic(location: str | Path, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Say if a COCO file is one of panoptic segmentation: whether its annotations have segments."""
    file = JsonFile.at(location, storage_options)
    with reading("labels", file.name):
        first = next(file.lists("annotations"), None)
    return first is not None and "segments_info" in first[1]


class _Image(NamedTuple):
    """An image of a file: its size, and what is annotated.

    Attributes
    ----------
    shape
        Height and width.
    classes
        Of each segment or instance; -1 of a crowd.
    numbers
        Panoptic: the ids of the segments, which the picture is made of.
    masks
        Instances: in run lengths, with the area of each.
    picture
        Panoptic: the name of the picture.
    """

    shape: Shape
    classes: array[int]
    numbers: array[int]
    masks: list[tuple[float, bytes]]
    picture: list[str]


class _Annotations(NamedTuple):
    images: Mapping[str, _Image]
    names: Mapping[int, str]


@lru_cache(maxsize=4)
def _annotations(file: JsonFile) -> _Annotations:
    """Read a file; an instance is held as run lengths, in about 150 bytes."""
    with reading("labels", file.name):
        places: dict[Any, int] = {}
        names: dict[int, str] = {}
        by_number: dict[Any, _Image] = {}
        images: dict[str, _Image] = {}
        for key, entry in file.lists("categories", "images", "annotations"):
            if key == "categories":
                names[len(places)] = str(entry.get("name", entry["id"]))
                places[entry["id"]] = len(places)
            elif key == "images":
                shape = int(entry["height"]), int(entry["width"])
                image = _Image(shape, array("q"), array("q"), [], [])
                id = _stem(entry.get("file_name") or str(entry["id"]))
                if id in images:
                    raise InputError(f"has two images that are called {id!r}")
                by_number[entry["id"]] = images[id] = image
            else:
                _annotate(by_number, places, entry)
        if not images or not names:
            raise InputError(f"has {len(images)} images and {len(names)} categories")
        return _Annotations(images, names)


def _annotate(
    images: Mapping[Any, _Image], places: Mapping[Any, int], entry: Mapping[str, Any]
) -> None:
    image = images.get(entry["image_id"])
    if image is None:
        raise InputError(f"annotates the image {entry['image_id']!r}, which it does not list")
    if "segments_info" in entry:
        image.picture.append(str(entry["file_name"]))
        for segment in entry["segments_info"]:
            image.numbers.append(int(segment["id"]))
            image.classes.append(_class(places, segment))
        return
    mask = _run_lengths(entry["segmentation"], image.shape)
    image.classes.append(_class(places, entry))
    masks = needed("pycocotools.mask", "coco", "COCO instances")
    image.masks.append((float(masks.area(mask)), mask["counts"]))


def _class(places: Mapping[Any, int], entry: Mapping[str, Any]) -> int:
    if entry["category_id"] not in places:
        raise InputError(
            f"has the category {entry['category_id']!r} in the annotation or segment "
            f"{entry.get('id')!r}, which it does not list"
        )
    return -1 if entry.get("iscrowd") else places[entry["category_id"]]


def _run_lengths(segmentation: Any, shape: Shape) -> dict[str, Any]:
    """Return polygons, or a mask, as one mask in compressed run lengths."""
    masks = needed("pycocotools.mask", "coco", "COCO instances")
    if isinstance(segmentation, list):
        if not segmentation:
            segmentation = {"size": list(shape), "counts": [shape[0] * shape[1]]}
        else:
            found: dict[str, Any] = masks.merge(masks.frPyObjects(segmentation, *shape))
            return found
    if tuple(segmentation["size"]) != shape:
        raise InputError(f"has a mask of size {segmentation['size']} for an image of {list(shape)}")
    if isinstance(segmentation["counts"], list):
        if sum(segmentation["counts"]) != shape[0] * shape[1]:
            raise InputError(f"has a mask whose runs do not fill its {list(shape)} pixels")
        whole: dict[str, Any] = masks.frPyObjects(segmentation, *shape)
        return whole
    return {"size": list(shape), "counts": str(segmentation["counts"]).encode()}


class _Coco(Reader):
    def __init__(
        self, location: str | Path, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self.file = JsonFile.at(location, storage_options)
        found = _annotations(self.file)
        self.ids = sorted(found.images)
        self.class_names = self._names(found.names)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "ids"}

    def _names(self, names: Mapping[int, str]) -> Mapping[int, str]:
        return names

    def name(self, id: str) -> str:
        """Return the file, and which image of it."""
        return f"{self.file.name}, image {id!r},"

    def tag(self, id: str) -> str | None:
        """Return what changes with the file: whoever changes it may have changed any image."""
        return self.file.tag or None

    def form(self, id: str) -> Form:
        """Return the size that the file tells."""
        return Form(self._image(id).shape)

    def _image(self, id: str) -> _Image:
        return _annotations(self.file).images[id]

    def _void(self, most: int) -> tuple[np.dtype[Any], int]:
        """Return the dtype of the labels, and the one that stands for none."""
        return (np.dtype(np.uint8), 255) if most < 255 else (np.dtype(np.uint16), 65535)


class CocoPanoptic(_Coco):
    """COCO's panoptic segmentation; crowds, and what no segment covers, stand for none.

    Parameters
    ----------
    location
        The JSON file.
    folder
        Of the pictures; that beside the file with its name without ``.json`` by default.
    storage_options
        Of the stores.
    """

    def __init__(
        self,
        location: str | Path,
        folder: str | Path | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(location, storage_options)
        self.folder = str(folder or str(location).removesuffix(".json")).rstrip("/")
        self._store = open_store(self.folder, storage_options)
        self.ahead = reads_ahead(self._store)

    def about(self) -> Mapping[str, Any]:
        """Return where the pictures are."""
        return {"reader": "panoptic", "location": self.file.name, "folder": self.folder}

    def name(self, id: str) -> str:
        """Return the picture of an image."""
        return f"{self.folder}/{''.join(self._image(id).picture[:1])}"

    @cached_property
    def _tags(self) -> Mapping[str, str] | None:
        listed = list_tags(self._store, "")
        return None if listed is None else dict(listed)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_tags"}

    def tag(self, id: str) -> str | None:
        """Return what changes with the file or with the picture."""
        if self._tags is None:
            return None
        picture = "".join(self._image(id).picture[:1])
        return f"{self.file.tag} {self._tags.get(picture, '')}"

    def form(self, id: str) -> Form:
        """Return the size that the file tells, and the label that stands for none."""
        _, void = self._void(len(self.class_names))
        return Form(self._image(id).shape, nodata=void)

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Read the picture of an image, and return the categories of its segments."""
        image = self._image(id)
        dtype, void = self._void(len(self.class_names))
        with reading(self.side, self.name(id)):
            if not image.picture:
                raise InputError(f"is missing: the image {id!r} has no annotation in the file")
            files = Files(self._store, self.folder, {id: image.picture[0]})
            with files.read(id) as file:
                picture = needed("PIL.Image", "files", "a picture").open(file).convert("RGB")
                red, green, blue = (np.asarray(band, np.int64) for band in picture.split())
            numbers = red | green << 8 | blue << 16
            found, inverse = np.unique(numbers, return_inverse=True)
            classes = dict(zip(image.numbers, image.classes, strict=True)) | {0: -1}
            if unknown := [int(number) for number in found if int(number) not in classes]:
                raise InputError(f"has the segment {unknown[0]}, which {self.file.name} does not")
            mapped = np.array([classes[int(number)] for number in found])
            return np.where(mapped < 0, void, mapped).astype(dtype)[inverse].reshape(numbers.shape)


class CocoInstances(_Coco):
    """COCO's instances as classes of pixels; smaller instances lie over larger ones.

    Crowds stand for none. What no instance covers is class 0, the background, after which the
    categories follow; or stands for none.

    Parameters
    ----------
    location
        The JSON file.
    background
        Class 0 is the background.
    storage_options
        Of the store.
    """

    def __init__(
        self,
        location: str | Path,
        background: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.background = background
        super().__init__(location, storage_options)

    def _names(self, names: Mapping[int, str]) -> Mapping[int, str]:
        if not self.background:
            return names
        return {0: "background"} | {k + 1: name for k, name in names.items()}

    def about(self) -> Mapping[str, Any]:
        """Return where the file is, and what the background is."""
        return {
            "reader": "instances",
            "location": self.file.name,
            "background": self.background,
        }

    def form(self, id: str) -> Form:
        """Return the size that the file tells, and the label that stands for none."""
        _, void = self._void(len(self.class_names))
        return Form(self._image(id).shape, nodata=void)

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Draw the instances of an image, the largest first, and the crowds at last."""
        image = self._image(id)
        dtype, void = self._void(len(self.class_names))
        labels = np.full(image.shape, 0 if self.background else void, dtype)
        masks = needed("pycocotools.mask", "coco", "COCO instances")
        with reading(self.side, self.name(id)):
            for k in self._order(image):
                covered = _decoded(masks, image.shape, image.masks[k][1])
                crowd = image.classes[k] < 0
                labels[covered > 0] = void if crowd else image.classes[k] + self.background
        return labels

    def _order(self, image: _Image) -> Sequence[int]:
        areas = [(image.classes[k] < 0, -area, k) for k, (area, _) in enumerate(image.masks)]
        return [k for *_, k in sorted(areas)]


def _decoded(masks: Any, shape: Shape, counts: bytes) -> AnyArray:
    with warnings.catch_warnings():
        # What pycocotools converts its memory with is not what NumPy 2 asks for.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(masks.decode({"size": list(shape), "counts": counts}))


def _stem(name: str) -> str:
    return Path(name).stem if Path(name).suffix else name
