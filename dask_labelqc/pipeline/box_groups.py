"""Groups of images by their boxes: where each begins, and which images have which boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import zarr

from dask_labelqc.object_detection.blocks import Boxes, Span, cut_images
from dask_labelqc.pipeline.runs import apart, merged, touched
from dask_labelqc.typing import Ints

__all__ = ["BoxGroups"]

DIMS = ("image", "given_box", "predicted_box")


@dataclass(frozen=True)
class BoxGroups:
    """The columns of a dataset in Zarr, cut into groups of images of about so many boxes.

    Attributes
    ----------
    columns
        The arrays of the columnar dataset.
    block_boxes
        Boxes of a group, about.
    edges
        int64 (3, number + 1): the images, given and predicted boxes at which groups begin.
    """

    columns: Mapping[str, zarr.Array[Any]]
    block_boxes: int
    edges: Ints

    @classmethod
    def of(cls, columns: Mapping[str, zarr.Array[Any]], boxes: Boxes, block_boxes: int) -> Self:
        """Cut boxes, whose columns these are."""
        return cls(columns, block_boxes, _edges(boxes.spans(block_boxes)))

    def smaller(self, boxes: Boxes) -> Self:
        """Return groups of half the boxes."""
        block_boxes = self.block_boxes // 2
        edges = _edges(boxes.spans(block_boxes))
        return replace(self, block_boxes=block_boxes, edges=edges)

    @property
    def number(self) -> int:
        return int(self.edges.shape[1]) - 1

    @property
    def sizes(self) -> dict[str, int]:
        """How many images and boxes there are."""
        return dict(zip(DIMS, map(int, self.edges[:, -1]), strict=True))

    def items(self, number: int) -> tuple[int, int]:
        """Return the images of a group, from the first to the one after the last."""
        return int(self.edges[0, number]), int(self.edges[0, number + 1])

    def touched(self, column: str, first: int, stop: int) -> range:
        """Return the groups that have a part of some rows of a column."""
        edges = self.edges[0 if column.endswith("offsets") else 1 + column.startswith("predicted")]
        return range(*touched(edges, first, min(stop, self.columns[column].shape[0])))

    def span(self, first: int, stop: int) -> Span:
        """Return some images with their boxes."""
        given, predicted = self._offsets(first, stop)
        return Span(
            first,
            (first, stop),
            (int(given[0]), int(given[-1])),
            (int(predicted[0]), int(predicted[-1])),
        )

    def spans_of(
        self, wanted: Mapping[str, tuple[int, int]], left_out: Sequence[tuple[int, int]]
    ) -> Iterator[Span]:
        """Yield the images that have a part of what is wanted, in spans of a group's size."""
        runs = [
            self._images_of(dim, *chunk) for dim, chunk in wanted.items() if chunk[0] < chunk[1]
        ]
        for first, stop in apart(merged(runs), left_out):
            yield from cut_images(first, *self._offsets(first, stop), self.block_boxes)

    def _images_of(self, dim: str, first: int, stop: int) -> tuple[int, int]:
        """Return the images that have these images or boxes."""
        if dim == "image":
            return first, stop
        groups = touched(self.edges[DIMS.index(dim)], first, stop)
        images = int(self.edges[0, groups[0]]), int(self.edges[0, groups[1]])
        offsets = self._offsets(*images)[DIMS.index(dim) - 1]
        a, b = touched(offsets, first, stop)
        return images[0] + a, images[0] + b

    def _offsets(self, first: int, stop: int) -> tuple[Ints, Ints]:
        """Read where the boxes of some images lie."""
        given, predicted = (
            np.asarray(self.columns[f"{side}_offsets"][first : stop + 1]).astype(np.int64)
            for side in ("given", "predicted")
        )
        return given, predicted


def _edges(spans: Sequence[Span]) -> Ints:
    starts = [(s.images[0], s.given[0], s.predicted[0]) for s in spans]
    ends = spans[-1]
    return np.array([*starts, (ends.images[1], ends.given[1], ends.predicted[1])], np.int64).T
