"""Regions of arrays in memory, scanned on the threads of this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dask_labelqc.classification.inputs import InMemoryExamples
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import Keeping, scan_region
from dask_labelqc.engine.regions import Scanned
from dask_labelqc.engine.threads import Threads
from dask_labelqc.extent import Extent
from dask_labelqc.plan import Plan, plan_blocks
from dask_labelqc.progress import Progress

__all__ = ["in_memory"]

REGIONS_PER_THREAD = 4
LEAST_BYTES = 2**21
"""Predictions of a region at the least: less is not worth a thread."""


def in_memory(
    examples: InMemoryExamples,
    options: ScoreOptions,
    pool: ThreadPoolExecutor,
    threads: int,
    progress: Progress,
) -> Threads:
    """Return the regions of arrays in memory."""
    form = examples.form
    share = form.num_examples * form.item_bytes // (REGIONS_PER_THREAD * threads)
    plan = plan_blocks(form.shape, (1,), form.item_bytes, group_bytes=max(share, LEAST_BYTES))
    return Threads(plan.group_extents(), partial(_scan, examples, options, plan), pool, progress)


def _scan(
    examples: InMemoryExamples, options: ScoreOptions, plan: Plan, keeping: Keeping, extent: Extent
) -> Scanned:
    (region,) = extent.slices
    return scan_region(
        region.start,
        [block.within(extent).slices[0] for block in plan.blocks(extent)],
        examples.labels[region],
        examples.pred_probs[region].__getitem__,
        examples.form,
        options,
        keeping,
    )
