"""Where things are: extents of pixels, in whole numbers. Coordinates are (image, *spatial)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = ["NO_GAPS", "Extent", "Gap", "Gaps", "Region", "name_images"]


def name_images(first: int, last: int) -> str:
    """Name a run of images in a message.

    Examples
    --------
    >>> name_images(3, 3), name_images(3, 7)
    ('image 3', 'images 3 to 7')
    """
    return f"image {first}" if first == last else f"images {first} to {last}"


class Region(Protocol):
    """Pixels, or cells of a downsampled grid, that are worked on together.

    It is an `Extent` where all images have one size, and an `images.Span` where they do not.
    Positions count its pixels from 0.
    """

    @property
    def size(self) -> int: ...

    @property
    def shape(self) -> Shape:
        """Of an array of its pixels."""

    @property
    def num_images(self) -> int: ...

    @property
    def numbers(self) -> Ints:
        """Which images it has pixels of."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def images(self) -> slice:
        """Its images among those of the dataset, if they follow one another."""

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where it is in an array of all pixels, if its images follow one another."""

    @property
    def edges(self) -> Ints | None:
        """The positions at which its images begin, and its size; None where they have one size."""

    def images_of(self, part: Self) -> slice:
        """Return which of its images a part has pixels of."""

    def slices_of(self, part: Self) -> tuple[slice, ...]:
        """Return where in an array of its pixels a part is."""

    def positions_of(self, part: Self, position: Ints) -> Ints:
        """Translate positions in a part to its own."""

    def coarsened(self, factors: Shape) -> Self:
        """Return the cells, given the factor of each spatial axis."""

    def refined(self, factors: Shape) -> Self:
        """Return the pixels of cells."""

    def flat_index(self, position: Ints, shape: Shape) -> Ints:
        """Translate positions to those in the dataset, of a shape where images have one size."""

    def per_image(self, position: Ints) -> Ints:
        """Count the positions in each image, int64 (num_images,)."""

    def place(self, position: int) -> tuple[int, Shape]:
        """Return the image and the pixel of a position."""

    def pieces(
        self, labels: AnyArray, stored: AnyArray, whole: bool
    ) -> Iterator[tuple[Self, AnyArray, AnyArray]]:
        r"""Yield parts, and of each the labels (n, \*spatial) and predictions (n, K, \*spatial).

        Only where images are to be `whole` are these their sides.
        """


@dataclass(frozen=True)
class Extent:
    """an extent of pixels, or of the cells of a downsampled grid.

    Examples
    --------
    >>> Extent((2, 0), (4, 3)).shape
    (2, 3)
    """

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def images(self) -> slice:
        return slice(self.start[0], self.stop[0])

    @property
    def num_images(self) -> int:
        return self.shape[0]

    @property
    def numbers(self) -> Ints:
        return np.arange(self.start[0], self.stop[0])

    @property
    def name(self) -> str:
        return name_images(self.start[0], self.stop[0] - 1)

    @property
    def edges(self) -> None:
        return None

    def images_of(self, part: Extent) -> slice:
        """Return which of its images a part has pixels of."""
        return part.within(self).images

    def slices_of(self, part: Extent) -> tuple[slice, ...]:
        """Return where in an array of its pixels a part is."""
        return part.within(self).slices

    def positions_of(self, part: Extent, position: Ints) -> Ints:
        """Translate positions in a part to its own."""
        return part.within(self).flat_index(position, self.shape)

    def per_image(self, position: Ints) -> Ints:
        """Count the positions in each image, int64 (n,)."""
        pixels = np.int64(self.size // self.num_images)  # may not fit the dtype of the positions
        return np.bincount(position // pixels, minlength=self.num_images)

    def pieces(
        self, labels: AnyArray, stored: AnyArray, whole: bool
    ) -> Iterator[tuple[Extent, AnyArray, AnyArray]]:
        """Yield itself: its images have one size."""
        yield self, labels, stored

    def within(self, outer: Extent) -> Extent:
        """Return this extent in coordinates that start at the corner of `outer`."""
        return Extent(
            tuple(a - o for a, o in zip(self.start, outer.start, strict=True)),
            tuple(b - o for b, o in zip(self.stop, outer.start, strict=True)),
        )

    def coarsened(self, factors: Shape) -> Extent:
        """Return the extent of cells, given the factor of each spatial axis."""
        every = (1, *factors)
        return Extent(
            tuple(a // f for a, f in zip(self.start, every, strict=True)),
            tuple(b // f for b, f in zip(self.stop, every, strict=True)),
        )

    def refined(self, factors: Shape) -> Extent:
        """Return the pixels of an extent of cells."""
        every = (1, *factors)
        return Extent(
            tuple(a * f for a, f in zip(self.start, every, strict=True)),
            tuple(b * f for b, f in zip(self.stop, every, strict=True)),
        )

    def flat_index(self, index: Ints, shape: Shape) -> Ints:
        """Translate flat positions in this extent to flat positions in an array of `shape`.

        Examples
        --------
        >>> Extent((1, 2), (3, 4)).flat_index(np.array([0, 3]), (4, 10))
        array([12, 23])
        """
        if self.shape[1:] == shape[1:]:
            return index.astype(np.int64) + self.start[0] * math.prod(shape[1:])
        places = np.unravel_index(index, self.shape)
        moved = tuple(p + a for p, a in zip(places, self.start, strict=True))
        return np.ravel_multi_index(moved, shape).astype(np.int64)

    def place(self, index: int) -> tuple[Any, Shape]:
        """Return the image and the pixel of a flat position in this extent."""
        image, *pixel = (
            int(p) + a for p, a in zip(np.unravel_index(index, self.shape), self.start, strict=True)
        )
        return image, tuple(pixel)


@dataclass(frozen=True)
class Gap:
    """Predictions of a block that are not in the store.

    Attributes
    ----------
    extent
        The pixels.
    classes
        The first class, and the one after the last.
    key
        Of the object that is not there.
    """

    extent: Region
    classes: tuple[int, int]
    key: str


@dataclass(frozen=True)
class Gaps:
    """What is not in the store of a block that was read.

    Attributes
    ----------
    labels
        The extents of the chunks of labels that begin in the block and are not there; all of such a
        extent, also where it is outside of the block.
    num_label_chunks
        How many chunks of labels begin in the block.
    pred_probs
        What is not there of the predictions, as far as it lies in the block.
    label, pred_prob
        As what they read: the arrays' fill values.
    """

    labels: tuple[Region, ...] = ()
    num_label_chunks: int = 0
    pred_probs: tuple[Gap, ...] = ()
    label: Any = None
    pred_prob: Any = None


NO_GAPS = Gaps()
