"""Regions of Zarr and Dask arrays, scanned by the tasks of the Dask scheduler in use.

What is remembered of each region stays where it was computed, on the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import zarr

from dask_labelqc.classification.absent import check_rows
from dask_labelqc.classification.inputs import LazyExamples, name_examples
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import Keeping, scan_region
from dask_labelqc.engine.graph import ScheduledGraph
from dask_labelqc.engine.regions import Scanned
from dask_labelqc.extent import Extent
from dask_labelqc.graph.arrays import as_blocks
from dask_labelqc.graph.objects import from_blocks, map_objects
from dask_labelqc.limits import check_chunks, check_memory
from dask_labelqc.plan import Plan, plan_blocks
from dask_labelqc.progress import Progress
from dask_labelqc.storage.ahead import reads_ahead
from dask_labelqc.storage.gaps import watched
from dask_labelqc.storage.reading import decoding, reading_extents
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["Labels", "on_scheduler", "read_labels", "read_region"]

REGION_BYTES = 192 * 2**20
"""Predictions that one task reads from Zarr."""
MOST_REGIONS = 4096
"""Where that would be more tasks, each reads more."""


def on_scheduler(
    examples: LazyExamples, options: ScoreOptions, progress: Progress
) -> ScheduledGraph:
    """Return the regions of arrays elsewhere."""
    form = examples.form
    scan = partial(scan_region, form=form, options=options)
    if isinstance(examples.pred_probs, da.Array):
        blocks = examples.pred_probs.rechunk({1: -1})
        chunks, read = blocks.chunks[0], partial(_scan_block, scan)
    else:
        plan, blocks = _plan(examples), None
        (chunks,) = plan.chunks
        read = partial(read_region, scan, plan, examples.pred_probs, examples.transposed)
    found = partial(_scanned, read, chunks, _labels(examples, chunks), blocks)
    return ScheduledGraph(found, progress, form.num_examples * form.item_bytes)


def _labels(examples: LazyExamples, chunks: Shape) -> da.Array:
    """Return the labels of the regions as objects."""
    if isinstance(examples.labels, zarr.Array):
        return from_blocks(partial(read_labels, examples.labels), (chunks,), [])
    return map_objects(Labels, as_blocks(examples.labels, (chunks,)))


def _scanned(
    scan: Callable[..., Scanned],
    chunks: Shape,
    labels: da.Array,
    pred_probs: da.Array | None,
    keeping: Keeping,
) -> da.Array:
    return from_blocks(partial(scan, keeping), (chunks,), [labels], pred_probs)


@dataclass(frozen=True)
class Labels:
    """The labels of a region, and which chunks of them are not in the store."""

    values: AnyArray
    absent: frozenset[int] = frozenset()


def read_labels(labels: zarr.Array[Any], extent: Extent) -> Labels:
    """Read the labels of a region."""
    reads = watched(labels)
    with decoding("labels", name_examples(*extent.start, *extent.stop)):
        values = reads.read(extent)
    return Labels(values, reads.chunks_missing_in(extent))


def _scan_block(
    scan: Callable[..., Scanned],
    keeping: Keeping,
    extent: Extent,
    labels: Labels,
    pred_probs: list[AnyArray],
) -> Scanned:
    (block,) = pred_probs
    start = extent.start[0]
    blocks = [slice(0, labels.values.size)]
    region = scan(start, blocks, labels.values, block.__getitem__, keeping=keeping)
    return _with_absent(region, labels.absent)


def read_region(
    scan: Callable[..., Scanned],
    plan: Plan,
    pred_probs: zarr.Array[Any],
    transposed: bool,
    keeping: Keeping,
    region: Extent,
    labels: Labels,
) -> Scanned:
    """Scan a region of a Zarr array, one block after the other."""
    start, axis = region.start[0], 1 if transposed else 0
    num_classes = pred_probs.shape[1 - axis]
    reads = watched(pred_probs)
    absent: set[int] = set()

    def own(rows: Extent) -> Extent:
        ends = ((0, num_classes), (rows.start[0], rows.stop[0]))
        first, last = zip(*(ends if transposed else ends[::-1]), strict=True)
        return Extent(first, last)

    def named(extent: Extent) -> str:
        return name_examples(extent.start[axis], extent.stop[axis])

    blocks = list(plan.blocks(region))
    extents = map(own, blocks)
    ahead = reads_ahead(pred_probs.store)
    with reading_extents(reads, extents, ahead, "pred_probs", named) as predictions:

        def read(block: slice) -> AnyArray:
            target = next(predictions)
            gone = reads.chunks_missing_in(
                own(Extent((start + block.start,), (start + block.stop,)))
            )
            check_rows(pred_probs, transposed, gone)
            absent.update(gone)
            return target.T if transposed else target

        rows = [block.within(region).slices[0] for block in blocks]
        found = scan(start, rows, labels.values, read, keeping=keeping)
    return _with_absent(found, labels.absent, frozenset(absent))


def _with_absent(
    region: Scanned, labels: frozenset[int], pred_probs: frozenset[int] = frozenset()
) -> Scanned:
    learned = region.total
    statistics = replace(learned.statistics, absent_labels=labels, absent_pred_probs=pred_probs)
    return replace(region, total=replace(learned, statistics=statistics))


def _plan(examples: LazyExamples) -> Plan:
    """Cut Zarr predictions into regions, each a whole number of storage chunks."""
    form, array = examples.form, examples.pred_probs
    assert isinstance(array, zarr.Array)
    check_chunks("pred_probs", array.shape, array.chunks)
    chunk = array.chunks[1 if examples.transposed else 0]
    share = form.num_examples * form.item_bytes // MOST_REGIONS
    plan = plan_blocks(form.shape, (chunk,), form.item_bytes, group_bytes=max(REGION_BYTES, share))
    check_memory("pred_probs", plan.group, form.item_bytes)
    return plan
