"""The boxes that a call works on: where they are, how they are cut into blocks, how one is read.

Offsets are the index of the dataset: they are read when the work is planned, 16 bytes an image.
Everything else is read by the task that needs it, one block of images at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from dask import delayed
from dask.graph_manipulation import bind
from zarr.errors import ContainsArrayError

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.extent import name_images
from dask_labelqc.kernels.boxes import PROBLEMS, BoxBlock, find_problem
from dask_labelqc.limits import check_memory
from dask_labelqc.object_detection.dataset import COLUMNS, check_offsets
from dask_labelqc.object_detection.lists import flatten_labels, flatten_predictions
from dask_labelqc.object_detection.stored import (
    check_boxes_are_stored,
    check_offsets_are_stored,
)
from dask_labelqc.storage.reading import read_rows
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import Ints

__all__ = [
    "BLOCK_BOXES",
    "Boxes",
    "Span",
    "check_block",
    "cut_images",
    "open_boxes",
    "read_block",
]

BLOCK_BOXES = 2**19
"""Boxes that a task holds at a time: 60 MB at 120 bytes a box, with everything computed."""


@dataclass(frozen=True)
class Span:
    """A run of images and of their boxes, as positions in the columns."""

    first_image: int
    images: tuple[int, int]
    given: tuple[int, int]
    predicted: tuple[int, int]

    @property
    def num_images(self) -> int:
        return self.images[1] - self.images[0]

    def of(self, column: str) -> slice:
        """Return the part of a column that belongs to the span."""
        if column.endswith("offsets"):
            return slice(self.images[0], self.images[1] + 1)
        return slice(*(self.given if column.startswith("given") else self.predicted))

    def along(self, dim: str) -> tuple[int, int]:
        """Return the first image, given box or predicted box, and the one after the last."""
        return {
            "image": self.images,
            "given_box": self.given,
            "predicted_box": self.predicted,
        }[dim]

    def size(self, dim: str) -> int:
        """Return the number of images, given boxes or predicted boxes."""
        start, stop = self.along(dim)
        return stop - start

    def at_zero(self) -> Span:
        """Return the span as positions in columns that were cut to it."""
        return replace(
            self,
            images=(0, self.size("image")),
            given=(0, self.size("given_box")),
            predicted=(0, self.size("predicted_box")),
        )


def cut_images(
    first_image: int, given_offsets: Ints, predicted_offsets: Ints, block_boxes: int
) -> list[Span]:
    """Cut a run of images, whose offsets these are, into spans; see `Boxes.spans`."""
    num_images = len(given_offsets) - 1
    # An image weighs one more than its boxes, so that empty ones count too.
    weight = given_offsets + predicted_offsets + np.arange(num_images + 1)
    spans, start = [], 0
    while start < num_images:
        fits = int(np.searchsorted(weight, weight[start] + block_boxes, side="right")) - 1
        stop = max(fits, start + 1)
        given = int(given_offsets[start]), int(given_offsets[stop])
        predicted = int(predicted_offsets[start]), int(predicted_offsets[stop])
        images = first_image + start, first_image + stop
        spans.append(Span(images[0], images, given, predicted))
        start = stop
    return spans


@dataclass(frozen=True)
class Boxes:
    """The boxes of a dataset: plain arrays, Dask arrays, or a Zarr group that tasks read.

    Attributes
    ----------
    columns
        Mapping or Zarr group with the variables of the columnar dataset.
    given_offsets, predicted_offsets
        int64 (N + 1,).
    num_classes
        K.
    kind
        "numpy" is computed at once; "dask" and "zarr" become tasks.
    coords
        Coordinates for the answers; None when the boxes came as lists.
    """

    columns: Any
    given_offsets: Ints
    predicted_offsets: Ints
    num_classes: int
    kind: str
    coords: Mapping[str, Any] | None

    @property
    def num_images(self) -> int:
        return len(self.given_offsets) - 1

    @property
    def lazy(self) -> bool:
        return self.kind != "numpy"

    def names(self, class_names: Mapping[Any, Any] | None) -> Mapping[Any, Any] | None:
        """Return the names given, else those of the dataset if no two classes share one."""
        found = (self.coords or {}).get("class_name")
        if class_names is not None or found is None:
            return class_names
        names = [str(name) for name in found.values]
        return {str(k): n for k, n in enumerate(names)} if len(set(names)) == len(names) else None

    def call(self, function: Callable[..., Any], nout: int | None = None) -> Callable[..., Any]:
        """Return the function itself, or the one that makes it a task."""
        if not self.lazy:
            return function
        task: Callable[..., Any] = delayed(function, nout=nout, pure=False)
        return task

    def spans(self, block_boxes: int) -> list[Span]:
        """Cut the images into runs of at most `block_boxes` boxes, at least one image each."""
        if not isinstance(block_boxes, int | np.integer) or block_boxes < 1:
            raise InputError(f"block_boxes must be a number of at least 1, got {block_boxes!r}")
        return cut_images(0, self.given_offsets, self.predicted_offsets, block_boxes)

    def pieces(self, block_boxes: int, after: Any = None) -> Iterator[tuple[Any, Span]]:
        """Yield (columns, span) for `read_block`, block by block.

        With `after`, Dask arrays are computed again once it is there, rather than kept in memory
        from an earlier pass until then.
        """
        columns = self.columns
        if self.kind == "dask" and after is not None:
            names = [name for name in columns if not name.endswith("offsets")]
            copies = bind([columns[name] for name in names], after)
            columns = dict(columns) | dict(zip(names, copies, strict=True))
        for span in self.spans(block_boxes):
            if self.kind == "dask":
                cut = {name: column[span.of(name)] for name, column in columns.items()}
                yield cut, span.at_zero()
            else:
                yield columns, span


def open_boxes(
    labels: Any, predictions: Any = None, storage_options: Mapping[str, Any] | None = None
) -> Boxes:
    """Find out what the arguments of a public function are.

    Parameters
    ----------
    labels
        cleanlab's list of dictionaries, or the columnar dataset: an xarray Dataset, a Zarr group,
        or the path or URL of one. A Dataset without Dask arrays is loaded and computed at once.
    predictions
        cleanlab's list; None with a columnar dataset.
    storage_options
        Of the store that a URL names.
    """
    columnar = isinstance(labels, (xr.Dataset, zarr.Group, str, Path))
    if columnar and predictions is not None:
        raise InputError("predictions must be None: the columnar dataset in labels has them")
    if columnar:
        return _open_columnar(labels, storage_options)
    if labels is None or predictions is None:
        raise InputError(
            "labels and predictions are needed, both as lists, or labels as a columnar dataset"
        )
    predicted, num_classes = flatten_predictions(predictions)
    columns = flatten_labels(labels, len(predictions)) | predicted
    return _boxes(columns, num_classes, "numpy", None)


def _open_columnar(dataset: Any, storage_options: Mapping[str, Any] | None) -> Boxes:
    if isinstance(dataset, (str, Path)):
        try:
            dataset = zarr.open_group(open_store(dataset, storage_options), mode="r")
        except (FileNotFoundError, ContainsArrayError) as error:
            raise InputError(f"there is no Zarr group at {str(dataset)!r}") from error
        except StoreError as error:
            raise InputError(f"the columnar dataset: {error}") from error
    missing = [name for name in (*COLUMNS, "class") if name not in dataset]
    if set(missing) - {"given_crowd"}:
        raise InputError(f"the columnar dataset has no {', '.join(map(repr, missing))}")
    if isinstance(dataset, zarr.Group):
        group = dataset.path or None
        # Consolidated metadata serve where a store cannot list what it has: plain HTTP.
        known = dataset.metadata.consolidated_metadata is not None
        with xr.open_zarr(dataset.store, group=group, chunks=None, consolidated=known) as opened:
            coords = _coords(opened)
        num_classes = dict(opened.sizes)["class"]
        check_offsets_are_stored(dataset)
        boxes = _boxes(dataset, num_classes, "zarr", coords)
        check_boxes_are_stored(dataset, num_classes, boxes.given_offsets, boxes.predicted_offsets)
        return boxes
    columns = {name: _oriented(dataset[name], name) for name in COLUMNS if name in dataset}
    kind = "dask" if any(dataset[name].chunks for name in columns) else "numpy"
    return _boxes(columns, dataset.sizes["class"], kind, _coords(dataset))


def _oriented(variable: xr.DataArray, name: str) -> Any:
    """Return the array with its dimensions in order; four boxes turned around fit as well."""
    dims = COLUMNS[name]
    return (variable.transpose(*dims) if set(variable.dims) == set(dims) else variable).data


def _coords(dataset: xr.Dataset) -> dict[str, Any]:
    names = [n for n, c in dataset.coords.items() if c.dims in (("image",), ("class",))]
    return {str(name): dataset[name].variable.load() for name in names}


def _boxes(columns: Any, num_classes: int, kind: str, coords: dict[str, Any] | None) -> Boxes:
    offsets = {}
    for side in ("given", "predicted"):
        boxes, name = columns[f"{side}_boxes"], f"{side}_offsets"
        for column in (f"{side}_boxes", f"{side}_scores"):
            if column in columns and columns[column].dtype.kind not in "fiu":
                raise InputError(f"{column} has dtype {columns[column].dtype}; it must be numbers")
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"{side}_boxes has shape {boxes.shape}; it must be (boxes, 4)")
        check_memory(name, columns[name].shape, columns[name].dtype.itemsize)
        offsets[name] = check_offsets(name, np.asarray(columns[name][:]), boxes.shape[0])
        for column in ("classes", "scores", "crowd"):
            if f"{side}_{column}" in columns:
                shape = columns[f"{side}_{column}"].shape
                if shape != boxes.shape[:1]:
                    raise InputError(
                        f"{side}_{column} has shape {shape}; for {boxes.shape[0]} boxes it must be "
                        f"({boxes.shape[0]},)"
                    )
        dtype = columns[f"{side}_classes"].dtype
        if dtype.kind not in "iu":
            raise InputError(f"{side}_classes has dtype {dtype}; it must be an integer type")
    given, predicted = offsets["given_offsets"], offsets["predicted_offsets"]
    if len(given) != len(predicted):
        raise InputError(
            f"given_offsets cuts {len(given) - 1} images, predicted_offsets {len(predicted) - 1}; "
            "both must cut the same images"
        )
    if kind == "dask":
        columns = columns | offsets
    return Boxes(columns, given, predicted, num_classes, kind, coords)


def read_block(columns: Any, span: Span, num_classes: int) -> BoxBlock:
    """Read the boxes of a run of images and make sure that they can be used.

    Raises
    ------
    InputError
        Naming the first image with a box, class or score that cannot be used.
    """

    def part(name: str) -> Any:
        column = columns[name]
        if not isinstance(column, zarr.Array):
            return np.asarray(column[span.of(name)])
        where = name_images(span.first_image, span.first_image + span.num_images - 1)
        return read_rows(column, span.of(name), name, where)

    given_offsets, predicted_offsets = part("given_offsets"), part("predicted_offsets")
    block = BoxBlock.of(
        (
            part("given_boxes"),
            part("given_classes"),
            part("given_crowd") if "given_crowd" in columns else None,
            given_offsets - given_offsets[0],
        ),
        (
            part("predicted_boxes"),
            part("predicted_classes"),
            part("predicted_scores"),
            predicted_offsets - predicted_offsets[0],
        ),
    )
    check_block(block, num_classes, lambda image: f"image {span.first_image + image}")
    return block


def check_block(block: BoxBlock, num_classes: int, named: Callable[[int], str]) -> None:
    """Raise InputError at the first box, class or score that cannot be used; `named` is its image.

    Images are counted from the start of the block.
    """
    problem, image, box = find_problem(block, num_classes)
    if problem >= 0:
        raise _unusable(block, PROBLEMS[problem], image, box, num_classes, named(image))


def _unusable(
    block: BoxBlock, column: str, image: int, box: int, num_classes: int, where: str
) -> InputError:
    side, what = column.split("_")
    offsets = block.given_offsets if side == "given" else block.predicted_offsets
    value = getattr(block, column)[box].tolist()
    needed = {
        "boxes": "finite numbers x1, y1, x2, y2 (not width, height) with x1 <= x2, y1 <= y2",
        "classes": f"a class of the predictions, 0..{num_classes - 1}",
        "scores": "a probability between 0 and 1",
    }[what]
    return InputError(
        f"{where}, {side} box {box - offsets[image]}: {what} is {value}; it must be {needed}"
    )
