"""Lists of images of every size, in memory: one array of labels and one of predictions for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.images import ImageTable, Span
from dask_labelqc.method.outputs import Parts
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.summarize import RegionSummary, summarize
from dask_labelqc.plan import BLOCK_BYTES
from dask_labelqc.typing import AnyArray

__all__ = ["ImageLists", "check_sizes", "plain_images", "sizes_differ"]

GROUPS = 4
"""Regions for each thread: they do not take equally long."""


def sizes_differ(*lists: Any) -> bool:
    """Say if any of these is a list of arrays of different shapes."""
    return any(
        isinstance(images, list | tuple)
        and len({getattr(image, "shape", None) for image in images}) > 1
        for images in lists
    )


def plain_images(images: Any, name: str) -> list[AnyArray]:
    """Return the arrays of a list, of one number of dimensions, each as NumPy has it.

    Raises
    ------
    InputError
        It is no list, or one of its arrays is none; names the image.
    """
    if not isinstance(images, list | tuple):
        raise InputError(
            f"{name}: got {type(images).__name__}, it must be a list of one array for each image, "
            "as the images of the other arguments have different sizes"
        )
    arrays = [np.asanyarray(image) for image in images]
    for i, array in enumerate(arrays):
        if array.dtype.kind not in "biuf" or array.ndim != arrays[0].ndim:
            raise InputError(
                f"{name}: image {i} has shape {array.shape} and dtype {array.dtype}; it must be "
                f"an array of numbers of {arrays[0].ndim} dimensions, as image 0"
            )
    return arrays


def check_sizes(name: str, images: Sequence[AnyArray], others: Sequence[AnyArray]) -> None:
    """Raise InputError unless images are as many, and of the sizes, as the first argument's.

    Those of predictions (K, *spatial) have the classes before.
    """
    if len(images) != len(others):
        raise InputError(f"{name}: got {len(images)} images, there are {len(others)} of labels")
    for i, (image, other) in enumerate(zip(images, others, strict=True)):
        if image.shape[image.ndim - other.ndim :] != other.shape:
            classes = "K, " * (image.ndim - other.ndim)
            raise InputError(
                f"{name}: image {i} has shape {image.shape}, it must be "
                f"({classes}{str(other.shape)[1:]} as its labels"
            )


@dataclass(frozen=True)
class ImageLists:
    r"""Labels (\*spatial) and predictions (K, \*spatial) of each image, as they were given."""

    labels: Sequence[AnyArray]
    pred_probs: Sequence[AnyArray]
    table: ImageTable
    params: Parameters

    @classmethod
    def of(cls, labels: Any, pred_probs: Any, options: Options) -> ImageLists:
        """Check lists, and what is asked of them.

        Raises
        ------
        InputError
            Naming the argument and the image.
        """
        given, predicted = plain_images(labels, "labels"), plain_images(pred_probs, "pred_probs")
        ndim = given[0].ndim if given else 0
        if not given or not 1 <= ndim <= 3 or any(array.ndim != ndim + 1 for array in predicted):
            shapes = f"{[a.shape for a in given[:1]]} and {[a.shape for a in predicted[:1]]}"
            raise InputError(
                f"labels, pred_probs: got lists of arrays of the shapes {shapes}; they must be "
                "(*spatial) with 1 to 3 dimensions and (K, *spatial), and not empty"
            )
        check_sizes("pred_probs", predicted, given)
        first = predicted[0]
        for i, image in enumerate(predicted):
            if len(image) != len(first) or image.dtype != first.dtype:
                raise InputError(
                    f"pred_probs: image {i} has {len(image)} classes of {image.dtype}, image 0 has "
                    f"{len(first)} of {first.dtype}; they must be the same of all images"
                )
        table = ImageTable.of(range(len(given)), [array.shape for array in given])
        dtype = np.result_type(*{array.dtype for array in given})
        params = Parameters.of_table(options, table, len(first), dtype, first.dtype)
        return cls(given, predicted, table, params)

    def regions(
        self, threads: int, batch_size: int | None
    ) -> tuple[Iterable[Span], Callable[[Parts, float | None, Span], RegionSummary]]:
        """Cut the images into regions for threads, and return what summarizes one."""
        share = -(-self.table.num_images // threads)
        if batch_size is not None:
            each = min(batch_size, share)
            starts = range(0, self.table.num_images, each)
            spans = [self.table.span(i, min(i + each, self.table.num_images)) for i in starts]
        else:
            spans = self.table.spans(-(-self.table.num_pixels // (GROUPS * threads)))
        return spans, self._summarize

    def _summarize(self, pixels: Parts, bound: float | None, region: Span) -> RegionSummary:
        here = {name: array[region.slices] for name, array in pixels.items()}
        blocks = region.parts(BLOCK_BYTES // self.params.pixel_bytes)
        return summarize(region, blocks, self._read, self.params, bound, here)

    def _read(self, block: Span) -> tuple[AnyArray, AnyArray]:
        images = block.numbers.tolist()
        labels = [self.labels[i].reshape(-1) for i in images]
        stored = [self.pred_probs[i].reshape(self.params.num_classes, -1) for i in images]
        return _joined(labels), _joined(stored)

    @property
    def like(self) -> ImageLists:
        """What results look like: lists, too."""
        return self

    @cached_property
    def _cuts(self) -> list[int]:
        cuts: list[int] = self.table.offsets[1:-1].tolist()
        return cuts

    def per_pixel(self, values: AnyArray, name: str) -> list[AnyArray]:
        """Return a list of one array for each image."""
        parts = np.split(values, self._cuts)
        return [
            part.reshape(shape)
            for part, shape in zip(parts, self.table.shapes.tolist(), strict=True)
        ]

    def per_image(self, values: AnyArray, name: str) -> AnyArray:
        """Return values (N,) as they are."""
        return values


def _joined(parts: Sequence[AnyArray]) -> AnyArray:
    """Put arrays (..., pixels) together along the last axis; a mask stays one."""
    if len(parts) == 1:
        return parts[0]
    masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
    joined: AnyArray = (np.ma if masked else np).concatenate(parts, axis=-1)
    return joined
