"""Functions of flagged pixels, block by block; predictions are only read where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent, Region
from dask_labelqc.graph.arrays import as_blocks
from dask_labelqc.graph.objects import from_blocks, reduce_objects
from dask_labelqc.images import ImageTable
from dask_labelqc.kernels.flagged import count_pairs, select_class
from dask_labelqc.kernels.labels import VOID, encode_labels
from dask_labelqc.kernels.predictions import without_masked
from dask_labelqc.limits import check_blocks
from dask_labelqc.method.format import warn_of_fill
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.validity import check_whole
from dask_labelqc.plan import Plan, plan_blocks
from dask_labelqc.segmentation.gaps import look_for_gaps
from dask_labelqc.segmentation.image_lists import check_sizes, plain_images, sizes_differ
from dask_labelqc.segmentation.inputs import as_dask
from dask_labelqc.storage.alignment import ClassDim, ImageDim, Lineup
from dask_labelqc.storage.containers import labels_fill
from dask_labelqc.storage.layout import Layout
from dask_labelqc.storage.together import lined_up
from dask_labelqc.typing import AnyArray, BoolArray, Ints, Shape

__all__ = ["FlaggedImages", "FlaggedPixels", "normalize_flagged"]

MEMORY_BLOCK_PIXELS = 2**21
REGION_BYTES = 64 * 2**20
"""Predictions that one task reads at the most, where the storage chunks are smaller."""

ReadExtent: TypeAlias = Callable[[Any], AnyArray]
"""Reads the predictions (n, K, *spatial) of an extent."""


@dataclass(frozen=True)
class FlaggedPixels:
    """A mask, the given labels (N, *spatial), and the predictions (N, K, *spatial).

    Attributes
    ----------
    issues, labels, pred_probs
        NumPy, Zarr or Dask arrays, as they were given.
    lineup
        How they line up: extents are in the order of the issues.
    fill_labels
        Labels that stand for none where they are stored.
    """

    issues: Any
    labels: Any
    pred_probs: Any
    lineup: Lineup
    fill_labels: tuple[int, ...] = ()

    @property
    def shape(self) -> Shape:
        """(N, *spatial)."""
        return self.lineup.pixels[0].shape(self.issues.shape)

    @property
    def num_classes(self) -> int:
        return self.lineup.pred_probs.shape(self.pred_probs.shape)[1]

    @property
    def in_memory(self) -> bool:
        return all(isinstance(a, np.ndarray) for a in (self.issues, self.labels, self.pred_probs))

    def matrix(self) -> Ints:
        """Count the flagged pixels of each pair of given and predicted class, int64 (K, K)."""
        if self.in_memory:
            counts = reduce(add, self._map(self._on_plain(_count_extent)))
        else:
            blocks = self._blocks(self._on_plain(_count_extent), object)
            counts = reduce_objects(add, blocks).compute()
        matrix: Ints = np.zeros((self.num_classes,) * 2, np.int64) + counts
        return matrix

    def of_class(self, wanted: BoolArray) -> Any:
        """Return the mask of the flagged pixels whose given or predicted class is wanted.

        It has the dimensions of the issues.
        """
        select = self._on_plain(partial(_select_extent, wanted))
        if self.in_memory:
            mask: Any = np.zeros(self.shape, np.bool_)
            for extent, selected in zip(self._extents(), self._map(select), strict=True):
                mask[extent.slices] = selected
        else:
            mask = self._blocks(select, np.bool_)
        return self.lineup.pixels[0].outwards(mask)

    def _on_plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of extents of any values from one of plain values."""
        return partial(_with_plain, function, self.fill_labels, self.num_classes)

    def _extents(self) -> Iterator[Extent]:
        shape = self.shape
        images = max(MEMORY_BLOCK_PIXELS // max(int(np.prod(shape[1:])), 1), 1)
        for start in range(0, shape[0], images):
            stop = min(start + images, shape[0])
            yield Extent((start, *(0,) * (len(shape) - 1)), (stop, *shape[1:]))

    def _map(self, function: Callable[..., Any]) -> Iterator[Any]:
        """Yield the function of each extent in memory, on the threads of this process."""
        issues, labels = self.lineup.pixels
        read = partial(self.lineup.pred_probs.read, self.pred_probs)

        def call(extent: Extent) -> Any:
            return function(
                extent, issues.read(self.issues, extent), labels.read(self.labels, extent), read
            )

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            yield from pool.map(call, self._extents())

    def _blocks(self, function: Callable[..., Any], dtype: Any) -> da.Array:
        """Return the array of the function of each block: an object each, or their masks."""
        if isinstance(self.pred_probs, zarr.Array):
            plan = self._plan()
            chunks, read = plan.chunks, partial(self.lineup.pred_probs.read, self.pred_probs)
            probs = None
        else:
            probs = self._dask_predictions()
            chunks, read = (probs.chunks[0], *probs.chunks[2:]), None
        arrays = [
            _in_blocks(layout, array, chunks)
            for layout, array in zip(self.lineup.pixels, (self.issues, self.labels), strict=True)
        ]
        return from_blocks(partial(_block, function, read), chunks, arrays, probs, dtype)

    def _plan(self) -> Plan:
        image, _, *spatial = self.lineup.pred_probs.shape(self.pred_probs.chunks)
        plan = plan_blocks(
            self.shape,
            (image, *spatial),
            self.num_classes * self.pred_probs.dtype.itemsize,
            group_bytes=REGION_BYTES,
        )
        check_blocks("issues", plan.shape, plan.group)
        return plan

    def _dask_predictions(self) -> da.Array:
        layout = self.lineup.pred_probs
        if isinstance(self.pred_probs, da.Array):
            return as_dask(layout, self.pred_probs).rechunk({1: -1})
        images = tuple(extent.stop[0] - extent.start[0] for extent in self._extents())
        chunks = (images, (self.num_classes,), *((n,) for n in self.shape[1:]))
        return _in_blocks(layout, self.pred_probs, chunks)


@dataclass(frozen=True)
class FlaggedImages:
    """Masks, labels (*spatial) and predictions (K, *spatial) of images of every size, in lists."""

    issues: Sequence[BoolArray]
    labels: Sequence[AnyArray]
    pred_probs: Sequence[AnyArray]
    table: ImageTable

    @classmethod
    def of(cls, issues: Any, labels: Any, pred_probs: Any) -> FlaggedImages:
        """Check three lists.

        Raises
        ------
        InputError
            Naming the argument and the image.
        """
        mask, given, predicted = (
            plain_images(images, name)
            for name, images in (("issues", issues), ("labels", labels), ("pred_probs", pred_probs))
        )
        check_sizes("issues", mask, given)
        check_sizes("pred_probs", predicted, given)
        for i, (flags, probs) in enumerate(zip(mask, predicted, strict=True)):
            if flags.dtype != np.bool_:
                raise InputError(f"issues: image {i} has dtype {flags.dtype}, it must be bool")
            if probs.ndim != given[i].ndim + 1 or len(probs) != len(predicted[0]):
                raise InputError(
                    f"pred_probs: image {i} has shape {probs.shape}, it must be (K, *spatial) with "
                    "the K of all images"
                )
        table = ImageTable.of(range(len(given)), [labels.shape for labels in given])
        return cls(mask, given, predicted, table)

    @property
    def num_classes(self) -> int:
        return len(self.pred_probs[0])

    def matrix(self) -> Ints:
        """Count the flagged pixels of each pair of given and predicted class, int64 (K, K)."""
        nothing = np.zeros((self.num_classes,) * 2, np.int64)
        matrix: Ints = sum(self._map(_count_extent), start=nothing)
        return matrix

    def of_class(self, wanted: BoolArray) -> list[BoolArray]:
        """Return the masks of the flagged pixels whose given or predicted class is wanted."""
        return [selected[0] for selected in self._map(partial(_select_extent, wanted))]

    def _map(self, function: Callable[..., Any]) -> Iterator[Any]:
        """Yield the function of each image, on the threads of this process."""

        def call(i: int) -> Any:
            probs = self.pred_probs[i][None]
            arrays = self.issues[i][None], self.labels[i][None], lambda _: probs
            return _with_plain(function, (), self.num_classes, self.table.span(i, i + 1), *arrays)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            yield from pool.map(call, range(self.table.num_images))


def _in_blocks(layout: Layout, array: Any, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return an array as it is seen, in these blocks."""
    return as_blocks(array if layout.is_plain else as_dask(layout, array), chunks)


def _block(
    function: Callable[..., Any],
    read: ReadExtent | None,
    extent: Extent,
    issues: BoolArray,
    labels: Ints,
    probs: list[AnyArray] | None = None,
) -> Any:
    if read is None:
        assert probs is not None
        (block,) = probs
        return function(extent, issues, labels, lambda _: block)
    return function(extent, issues, labels, read)


def _with_plain(
    function: Callable[..., Any],
    fill_labels: tuple[int, ...],
    num_classes: int,
    extent: Region,
    issues: BoolArray,
    labels: AnyArray,
    read: ReadExtent,
) -> Any:
    """Call the function without the flags of what takes part in nothing, and without masks."""
    issues = np.ma.filled(issues, False)
    if not issues.any():
        return function(extent, issues, labels, read)
    stored = read(extent)
    labels, stored = without_masked(labels, stored)
    if fill_labels or labels.dtype.kind == "f" or isinstance(labels, np.ma.MaskedArray):
        encoded = encode_labels(labels, num_classes, fill_labels)
        check_whole(encoded, labels, extent)
        labels = encoded.codes
        issues = issues & (labels != VOID)
    return function(extent, issues, labels, lambda _: stored)


def _count_extent(extent: Region, issues: BoolArray, labels: Ints, read: ReadExtent) -> Ints | int:
    """Count the pairs of an extent; 0 where nothing is flagged, and nothing is read."""
    if not issues.any():
        return 0
    matrix, place = count_pairs(issues, labels, read(extent))
    _check(place, extent)
    return matrix


def _select_extent(
    wanted: BoolArray, extent: Region, issues: BoolArray, labels: Ints, read: ReadExtent
) -> BoolArray:
    if not issues.any():
        return np.zeros(issues.shape, np.bool_)
    selected, place = select_class(issues, labels, read(extent), wanted)
    _check(place, extent)
    return selected


def _check(position: int, extent: Region) -> None:
    if position >= 0:
        image, pixel = extent.place(position)
        raise InputError(
            f"pred_probs: a prediction is not finite at image {image}, pixel {pixel}, which is a "
            "label issue; it must be finite"
        )


def normalize_flagged(
    issues: Any,
    labels: Any,
    pred_probs: Any,
    *,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> FlaggedPixels | FlaggedImages:
    """Check the three arrays, and say how they will be read.

    Raises
    ------
    InputError
        Naming the argument, what it is, and what it may be.
    """
    if sizes_differ(issues, labels, pred_probs):
        return FlaggedImages.of(issues, labels, pred_probs)
    pixels = {"issues": issues, "labels": labels}
    (mask, given, predicted), lineup = lined_up(pixels, pred_probs, image_dim, class_dim)
    shape = lineup.pred_probs.shape(predicted.shape)
    if len(shape) < 3:
        raise InputError(f"pred_probs: got shape {shape}, it must be (N, K, *spatial)")
    wanted = (shape[0], *shape[2:])
    for name, array, layout, kinds in zip(
        pixels, (mask, given), lineup.pixels, ("b", "iubf"), strict=True
    ):
        if layout.shape(array.shape) != wanted:
            raise InputError(
                f"{name}: got shape {array.shape}, it must be {wanted} for pred_probs {shape}"
            )
        if array.dtype.kind not in kinds or array.dtype.itemsize > 8:
            allowed = "bool" if kinds == "b" else "an integer dtype"
            raise InputError(f"{name}: got dtype {array.dtype}, it must be {allowed}")
    if predicted.dtype.kind not in "fu" or predicted.dtype.itemsize > 8:
        raise InputError(f"pred_probs: got dtype {predicted.dtype}, it must be floating point")
    if 0 in wanted or shape[1] < 2:
        raise InputError(f"pred_probs: got shape {shape}, there must be pixels, and K of 2 or more")
    fill = labels_fill(labels)
    warn_of_fill(fill, shape[1])
    params = Parameters(wanted, shape[1], predicted.dtype, ignore_index=fill)
    look_for_gaps(given, predicted, lineup, params)
    return FlaggedPixels(mask, given, predicted, lineup, fill)
