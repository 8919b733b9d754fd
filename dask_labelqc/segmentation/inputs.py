"""Labels and predictions in any container become one of two things: in memory, or lazy.

NumPy arrays, and xarray over them, are read where they are. Zarr arrays are read inside the tasks
of a graph. Dask arrays, and xarray over them, are dependencies of a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.graph.objects import from_blocks, from_positions
from dask_labelqc.limits import check_blocks
from dask_labelqc.method.outputs import Parts
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.summarize import Candidates, RegionSummary, summarize
from dask_labelqc.plan import GROUP_BYTES, Plan, plan_blocks
from dask_labelqc.segmentation.gaps import look_for_gaps
from dask_labelqc.segmentation.image_lists import ImageLists, sizes_differ
from dask_labelqc.segmentation.lazy import lazy_audit
from dask_labelqc.segmentation.stored_images import LazyImages, table_of
from dask_labelqc.storage.alignment import ClassDim, ImageDim, Lineup
from dask_labelqc.storage.arrays import BlockReader
from dask_labelqc.storage.class_names import class_names
from dask_labelqc.storage.containers import ArrayLike, labels_fill, stored_scale
from dask_labelqc.storage.coordinates import output_dims, output_image_dim
from dask_labelqc.storage.dimensions import place_attributes
from dask_labelqc.storage.layout import Layout
from dask_labelqc.storage.together import lined_up
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["InMemory", "Lazy", "LikeLabels", "as_dask", "normalize", "parameters_of"]

LAZY_GROUPS = 32
"""Into how many tasks the reading of a Zarr array is cut at least, as long as they are worth it."""
LEAST_GROUP_BYTES = 64 * 2**20
"""Predictions that are worth a task of a lazy graph."""
WHOLE_IMAGE_BYTES = 256 * 2**20
"""Images in memory that are larger than this are cut into rows."""


@dataclass(frozen=True)
class LikeLabels:
    """What results look like: the labels' dims, coordinates, and what they say of the place.

    Nothing is taken over that says how the labels, or their coordinates, are encoded or what
    their values mean: results have other dtypes and values.
    """

    template: xr.DataArray | None
    lineup: Lineup
    dims: tuple[Hashable, ...]
    image_dim: Hashable

    @classmethod
    def of(cls, labels: ArrayLike, lineup: Lineup) -> LikeLabels:
        """Take what is to be kept of the labels."""
        template = None
        if isinstance(labels, xr.DataArray):
            place = place_attributes({**labels.encoding, **labels.attrs})
            template = labels.drop_encoding().drop_attrs(deep=False).assign_attrs(place)
        return cls(template, lineup, output_dims(labels, lineup), output_image_dim(labels, lineup))

    def per_pixel(self, values: Any, name: str) -> Any:
        """Return values (N, *spatial) in the labels' container, with its dimensions."""
        own = self.lineup.labels.outwards(values)
        return own if self.template is None else self.template.copy(data=own).rename(name)

    def per_image(self, values: Any, name: str) -> Any:
        """Return values (N,) with the coordinates of the images."""
        if self.template is None:
            return values
        dim = self.image_dim
        coords = {n: c for n, c in self.coords.items() if set(c.dims) <= {dim}}
        return xr.DataArray(values, coords, (dim,), name)

    @property
    def coords(self) -> dict[Hashable, xr.Variable]:
        """The labels' coordinates; that which names a scene is the coordinate of its image."""
        found = {} if self.template is None else self.template.coords
        return {
            name: (c if name != self.image_dim or c.ndim else c.expand_dims(name)).variable
            for name, c in found.items()
        }


