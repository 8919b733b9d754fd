"""Images of every size: a table with a row for each, and one flat axis of all their pixels.

The pixels of an image follow one another in C order, and images follow one another in the order of
the table: contiguous ragged arrays, as the CF conventions call them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from zarr.errors import UnstableSpecificationWarning

from dask_labelqc.errors import InputError
from dask_labelqc.extent import name_images
from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = [
    "IMAGE",
    "IMAGE_ID",
    "OFFSET",
    "PIXEL",
    "ImageTable",
    "Span",
    "is_ragged",
    "sides_of",
    "span_of_rows",
]

IMAGE, PIXEL = "image", "pixel"
"""Names of the dimensions."""
IMAGE_ID, OFFSET, COUNT = "image_id", "offset", "pixel_count"
SIDES = ("depth", "height", "width")
"""Names of the variables; of the sides the last as many as there are dimensions."""
ROWS = 2**17
"""Of the table in one chunk."""


def sides_of(ndim: int = len(SIDES)) -> tuple[str, ...]:
    """Return the names of the columns of so many spatial dimensions.

    Examples
    --------
    >>> sides_of(2)
    ('height', 'width')
    """
    return SIDES[len(SIDES) - ndim :]


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The images of a dataset, made and checked by `of`.

    Attributes
    ----------
    ids
        (N,): what they are called, each once.
    shapes
        int64 (N, d): height and width, of volumes the depth before these.

    Examples
    --------
    >>> table = ImageTable.of(["a", "b"], [(2, 3), (4, 1)])
    >>> table.offsets
    array([ 0,  6, 10])
    >>> table.span(1, 2).flat_index(np.array([0, 3]))
    array([6, 9])
    """

    ids: AnyArray
    shapes: Ints

    @classmethod
    def of(cls, ids: Sequence[Any] | AnyArray, shapes: Any) -> ImageTable:
        """Make a table, and check that it can be one.

        Raises
        ------
        InputError
            Ids are not as many as shapes or not unique, or an image has no pixels; names it.
        """
        names = np.array([str(i) for i in ids], np.str_)
        rows = np.asarray(shapes, np.int64)
        if names.size == 0:
            raise InputError("images: got none, the dataset is empty")
        if rows.ndim != 2 or not 1 <= rows.shape[1] <= len(SIDES):
            raise InputError(
                f"images: got shapes of the shape {rows.shape}, it must be (N, d) with 1 to 3 "
                "spatial dimensions"
            )
        if names.shape != rows.shape[:1]:
            raise InputError(f"images: got {names.size} ids of {len(rows)} images")
        if (rows < 1).any():
            bad = int(np.argmax((rows < 1).any(axis=1)))
            raise InputError(
                f"images: {str(names[bad])!r} (image {bad}) has the shape "
                f"{tuple(rows[bad].tolist())}; each side must be 1 or more"
            )
        found, counts = np.unique(names, return_counts=True)
        if found.size < names.size:
            twice = str(found[np.argmax(counts)])
            first, other = np.flatnonzero(names == twice)[:2].tolist()
            raise InputError(
                f"image_id: {twice!r} is the id of image {first} and of image {other}; it must be "
                "unique"
            )
        return cls(names, rows)

    @property
    def num_images(self) -> int:
        return len(self.shapes)

    @property
    def ndim(self) -> int:
        """Spatial dimensions."""
        return int(self.shapes.shape[1])

    @cached_property
    def offsets(self) -> Ints:
        """int64 (N + 1,): where each image begins on the flat axis, and where the last ends."""
        return _edges(self.shapes)

    @property
    def num_pixels(self) -> int:
        return int(self.offsets[-1])

    @property
    def regular(self) -> Shape | None:
        """(N, *spatial) if all images have one size."""
        first = self.shapes[0]
        same = bool((self.shapes == first).all())
        return (self.num_images, *first.tolist()) if same else None

    def span(self, first: int, stop: int) -> Span:
        """Return consecutive images."""
        return Span.of(first, self.shapes[first:stop], int(self.offsets[first]))

    def some(self, index: Sequence[int] | Ints) -> Span:
        """Return any images, in any order, each once."""
        chosen = np.asarray(index, np.int64)
        return Span(chosen, self.shapes[chosen], self.offsets[chosen])

    def pixels(self, start: int, stop: int) -> Span:
        """Return a run of pixels of the flat axis: the first and the last image may be cut."""
        first = int(np.searchsorted(self.offsets, start, side="right")) - 1
        last = int(np.searchsorted(self.offsets, stop, side="left"))
        return self.span(first, last).run(start, stop)

    def cuts(self, pixels: int) -> Ints:
        """Cut the images into runs of about so many pixels, at least one image each.

        Returns
        -------
        int64 (runs + 1,)
            The numbers of the images at which runs begin, and N.
        """
        cuts = [0]
        while cuts[-1] < self.num_images:
            most = self.offsets[cuts[-1]] + max(pixels, 1)
            fits = int(np.searchsorted(self.offsets, most, side="right")) - 1
            cuts.append(max(fits, cuts[-1] + 1))
        return np.array(cuts, np.int64)

    def spans(self, pixels: int) -> list[Span]:
        """Return runs of consecutive images of about so many pixels, at least one image each."""
        cuts = self.cuts(pixels).tolist()
        return [self.span(a, b) for a, b in pairwise(cuts)]

    def coarsened(self, factor: int) -> ImageTable:
        """Return the table of the cells of a downsampled grid.

        Raises
        ------
        InputError
            The factor does not divide the sides of an image; names the first.
        """
        uneven = (self.shapes % factor != 0).any(axis=1)
        if uneven.any():
            bad = int(np.argmax(uneven))
            shape = tuple(self.shapes[bad].tolist())
            raise InputError(
                f"downsample: {factor} does not divide the shape {shape} of "
                f"{str(self.ids[bad])!r} (image {bad}); it must divide the sides of every image"
            )
        return ImageTable(self.ids, self.shapes // factor)

    def number(self, image_id: str) -> int:
        """Return which image is called so.

        Raises
        ------
        KeyError
            None is.
        """
        return self._numbers[image_id]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids.tolist())}

    def variables(self) -> dict[str, tuple[str, AnyArray, dict[str, Any]]]:
        """Return the columns as xarray takes variables: dimension, values, attributes.

        CF names the samples where they are counted.
        """
        columns = dict(zip(sides_of(self.ndim), self.shapes.T, strict=True))
        columns |= {OFFSET: self.offsets[:-1], COUNT: np.diff(self.offsets)}
        found: dict[str, tuple[str, AnyArray, dict[str, Any]]]
        found = {name: (IMAGE, np.ascontiguousarray(v), {}) for name, v in columns.items()}
        found[COUNT][2]["sample_dimension"] = PIXEL
        return {IMAGE_ID: (IMAGE, self.ids.astype(object), {}), **found}

    def write(self, group: zarr.Group) -> None:
        """Write the table to a Zarr group, as CF's contiguous ragged arrays have it."""
        for name in self.variables():
            self.write_column(group, name)

    def write_column(self, group: zarr.Group, name: str) -> None:
        """Write one of the columns alone."""
        dim, values, attributes = self.variables()[name]
        text = name == IMAGE_ID
        with warnings.catch_warnings():
            # That the specification of Zarr 3 does not mention strings.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            column = group.create_array(
                name,
                shape=values.shape,
                dtype=str if text else values.dtype,
                chunks=(min(self.num_images, ROWS),),
                dimension_names=(dim,),
                attributes=attributes,
                overwrite=True,
            )
            column[:] = values.astype(object) if text else values

    @classmethod
    def read(cls, group: zarr.Group) -> ImageTable:
        """Read the table of a Zarr group.

        Raises
        ------
        InputError
            It is not there, damaged, or its offsets are not those of its sizes.
        """
        sides = [name for name in SIDES if name in group]
        if IMAGE_ID not in group or not sides or tuple(sides) != sides_of(len(sides)):
            raise InputError(
                f"images: the Zarr group {group.store_path} has no table of images: variables "
                f"{IMAGE_ID!r}, {', '.join(map(repr, SIDES[1:]))} and {OFFSET!r} along {IMAGE!r}"
            )
        shapes = np.stack([_column(group, name) for name in sides], axis=1).astype(np.int64)
        table = cls.of(_column(group, IMAGE_ID), shapes)
        if OFFSET in group:
            stored = _column(group, OFFSET)
            wrong = stored != table.offsets[:-1]
            if wrong.any():
                bad = int(np.argmax(wrong))
                raise InputError(
                    f"{OFFSET}: {str(table.ids[bad])!r} (image {bad}) begins at pixel "
                    f"{stored[bad]} by {group.store_path}, and at {table.offsets[bad]} by the "
                    "sizes of the images before it; images must follow one another without gaps"
                )
        return table


