"""Where things are: extents of pixels, in whole numbers. Coordinates are (image, *spatial)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_labelqc.typing import Ints, Shape

__all__ = ["NO_GAPS", "Extent", "Gap", "Gaps", "name_images"]


def name_images(first: int, last: int) -> str:
    """Name a run of images in a message.

    Examples
    --------
    >>> name_images(3, 3), name_images(3, 7)
    ('image 3', 'images 3 to 7')
    """
    return f"image {first}" if first == last else f"images {first} to {last}"


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

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return name_images(self.start[0], self.stop[0] - 1)

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

    extent: Extent
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

    labels: tuple[Extent, ...] = ()
    num_label_chunks: int = 0
    pred_probs: tuple[Gap, ...] = ()
    label: Any = None
    pred_prob: Any = None


NO_GAPS = Gaps()