@dataclass(frozen=True)
class InMemory:
    """Labels and predictions that are arrays of this process, as they were given."""

    labels: AnyArray
    pred_probs: AnyArray
    params: Parameters
    like: LikeLabels

    def regions(
        self, threads: int, batch_size: int | None
    ) -> tuple[Iterable[Extent], Callable[[Parts, float | None, Extent], RegionSummary]]:
        """Cut the images into regions for threads, and return what summarizes one."""
        plan = self._plan(threads, batch_size)
        return plan.group_extents(), partial(self._summarize, plan)

    def _plan(self, threads: int, batch_size: int | None) -> Plan:
        """Cut the images so that every thread has several groups."""
        params = self.params
        size = params.pixel_bytes
        image = (1, *params.shape[1:])
        if np.prod(image) * size > WHOLE_IMAGE_BYTES:
            image = (1, *(min(256, n) for n in params.shape[1:-1]), params.shape[-1])
        total = int(np.prod(params.shape)) * size
        groups = max(total // (4 * threads), 1)
        share = -(-params.shape[0] // threads)
        images = None if batch_size is None else min(batch_size, share)
        return plan_blocks(
            params.shape, image, size, params.factors, group_bytes=groups, group_images=images
        )

    def _summarize(
        self, plan: Plan, pixels: Parts, bound: float | None, region: Extent
    ) -> RegionSummary:
        """Summarize a region; outputs of its pixels go to their place in those of all images."""
        blocks, here = plan.blocks(region), {n: a[region.slices] for n, a in pixels.items()}
        return summarize(region, blocks, self._read, self.params, bound, here)

    def _read(self, extent: Extent) -> tuple[AnyArray, AnyArray]:
        lineup = self.like.lineup
        return (
            lineup.labels.read(self.labels, extent),
            lineup.pred_probs.read(self.pred_probs, extent),
        )


@dataclass(frozen=True)
class Lazy:
    """Labels and predictions that are read when something is computed."""

    source: BlockReader | tuple[da.Array, da.Array]
    params: Parameters
    like: LikeLabels

    def audit(self, batch_size: int | None) -> dict[str, da.Array]:
        """Build the graph; return the outputs by name."""
        params = self.params
        if batch_size is not None:
            batch_size = positive_integer("batch_size", batch_size)
        if isinstance(self.source, BlockReader):
            share = math.prod(params.shape) * params.pixel_bytes // LAZY_GROUPS
            plan = plan_blocks(
                params.shape,
                self.source.chunk,
                params.pixel_bytes,
                params.factors,
                group_bytes=min(max(share, LEAST_GROUP_BYTES), GROUP_BYTES),
                group_images=batch_size,
            )
            check_blocks("labels", params.shape, plan.group)
            summaries = from_positions(partial(_read_region, self.source, plan, params), plan.grid)
            again = partial(_read_again, self.source, plan, params)
            return lazy_audit(summaries, plan.chunks, params, again)
        labels, pred_probs = _aligned(*self.source, params.downsample, batch_size)
        scan = partial(_scan_region, params)
        summaries = from_blocks(scan, labels.chunks, [labels], pred_probs)
        return lazy_audit(summaries, labels.chunks, params, partial(_cannot_be_read_again, params))


def _read_region(
    reader: BlockReader, plan: Plan, params: Parameters, block_id: Shape
) -> RegionSummary:
    region = plan.group_extent(block_id)
    with reader.for_region(region, plan.blocks(region)) as read:
        return summarize(region, plan.blocks(region), read, params, find_gaps=read.gaps)


def _read_again(
    reader: BlockReader, plan: Plan, params: Parameters, bound: float, candidates: Candidates
) -> RegionSummary:
    region = candidates.extent.refined(params.factors)
    assert isinstance(region, Extent)
    with reader.for_region(region, plan.blocks(region)) as read:
        return summarize(region, plan.blocks(region), read, params, bound)


def _cannot_be_read_again(params: Parameters, bound: float, candidates: Candidates) -> Any:
    raise InputError(
        "pred_probs: the probabilities sum to more than 1 and the cut falls above a score of "
        f"{params.bound:.3g}, so that they have to be read again, which a Dask array does not "
        "allow; pass Zarr or NumPy arrays, both of one kind, or probabilities that sum to 1"
    )


def _scan_region(
    params: Parameters, region: Extent, labels: AnyArray, pred_probs: list[AnyArray]
) -> RegionSummary:
    (block,) = pred_probs
    return summarize(region, [region], lambda _: (labels, block), params)


def _aligned(
    labels: da.Array, pred_probs: da.Array, downsample: int, batch_size: int | None
) -> tuple[da.Array, da.Array]:
    """Give both arrays the same chunks: all classes together, no cell of the small grid split."""
    chunks: list[tuple[int, ...]] = [_multiples(c, downsample) for c in pred_probs.chunks[2:]]
    images = pred_probs.chunks[0]
    if batch_size is not None:
        images = _multiples((batch_size,) * -(-labels.shape[0] // batch_size), 1, labels.shape[0])
    wanted = (images, pred_probs.shape[1:2], *chunks)
    return labels.rechunk((images, *chunks)), pred_probs.rechunk(wanted)


def _multiples(chunks: tuple[int, ...], factor: int, total: int | None = None) -> tuple[int, ...]:
    """Move the ends of chunks up to multiples of a factor that divides their total."""
    total = sum(chunks) if total is None else total
    ends = sorted({min(-(-end // factor) * factor, total) for end in np.cumsum(chunks).tolist()})
    return tuple(int(n) for n in np.diff([0, *ends]))


def normalize(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    options: Options,
    *,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> InMemory | ImageLists | Lazy | LazyImages:
    """Check the inputs, and say how they will be read.

    Raises
    ------
    InputError
        Naming the argument, what it is, and what it may be.
    """
    if sizes_differ(labels, pred_probs):
        return ImageLists.of(labels, pred_probs, options)
    if (
        isinstance(labels, zarr.Array)
        and isinstance(pred_probs, zarr.Array)
        and table_of(labels) is not None
    ):
        return LazyImages.of(labels, pred_probs, options, class_dim)
    (given, predicted), lineup = lined_up({"labels": labels}, pred_probs, image_dim, class_dim)
    params = parameters_of(labels, pred_probs, lineup, options, (given, predicted))
    like = LikeLabels.of(labels, lineup)
    if isinstance(given, zarr.Array) and isinstance(predicted, zarr.Array):
        return Lazy(BlockReader(given, predicted, lineup), params, like)
    if isinstance(given, np.ndarray) and isinstance(predicted, np.ndarray):
        return InMemory(given, predicted, params, like)
    look_for_gaps(given, predicted, lineup, params)
    arrays = as_dask(lineup.labels, given), as_dask(lineup.pred_probs, predicted)
    return Lazy(arrays, params, like)


def parameters_of(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    lineup: Lineup,
    options: Options,
    plain: tuple[Any, Any] | None = None,
) -> Parameters:
    """Check options against inputs; `plain` are their arrays, where they are none themselves."""
    given, predicted = plain or cast(tuple[Any, Any], (labels, pred_probs))
    return Parameters.of_images(
        options,
        lineup.labels.shape(given.shape),
        given.dtype,
        lineup.pred_probs.shape(predicted.shape),
        predicted.dtype,
        scale=stored_scale(pred_probs),
        fill_labels=labels_fill(labels),
        class_names=class_names(labels, pred_probs),
    )


def as_dask(layout: Layout, array: Any) -> da.Array:
    """Return a NumPy, Zarr or Dask array as it is seen, as a Dask array."""
    if isinstance(array, zarr.Array):
        check_blocks("labels, pred_probs", array.shape, array.chunks)
        array = da.from_zarr(array)
    seen = layout.inwards(array)
    if not isinstance(seen, da.Array):
        seen = da.from_array(seen, chunks=(1, *seen.shape[1:]))
    ordered: da.Array = layout.ordered(seen)
    return ordered
