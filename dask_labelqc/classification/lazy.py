"""Regions of Zarr and Dask arrays, scanned by the tasks of the Dask scheduler in use.

What is remembered of each region stays where it was computed, on the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import add, attrgetter
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import zarr
from dask.callbacks import Callback

from dask_labelqc.classification.absent import check_rows
from dask_labelqc.classification.facts import ExampleFacts, LeftOut, RegionFacts
from dask_labelqc.classification.inputs import LazyExamples, name_examples
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import Keeping, scan_region
from dask_labelqc.classification.selection import Total
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.graph.blocks import Plan, plan_blocks
from dask_labelqc.graph.objects import from_blocks, from_positions, map_objects, total
from dask_labelqc.graph.sources import as_blocks
from dask_labelqc.limits import check_chunks, check_memory
from dask_labelqc.progress import Progress
from dask_labelqc.region import Box
from dask_labelqc.storage.ahead import reads_ahead
from dask_labelqc.storage.gaps import watched
from dask_labelqc.storage.reading import decoding, reading_boxes
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["LazyRegions"]

REGION_BYTES = 192 * 2**20
"""Predictions that one task reads from Zarr."""
MOST_REGIONS = 4096
"""Where that would be more tasks, each reads more."""


class LazyRegions:
    """The regions of arrays elsewhere; see `selection.Regions`."""

    def __init__(self, examples: LazyExamples, options: ScoreOptions, progress: Progress) -> None:
        self._examples, self._options, self._progress = examples, options, progress
        if isinstance(examples.pred_probs, da.Array):
            self._pred_probs = examples.pred_probs.rechunk({1: -1})
            chunks = self._pred_probs.chunks[0]
        else:
            self._plan = _plan(examples)
            (chunks,) = self._plan.chunks
        self._starts = tuple(np.cumsum((0, *chunks)).tolist())
        if isinstance(examples.labels, zarr.Array):
            read = partial(_read_labels, examples.labels, self._starts)
            self._labels = from_positions(read, (len(chunks),))
        else:
            self._labels = map_objects(_Labels, as_blocks(examples.labels, (chunks,)))
        self._regions: da.Array | None = None

    def scan(self, keeping: Keeping) -> tuple[ExampleStatistics, LeftOut]:
        self._regions = None
        self._regions = self._watched(self._scanned(keeping))
        found = (
            total(add, map_objects(attrgetter(name), self._regions))
            for name in ("statistics", "left_out")
        )
        statistics, left_out = dask.compute(*found)
        return statistics, left_out

    def total(self, function: Callable[[ExampleFacts], Total]) -> Total:
        parts = map_objects(partial(_of_facts, function), self._regions)
        result: Total = total(add, parts).compute()
        return result

    def _watched(self, regions: da.Array) -> da.Array:
        """Compute the regions where they are to stay, and tell the progress of each."""
        form, number = self._examples.form, regions.numblocks[0]
        share = form.num_examples * form.example_bytes // number
        self._progress.stage("scan", number)
        with _Watch(regions.name, partial(self._progress.advance, share)):
            (persisted,) = dask.persist(regions)
        futures = distributed.futures_of(persisted)
        for _ in distributed.as_completed(futures) if futures else ():
            self._progress.advance(share)
        result: da.Array = persisted
        return result

    def _scanned(self, keeping: Keeping) -> da.Array:
        """Return the array of `RegionFacts` objects."""
        examples, labels = self._examples, self._labels
        scan = partial(
            scan_region,
            form=examples.form,
            options=self._options,
            keeping=keeping,
        )
        if isinstance(examples.pred_probs, da.Array):
            function = partial(_scan_block, scan, self._starts)
            return from_blocks(function, labels, self._pred_probs)
        predicted, transposed = examples.pred_probs, examples.transposed
        reader = partial(_read_region, scan, self._plan, predicted, transposed)
        return da.map_blocks(
            reader,
            labels,
            chunks=((1,) * labels.numblocks[0],),
            dtype=object,
            meta=np.empty(0, object),
        )


@dataclass(frozen=True)
class _Labels:
    """The labels of a region, and which chunks of them are not in the store."""

    values: AnyArray
    absent: frozenset[int] = frozenset()


class _Watch(Callback):
    """Call a function whenever a block of an array is done by a scheduler of this process."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        super().__init__(posttask=self._after)
        self._name, self._function = name, function

    def _after(self, key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == self._name:
            self._function()


def _of_facts(function: Callable[[ExampleFacts], Any], region: RegionFacts) -> Any:
    return function(region.facts)


def _read_labels(labels: zarr.Array[Any], starts: Shape, block_id: Shape) -> _Labels:
    (position,) = block_id
    box = Box((starts[position],), (starts[position + 1],))
    reads = watched(labels)
    with decoding("labels", name_examples(*box.start, *box.stop)):
        values = reads.read(box)
    return _Labels(values, reads.chunks_missing_in(box))


def _scan_block(
    scan: Callable[..., RegionFacts],
    starts: Shape,
    position: Shape,
    labels: _Labels,
    pred_probs: list[AnyArray],
) -> RegionFacts:
    (block,) = pred_probs
    start = starts[position[0]]
    region = scan(start, [slice(0, labels.values.size)], labels.values, block.__getitem__)
    return _with_absent(region, labels.absent)


def _read_region(
    scan: Callable[..., RegionFacts],
    plan: Plan,
    pred_probs: zarr.Array[Any],
    transposed: bool,
    labels: _Labels,
    block_id: Shape,
) -> RegionFacts:
    """Scan a region of a Zarr array, one block after the other."""
    region = plan.group_box(block_id)
    start, axis = region.start[0], 1 if transposed else 0
    num_classes = pred_probs.shape[1 - axis]
    reads = watched(pred_probs)
    absent: set[int] = set()

    def own(rows: Box) -> Box:
        ends = ((0, num_classes), (rows.start[0], rows.stop[0]))
        first, last = zip(*(ends if transposed else ends[::-1]), strict=True)
        return Box(first, last)

    def named(box: Box) -> str:
        return name_examples(box.start[axis], box.stop[axis])

    blocks = list(plan.blocks(region))
    boxes = map(own, blocks)
    ahead = reads_ahead(pred_probs.store)
    with reading_boxes(reads, boxes, ahead, "pred_probs", named) as predictions:

        def read(block: slice) -> AnyArray:
            target = next(predictions)
            gone = reads.chunks_missing_in(own(Box((start + block.start,), (start + block.stop,))))
            check_rows(pred_probs, transposed, gone)
            absent.update(gone)
            return target.T if transposed else target

        rows = [block.within(region).slices[0] for block in blocks]
        found = scan(start, rows, labels.values, read)
    return _with_absent(found, labels.absent, frozenset(absent))


def _with_absent(
    region: RegionFacts, labels: frozenset[int], pred_probs: frozenset[int] = frozenset()
) -> RegionFacts:
    statistics = replace(region.statistics, absent_labels=labels, absent_pred_probs=pred_probs)
    return replace(region, statistics=statistics)


def _plan(examples: LazyExamples) -> Plan:
    """Cut Zarr predictions into regions, each a whole number of storage chunks."""
    form, array = examples.form, examples.pred_probs
    assert isinstance(array, zarr.Array)
    check_chunks("pred_probs", array.shape, array.chunks)
    chunk = array.chunks[1 if examples.transposed else 0]
    share = form.num_examples * form.example_bytes // MOST_REGIONS
    plan = plan_blocks(
        (form.num_examples,), (chunk,), form.example_bytes, group_bytes=max(REGION_BYTES, share)
    )
    check_memory("pred_probs", plan.group, form.example_bytes)
    return plan
