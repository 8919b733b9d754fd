"""Images and predictions of their pixels, as the job takes them."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import zarr
from dask.utils import format_bytes

from dask_labelqc.errors import InputError
from dask_labelqc.graph.blocks import GROUP_BYTES, Box, Plan, plan_blocks
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.issues import count_off_diagonal, find_issues, paint
from dask_labelqc.method.parameters import Parameters, make_parameters
from dask_labelqc.method.stages import select
from dask_labelqc.method.summary import (
    Candidates,
    Dense,
    ImageStatistics,
    RegionSummary,
    Statistics,
    summarize,
)
from dask_labelqc.pipeline.fit import check_shape
from dask_labelqc.pipeline.image_results import GroupIssues, Images
from dask_labelqc.pipeline.inputs import DenseOutput, Found, Painted, Part, Results, without
from dask_labelqc.pipeline.recorded import candidates_of, statistics_of, to_arrays
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, group_stamps
from dask_labelqc.region import Gaps
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.arrays import BlockReader, StoreLocation, open_array
from dask_labelqc.storage.class_names import class_names
from dask_labelqc.storage.containers import labels_fill, stored_scale
from dask_labelqc.storage.coordinates import Carried, carried_coordinates, check_dims
from dask_labelqc.typing import AnyArray, Floats, Shape

__all__ = ["ImageInputs", "RegionReads", "image_stamps", "open_images", "worker_bytes"]


@dataclass(frozen=True)
class ImageInputs:
    """The opened inputs of a job, its parameters and plan; see `inputs.Inputs`."""

    reader: BlockReader
    params: Parameters
    plan: Plan
    group_bytes: int = GROUP_BYTES

    item: ClassVar[str] = "image"
    labels: ClassVar[frozenset[str]] = frozenset({"labels"})
    num_lists: ClassVar[int] = 0
    paints_alone: ClassVar[bool] = False

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
            "pixel_scores": self.params.scores,
            "predicted_label": self.params.predicted,
        }

    def stamps(self, name: str) -> Stamps | None:
        return image_stamps(self.reader, self.plan, name)

    def outputs(self) -> list[DenseOutput]:
        params, layout = self.params, self.reader.lineup.labels
        found: list[tuple[str, Any, Any]] = [("label_issues", np.dtype(bool), False)]
        if params.scores:
            found.append(("pixel_scores", params.probability_dtype, np.nan))
        if params.predicted:
            found.append(("predicted_label", params.class_dtype, 0))
        shape, chunks = layout.own(params.shape), layout.own(self.plan.group)
        dims = self.reader.dims
        return [DenseOutput(name, shape, chunks, dtype, fill, dims) for name, dtype, fill in found]

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return group_stamps(name, array, self.reader.lineup.labels.axes, self.plan)

    def carried(self) -> Carried:
        reader = self.reader
        return carried_coordinates(reader.labels, reader.pred_probs, reader.lineup)

    def _place(self, number: int) -> Shape:
        """Return where a group is in the grid of groups."""
        return tuple(int(i) for i in np.unravel_index(number, self.plan.grid))

    def box(self, number: int) -> Box:
        """Return the box of a group."""
        return self.plan.group_box(self._place(number))

    def items(self, number: int) -> tuple[int, int]:
        images = self.box(number).images
        return images.start, images.stop

    def beside(self, number: int) -> range:
        beside = math.prod(self.plan.grid[1:])
        first = number - number % beside
        return range(first, first + beside)

    def position(self, number: int) -> Shape:
        return self.reader.lineup.labels.own(self._place(number))

    def is_smallest(self, part: Part) -> bool:
        return part.items[1] - part.items[0] == 1

    def scan(self, how: float | None, part: Part, left_out: Sequence[int] = ()) -> Found:
        whole = self.box(part.number)
        region = _of_images(whole, *part.items)
        boxes = [_of_images(whole, *run) for run in without(part.items, left_out)]
        blank = Dense.blank(region.shape, self.params) if left_out else None
        with RegionReads(self.reader, self.plan, boxes) as read:
            summary = summarize(region, read.blocks, read, self.params, how, blank, read.gaps)
        outputs = {"pixel_scores": summary.dense.scores, "predicted_label": summary.dense.predicted}
        outwards = self.reader.lineup.labels.outwards
        dense = {name: outwards(values) for name, values in outputs.items() if values is not None}
        num_bytes = sum(box.size for box in boxes) * self.params.pixel_bytes
        return Found(summary.statistics, summary, dense, num_bytes, read.seconds, read.labels)

    def labels_hash(self, number: int) -> int:
        region = self.box(number)
        labels, found = self.reader.read_labels(region), 0
        for block in self.plan.blocks(region):
            part = np.ascontiguousarray(labels[block.within(region).slices])
            found = zlib.crc32(part.data, found)
        return found

    def to_record(self, kept: RegionSummary) -> dict[str, AnyArray]:
        return to_arrays(kept)

    def to_lists(self, number: int, kept: RegionSummary) -> dict[int, dict[str, AnyArray]]:
        return {}

    def total(self, record: Mapping[str, AnyArray]) -> Statistics:
        return statistics_of(record)

    def kept(self, number: int, record: Mapping[str, AnyArray]) -> Candidates:
        return candidates_of(self.box(number), record, self.params)

    def paint(self, how: Search, number: int, record: Mapping[str, AnyArray]) -> Painted:
        issues = find_issues(self.kept(number, record), how, self.params)
        mask = self.reader.lineup.labels.outwards(paint(issues))
        images = ImageStatistics(record["softmin"], record["count"])
        matrix = issues.matrix(self.params.num_classes)
        return Painted({"label_issues": mask}, GroupIssues(images, issues.per_image()), matrix)

    def find(self, stages: JobStages) -> Results:
        selection = select(_Stages(stages, self.params), self.params)
        selection.statistics.warn(self.params)
        images = Images(self)
        matrix = np.zeros((self.params.num_classes,) * 2, np.int64)
        for painted in stages.paint(selection.search):
            for number, issues in painted.parts.items():
                images.add(number, issues)
            matrix += painted.total
        image = self.reader.image_dim
        small = (
            ("image_score", (image,), images.score()),
            ("image_issue_fraction", (image,), images.issue_fraction()),
            ("image_issue_count", (image,), images.issue_count),
            ("confident_threshold", ("class",), selection.thresholds),
            ("class_count", ("class",), selection.statistics.pixel_count),
            ("class_issue_count", ("class",), matrix.sum(axis=1)),
            ("issue_matrix", ("given_class", "predicted_class"), matrix),
        )
        facts = {"num_issues": int(matrix.sum()), "num_selected": selection.num_selected}
        decided = self.params.attributes() | self.params.naming() | self.reader.lineup.attributes()
        return Results(small, decided | facts)


class _Stages:
    """The stages of the method, run by those of the job."""

    def __init__(self, stages: JobStages, params: Parameters) -> None:
        self._stages, self._params = stages, params

    def summarize(self, bound: float | None = None) -> Statistics:
        statistics: Statistics = self._stages.scan(bound)
        return statistics

    def count(self, thresholds: Floats) -> int:
        return self._stages.reduce("count", count_off_diagonal, thresholds)

    def histogram(self, prefix: tuple[int, ...]) -> Histogram:
        return self._stages.reduce("select", _histogram, self._params, prefix)


def _histogram(candidates: Candidates, params: Parameters, prefix: tuple[int, ...]) -> Histogram:
    return candidates.keys(params).histogram(prefix)


def image_stamps(reader: BlockReader, plan: Plan, name: str) -> Stamps | None:
    """Return what the store of labels or predictions says of each group of a plan."""
    lineup = reader.lineup
    layout = lineup.labels if name == "labels" else lineup.pred_probs
    # Without the classes: a group has all of them.
    keep = [i for i in range(len(layout.axes)) if name == "labels" or i != 1]
    axes, order = [layout.axes[i] for i in keep], [layout.order[i] for i in keep]
    return group_stamps(name, getattr(reader, name), axes, plan, order)


def _of_images(box: Box, first: int, stop: int) -> Box:
    return Box((first, *box.start[1:]), (stop, *box.stop[1:]))


class RegionReads:
    """Reads the blocks of some boxes, and knows how long that took, and a hash of the labels."""

    def __init__(self, reader: BlockReader, plan: Plan, boxes: Sequence[Box]) -> None:
        self.seconds = 0.0
        self.labels = 0
        self._reader, self._plan, self._boxes = reader, plan, iter(boxes)
        self._opened = ExitStack()
        self._stop = 0
        self.blocks = (block for box in boxes for block in plan.blocks(box))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def __call__(self, block: Box) -> tuple[AnyArray, AnyArray]:
        begun = time.monotonic()
        if block.start[0] >= self._stop:  # it is of the next box
            self._opened.close()
            box = next(self._boxes)
            reading = self._reader.for_region(box, self._plan.blocks(box))
            self._read, self._stop = self._opened.enter_context(reading), box.stop[0]
        result = self._read(block)
        self.seconds += time.monotonic() - begun
        self.labels = zlib.crc32(np.ascontiguousarray(result[0]).data, self.labels)
        return result

    def gaps(self, block: Box) -> Gaps:
        return self._read.gaps(block)


def open_images(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    storage_options: Mapping[str, Any] | None = None,
    group_bytes: int = GROUP_BYTES,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    **arguments: Any,
) -> ImageInputs:
    """Open labels and predictions, check the arguments, and cut the dataset into groups.

    `arguments` are those of `method.parameters.make_parameters`.
    """
    reader = BlockReader.of(
        open_array(labels, "labels", storage_options),
        open_array(pred_probs, "pred_probs", storage_options),
        image_dim=image_dim,
        class_dim=class_dim,
    )
    names = class_names(reader.labels, reader.pred_probs)
    params = make_parameters(
        reader.labels_shape,
        reader.labels.dtype,
        reader.shape,
        reader.pred_probs.dtype,
        fill_labels=labels_fill(reader.labels),
        scale=stored_scale(reader.pred_probs),
        class_names=names,
        **arguments,
    )
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
    dense = params.scores * params.probability_dtype.itemsize
    dense += params.predicted * params.class_dtype.itemsize
    pixel = inputs.reader.labels.dtype.itemsize + dense + 12
    blocks = 8 + 2 * inputs.reader.ahead
    return blocks * block * params.pixel_bytes + group * pixel


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
