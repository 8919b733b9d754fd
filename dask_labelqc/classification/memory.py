"""Regions of arrays in memory, scanned on the threads of this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add

from dask_labelqc.classification.facts import ExampleFacts, LeftOut, RegionFacts
from dask_labelqc.classification.inputs import InMemoryExamples
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import Keeping, scan_region
from dask_labelqc.classification.selection import Total
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.graph.blocks import Box, plan_blocks
from dask_labelqc.progress import Progress

__all__ = ["InMemoryRegions"]

REGIONS_PER_THREAD = 4
LEAST_BYTES = 2**21
"""Predictions of a region at the least: less is not worth a thread."""


class InMemoryRegions:
    """The regions of arrays in memory; see `selection.Regions`."""

    def __init__(
        self,
        examples: InMemoryExamples,
        options: ScoreOptions,
        pool: ThreadPoolExecutor,
        threads: int,
        progress: Progress,
    ) -> None:
        form = examples.form
        self._examples, self._options = examples, options
        self._pool, self._progress = pool, progress
        share = form.num_examples * form.example_bytes // (REGIONS_PER_THREAD * threads)
        self._plan = plan_blocks(
            (form.num_examples,), (1,), form.example_bytes, group_bytes=max(share, LEAST_BYTES)
        )
        self._facts: list[ExampleFacts] = []

    def scan(self, keeping: Keeping) -> tuple[ExampleStatistics, LeftOut]:
        regions = list(self._plan.group_boxes())
        self._progress.stage("scan", len(regions))
        self._facts = []
        found: list[tuple[ExampleStatistics, LeftOut]] = []
        for region in self._pool.map(lambda box: self._region(box, keeping), regions):
            self._progress.advance()
            found.append((region.statistics, region.left_out))
            self._facts.append(region.facts)
        statistics, left_out = zip(*found, strict=True)
        return reduce(add, statistics), reduce(add, left_out)

    def total(self, function: Callable[[ExampleFacts], Total]) -> Total:
        return reduce(add, self._pool.map(function, self._facts))

    def _region(self, box: Box, keeping: Keeping) -> RegionFacts:
        (region,) = box.slices
        labels = self._examples.labels[region]
        pred_probs = self._examples.pred_probs[region]
        blocks = [block.within(box).slices[0] for block in self._plan.blocks(box)]
        return scan_region(
            region.start,
            blocks,
            labels,
            pred_probs.__getitem__,
            self._examples.form,
            self._options,
            keeping,
        )
