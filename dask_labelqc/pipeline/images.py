"""Images and predictions of their pixels, as the job takes them."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import zarr
from dask.utils import format_bytes

from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent, Gaps
from dask_labelqc.method.issues import find_issues
from dask_labelqc.method.outputs import (
    OUTPUTS,
    ImageParts,
    Parts,
    contributed,
    empty_pixels,
)
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.method.summarize import Candidates, RegionSummary, Statistics, summarize
from dask_labelqc.pipeline.fit import check_shape
from dask_labelqc.pipeline.image_results import Images, Sums, found_images
from dask_labelqc.pipeline.inputs import DenseOutput, Found, Inputs, Painted, Part, Results
from dask_labelqc.pipeline.recorded import candidates_of, images_of, statistics_of, to_arrays
from dask_labelqc.pipeline.runs import without
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, group_stamps
from dask_labelqc.plan import GROUP_BYTES, Plan, plan_blocks
from dask_labelqc.segmentation.inputs import parameters_of
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.arrays import BlockReader, StoreLocation, open_array
from dask_labelqc.storage.coordinates import Carried, carried_coordinates, check_dims
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["ImageInputs", "RegionReads", "image_stamps", "open_images", "worker_bytes"]


@dataclass(frozen=True)
class ImageInputs(Inputs):
    """The opened inputs of a job, its parameters and plan; see `inputs.Inputs`."""

    reader: BlockReader
    params: Parameters
    plan: Plan
    group_bytes: int = GROUP_BYTES

    item: ClassVar[str] = "image"
    labels: ClassVar[frozenset[str]] = frozenset({"labels"})

    @property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        return {"labels": self.reader.labels, "pred_probs": self.reader.pred_probs}

    @property
    def num_groups(self) -> int:
        return self.plan.num_groups

    @property
    def groups(self) -> Shape:
        return self.plan.group

    @property
    def ahead(self) -> int:
        return self.reader.ahead

    def check_size(self) -> None:
        check_shape(self.reader.shape, self.num_groups)

    def smaller(self) -> Iterator[Self]:
        params, chunk, group_bytes = self.params, self.reader.chunk, self.group_bytes
        plans = [self.plan]
        while group_bytes > 1:
            group_bytes //= 2
            smaller = plan_blocks(
                params.shape, chunk, params.pixel_bytes, params.factors, group_bytes=group_bytes
            )
            if smaller.group != plans[-1].group:
                plans.append(smaller)
        most = self.reader.ahead
        steps = sorted((i + j, i, j) for i in range(len(plans)) for j in range(most + 1))
        yield self
        for _, i, j in steps[1:]:
            reader = replace(self.reader, most_ahead=most - j) if j else self.reader
            yield replace(self, reader=reader, plan=plans[i])

    def worker_bytes(self) -> int:
        return worker_bytes(self)

    def too_large(self) -> str:
        chunks, dtype = self.reader.pred_probs.chunks, self.params.dtype
        stored = format_bytes(math.prod(chunks) * dtype.itemsize)
        block = (self.plan.block[0], self.params.num_classes, *self.plan.block[1:])
        return (
            f"chunks of pred_probs of {_times(chunks)} {dtype} ({stored}): "
            f"blocks of {_times(block)}"
        )

    def fingerprint(self) -> dict[str, Any]:
        return {
            **self.params.attributes(),
            **self.reader.lineup.fingerprint(),
            "dims": self.reader.dims,
            "group_bytes": self.group_bytes,
            **{o.name: self.params.wants(o.name) for o in OUTPUTS if o.optional},
        }

    def stamps(self, name: str) -> Stamps | None:
        return image_stamps(self.reader, self.plan, name)

    def outputs(self) -> list[DenseOutput]:
        params, layout = self.params, self.reader.lineup.labels
        shape, chunks = layout.own(params.shape), layout.own(self.plan.group)
        return [
            DenseOutput(o.name, shape, chunks, o.dtype_for(params), o.fill, self.reader.dims)
            for o in params.outputs
            if o.over == "pixel"
        ]

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return group_stamps(name, array, self.reader.lineup.labels.axes, self.plan)

    def carried(self) -> Carried:
        reader = self.reader
        return carried_coordinates(reader.labels, reader.pred_probs, reader.lineup)

    def _place(self, number: int) -> Shape:
        """Return where a group is in the grid of groups."""
        place: list[int] = []
        for length in reversed(self.plan.grid):
            number, along = divmod(number, length)
            place.append(along)
        return tuple(reversed(place))

    def extent(self, number: int) -> Extent:
        """Return the extent of a group."""
        return self.plan.group_extent(self._place(number))

    def items(self, number: int) -> tuple[int, int]:
        images = self.extent(number).images
        return images.start, images.stop

    def beside(self, number: int) -> range:
        beside = math.prod(self.plan.grid[1:])
        first = number - number % beside
        return range(first, first + beside)

    def position(self, number: int) -> Shape:
        return self.reader.lineup.labels.own(self._place(number))

    def scan(self, how: float | None, part: Part, left_out: Sequence[int] = ()) -> Found:
        whole = self.extent(part.number)
        region = _of_images(whole, *part.items)
        extents = [_of_images(whole, *run) for run in without(part.items, left_out)]
        blank = empty_pixels(self.params, "block", region.shape, blank=True) if left_out else None
        with RegionReads(self.reader, self.plan, extents) as read:
            summary = summarize(region, read.blocks, read, self.params, how, blank, read.gaps)
        dense = self._own(summary.dense)
        num_bytes = sum(extent.size for extent in extents) * self.params.pixel_bytes
        return Found(summary.statistics, summary, dense, num_bytes, read.seconds, read.labels)

    def labels_hash(self, number: int) -> int:
        region = self.extent(number)
        labels, found = self.reader.read_labels(region), 0
        for block in self.plan.blocks(region):
            part = np.ascontiguousarray(labels[block.within(region).slices])
            found = zlib.crc32(part.data, found)
        return found

    def to_record(self, kept: RegionSummary) -> dict[str, AnyArray]:
        return to_arrays(kept)

    def total(self, record: Mapping[str, AnyArray]) -> Statistics:
        return statistics_of(record)

    def kept(self, number: int, record: Mapping[str, AnyArray]) -> Candidates:
        return candidates_of(self.extent(number), record, self.params)

    def paint(self, how: Search, number: int, record: Mapping[str, AnyArray]) -> Painted:
        params = self.params
        issues = find_issues(self.kept(number, record), how, params)
        images = {**images_of(record), **contributed(params, "issues", "image", issues)}
        sums = Sums(contributed(params, "issues", "dataset", issues))
        return Painted(self._own(contributed(params, "issues", "pixel", issues)), images, sums)

    def _own(self, pixels: Parts) -> dict[str, AnyArray]:
        """Return values of pixels along the dimensions of the labels."""
        return {n: self.reader.lineup.labels.outwards(values) for n, values in pixels.items()}

    def find(self, stages: JobStages) -> Results:
        dim, attributes = self.reader.image_dim, self.reader.lineup.attributes()
        return found_images(self.params, stages, stages.paint, self._together, dim, attributes)

    def _together(self, parts: Iterable[tuple[int, Parts]]) -> ImageParts:
        images = Images(self)
        for number, of_group in parts:
            images.add(number, of_group)
        return images.parts


def image_stamps(reader: BlockReader, plan: Plan, name: str) -> Stamps | None:
    """Return what the store of labels or predictions says of each group of a plan."""
    lineup = reader.lineup
    layout = lineup.labels if name == "labels" else lineup.pred_probs
    # Without the classes: a group has all of them.
    keep = [i for i in range(len(layout.axes)) if name == "labels" or i != 1]
    axes, order = [layout.axes[i] for i in keep], [layout.order[i] for i in keep]
    return group_stamps(name, getattr(reader, name), axes, plan, order)


def _of_images(extent: Extent, first: int, stop: int) -> Extent:
    return Extent((first, *extent.start[1:]), (stop, *extent.stop[1:]))


class RegionReads:
    """Reads the blocks of some extents, and knows how long that took, and a hash of the labels."""

    def __init__(self, reader: BlockReader, plan: Plan, extents: Sequence[Extent]) -> None:
        self.seconds = 0.0
        self.labels = 0
        self._reader, self._plan, self._extents = reader, plan, iter(extents)
        self._opened = ExitStack()
        self._stop = 0
        self.blocks = (block for extent in extents for block in plan.blocks(extent))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def __call__(self, block: Extent) -> tuple[AnyArray, AnyArray]:
        begun = time.monotonic()
        if block.start[0] >= self._stop:  # it is of the next extent
            self._opened.close()
            extent = next(self._extents)
            reading = self._reader.for_region(extent, self._plan.blocks(extent))
            self._read, self._stop = self._opened.enter_context(reading), extent.stop[0]
        result = self._read(block)
        self.seconds += time.monotonic() - begun
        self.labels = zlib.crc32(np.ascontiguousarray(result[0]).data, self.labels)
        return result

    def gaps(self, block: Extent) -> Gaps:
        return self._read.gaps(block)


def open_images(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    options: Options,
    *,
    storage_options: Mapping[str, Any] | None = None,
    group_bytes: int = GROUP_BYTES,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> ImageInputs:
    """Open labels and predictions, check what is asked, and cut the dataset into groups."""
    reader = BlockReader.of(
        open_array(labels, "labels", storage_options),
        open_array(pred_probs, "pred_probs", storage_options),
        image_dim=image_dim,
        class_dim=class_dim,
    )
    params = parameters_of(reader.labels, reader.pred_probs, reader.lineup, options)
    check_dims(reader.dims, reader.lineup.one_scene)
    check_group_bytes(group_bytes)
    plan = plan_blocks(
        params.shape, reader.chunk, params.pixel_bytes, params.factors, group_bytes=group_bytes
    )
    return ImageInputs(reader, params, plan, group_bytes)


def check_group_bytes(group_bytes: int) -> None:
    """Raise InputError if a group cannot have so many bytes."""
    if group_bytes < 1:
        raise InputError(f"group_bytes: got {group_bytes}, it must be 1 or more")


def worker_bytes(inputs: ImageInputs) -> int:
    """Return what one thread of a worker holds: the memory formula of the README.

    A block of predictions as it is stored, decoded, gathered and put in order, and as much again
    that the allocator keeps for the threads that decode; from a remote store, each block that is
    read ahead, as it is stored and decoded; and for every pixel of a group its label, its dense
    outputs, and 12 bytes for the mask, the class codes and the candidates (as long as these are not
    more than 15 % of the pixels).
    """
    params, plan = inputs.params, inputs.plan
    block, group = math.prod(plan.block), math.prod(plan.group)
    dense = sum(
        output.dtype_for(params).itemsize
        for output in params.outputs
        if output.over == "pixel" and output.of("block")
    )
    pixel = inputs.reader.labels.dtype.itemsize + dense + 12
    blocks = 8 + 2 * inputs.reader.ahead
    return blocks * block * params.pixel_bytes + group * pixel


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