def span_of_rows(group: zarr.Group, first: int, stop: int) -> Span:
    """Read consecutive images of the table of a group, and nothing of the others."""

    def rows(name: str, stop: int) -> Ints:
        column = group[name]
        assert isinstance(column, zarr.Array)
        return np.asarray(column[first:stop]).astype(np.int64)

    sides = [rows(name, stop) for name in SIDES if name in group]
    (offset,) = rows(OFFSET, first + 1)
    return Span.of(first, np.stack(sides, axis=1), int(offset))


def is_ragged(group: zarr.Group) -> bool:
    """Say if there is a table of images in a Zarr group."""
    return IMAGE_ID in group and SIDES[-1] in group


def _column(group: zarr.Group, name: str) -> AnyArray:
    array = group[name]
    if not isinstance(array, zarr.Array) or array.ndim != 1:
        raise InputError(f"images: {name!r} in {group.store_path} is no column of a table")
    return np.asarray(array[:])


def _edges(shapes: Ints) -> Ints:
    sizes = shapes.prod(axis=1, dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


@dataclass(frozen=True, eq=False)
class Span:
    """Pixels of some images: what an `Extent` is where all have one size.

    Positions count its pixels image after image. The first and the last image may be cut.

    Attributes
    ----------
    index
        int64 (n,): numbers of the images.
    shapes
        int64 (n, d): of the whole images.
    offsets
        int64 (n,): where on the flat axis of the dataset each begins.
    start, stop
        Which of the pixels of these images it has, counted from the first of the first; all by
        default.

    Examples
    --------
    >>> span = ImageTable.of(["a", "b", "c"], [(2, 2), (1, 3), (1, 1)]).some([2, 0])
    >>> span.sizes, span.flat_index(np.array([0, 1, 4]))
    (array([1, 4]), array([7, 0, 3]))
    >>> span.place(3)
    (0, (1, 0))
    """

    index: Ints
    shapes: Ints
    offsets: Ints
    start: int = 0
    stop: int = -1

    def __post_init__(self) -> None:
        if self.stop < 0:
            object.__setattr__(self, "stop", int(self._edges[-1]))

    @classmethod
    def of(cls, first: int, shapes: Ints, offset: int) -> Span:
        """Return consecutive images, the first of which has this number and begins there."""
        index = np.arange(first, first + len(shapes), dtype=np.int64)
        return cls(index, shapes, offset + _edges(shapes)[:-1])

    @cached_property
    def _edges(self) -> Ints:
        return _edges(self.shapes)

    @cached_property
    def _touched(self) -> tuple[int, int]:
        """The first of its images, and the one after the last, by their places in `index`."""
        first = int(np.searchsorted(self._edges, self.start, side="right")) - 1
        return first, max(int(np.searchsorted(self._edges, self.stop, side="left")), first)

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def shape(self) -> Shape:
        """Of an array of its pixels."""
        return (self.size,)

    @property
    def num_images(self) -> int:
        first, stop = self._touched
        return stop - first

    @property
    def numbers(self) -> Ints:
        """int64 (num_images,): which images it has pixels of."""
        return self.index[slice(*self._touched)]

    @property
    def edges(self) -> Ints:
        """int64 (num_images + 1,): the positions at which its images begin, and its size."""
        first, stop = self._touched
        return np.clip(self._edges[first : stop + 1], self.start, self.stop) - self.start

    @property
    def sizes(self) -> Ints:
        """int64 (num_images,): how many pixels it has of each."""
        return np.diff(self.edges)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return name_images(int(self.numbers.min()), int(self.numbers.max()))

    def part(self, start: int, stop: int) -> Span:
        """Return a run of positions."""
        return replace(self, start=self.start + start, stop=self.start + stop)

    def of_images(self, first: int, stop: int) -> Span:
        """Return what it has of some of its images, by their numbers; of consecutive ones."""
        start = int(self.numbers[0])
        return self.part(*self.edges[[first - start, stop - start]].tolist())

    def run(self, start: int, stop: int) -> Span:
        """Return a run of the flat axis of the dataset; of consecutive images."""
        first = int(self.offsets[0])
        return replace(self, start=start - first, stop=stop - first)

    @property
    def along(self) -> tuple[int, int]:
        """Where it begins and ends on the flat axis of the dataset; of consecutive images."""
        first = int(self.offsets[0])
        return first + self.start, first + self.stop

    @property
    def images(self) -> slice:
        """Its images among those of the dataset; of consecutive ones."""
        return slice(int(self.numbers[0]), int(self.numbers[-1]) + 1)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where in an array of all pixels it is; of consecutive images."""
        return (slice(*self.along),)

    def parts(self, pixels: int) -> Iterator[Span]:
        """Yield runs of whole images of at most so many pixels, at least one image each."""
        first, edges = 0, self.edges
        while first < self.num_images:
            most = edges[first] + max(pixels, 1)
            stop = max(int(np.searchsorted(edges, most, side="right")) - 1, first + 1)
            yield self.part(int(edges[first]), int(edges[stop]))
            first = stop

    def pieces(
        self, labels: AnyArray, stored: AnyArray, whole: bool
    ) -> Iterator[tuple[Span, AnyArray, AnyArray]]:
        r"""Yield parts, and of each the labels (1, \*spatial) and predictions (1, K, \*spatial).

        Parameters
        ----------
        labels, stored
            Of its pixels, (S,) and (K, S).
        whole
            Whether a part is an image of its own shape; otherwise it is all pixels in a row.
        """
        if not whole:
            yield self, labels[None], stored[None]
            return
        for part, shape in zip(self.parts(1), self.shapes[slice(*self._touched)], strict=True):
            (here,), sides = self.slices_of(part), tuple(shape.tolist())
            yield (
                part,
                labels[here].reshape(1, *sides),
                stored[:, here].reshape(1, len(stored), *sides),
            )

    def images_of(self, part: Span) -> slice:
        """Return which of its images a part has pixels of."""
        first, stop = part._touched
        return slice(first - self._touched[0], stop - self._touched[0])

    def slices_of(self, part: Span) -> tuple[slice, ...]:
        """Return where in an array of its pixels a part is."""
        return (slice(part.start - self.start, part.stop - self.start),)

    def positions_of(self, part: Span, position: Ints) -> Ints:
        """Translate positions in a part to its own."""
        return position.astype(np.int64) + (part.start - self.start)

    def coarsened(self, factors: Shape) -> Span:
        """Return the cells of its images, which are whole unless the factors are 1."""
        return self._scaled(factors, np.floor_divide)

    def refined(self, factors: Shape) -> Span:
        """Return the pixels of its cells."""
        return self._scaled(factors, np.multiply)

    def _scaled(self, factors: Shape, by: Any) -> Span:
        cell = math.prod(factors)
        if cell == 1:
            return self
        shapes = by(self.shapes, np.array(factors))
        places = int(by(self.start, cell)), int(by(self.stop, cell))
        return Span(self.index, shapes, by(self.offsets, cell), *places)

    def _within(self, position: Ints) -> tuple[Ints, Ints]:
        """Return the places in `index` of the images of positions, and positions in these."""
        places = position.astype(np.int64) + self.start
        image = np.searchsorted(self._edges, places, side="right") - 1
        return image, places - self._edges[image]

    def flat_index(self, position: Ints, shape: Shape = ()) -> Ints:
        """Translate positions to those on the flat axis of the dataset; that has no `shape`."""
        if self._follow:
            return position.astype(np.int64) + (int(self.offsets[0]) + self.start)
        image, pixel = self._within(position)
        return self.offsets[image] + pixel

    @cached_property
    def _follow(self) -> bool:
        """Whether its images follow one another on the flat axis."""
        return np.array_equal(self.offsets - self.offsets[0], self._edges[:-1])

    def per_image(self, position: Ints) -> Ints:
        """Count the positions in each image, int64 (num_images,)."""
        image, _ = self._within(position)
        return np.bincount(image - self._touched[0], minlength=self.num_images)

    def place(self, position: int) -> tuple[int, Shape]:
        """Return the image and the pixel of a position."""
        (image,), (pixel,) = self._within(np.array([position]))
        at = np.unravel_index(pixel, tuple(self.shapes[image]))
        return int(self.index[image]), tuple(int(i) for i in at)
