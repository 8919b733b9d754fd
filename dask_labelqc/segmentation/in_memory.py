"""The audit of arrays in memory, on the threads of this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from dask_labelqc.arguments import number_of_threads, positive_integer
from dask_labelqc.engine.threads import Threads
from dask_labelqc.method.calls import call_progress
from dask_labelqc.method.issues import Issues, find_issues
from dask_labelqc.method.outputs import (
    ImageParts,
    Parts,
    contributed,
    empty_pixels,
    finished,
    summed_parts,
)
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.sequence import Selection, select
from dask_labelqc.method.summarize import Candidates
from dask_labelqc.segmentation.image_lists import ImageLists
from dask_labelqc.segmentation.inputs import InMemory, Lazy
from dask_labelqc.segmentation.stored_images import LazyImages
from dask_labelqc.typing import AnyArray

__all__ = ["audit_inputs"]


def audit_inputs(
    inputs: InMemory | ImageLists | Lazy | LazyImages,
    batch_size: int | None,
    n_jobs: int | None,
    verbose: bool,
) -> dict[str, Any]:
    """Return the outputs of an audit by name: computed of what is in memory, else lazy."""
    if isinstance(inputs, Lazy | LazyImages):
        return inputs.audit(batch_size)
    return audit_in_memory(inputs, batch_size, n_jobs, verbose)


def audit_in_memory(
    inputs: InMemory | ImageLists, batch_size: int | None, n_jobs: int | None, verbose: bool
) -> dict[str, AnyArray]:
    """Return the outputs of an audit by name; issues are only looked for if one needs them."""
    threads = number_of_threads(n_jobs)
    if batch_size is not None:
        batch_size = positive_integer("batch_size", batch_size)
    params, method = inputs.params, PixelMethod(inputs.params)
    extents, summarize = inputs.regions(threads, batch_size)
    pixels = empty_pixels(params, "block", params.shape)
    images = ImageParts(params, params.num_images)
    scan = partial(summarize, pixels)
    with call_progress(verbose) as progress, ThreadPoolExecutor(threads) as pool:
        regions = Threads(extents, scan, pool, progress)
        if any(output.of("issues", "selection") for output in params.outputs):
            selection = select(regions, method)
            painted, sums = _paint(regions, selection, images, params)
            sums = {**sums, **selection.total.sums, "thresholds": selection.thresholds}
            pixels |= painted
        else:
            sums = regions.scan(method.first, method.warn).sums
    for summary in regions.scanned:
        images.add(summary.extent.images, summary.images)
    return {
        output.name: pixels[output.name]
        if output.over == "pixel"
        else finished(output, (images.arrays, sums))
        for output in params.outputs
    }


def _paint(
    regions: Threads, selection: Selection, images: ImageParts, params: Parameters
) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    """Return the issues' outputs of pixels and parts of the dataset; add those of the images."""
    pixels = empty_pixels(params, "issues", params.shape)
    sums: Parts = {}

    def find(candidates: Candidates) -> Issues:
        issues = find_issues(candidates, selection.search, params)
        for name, values in contributed(params, "issues", "pixel", issues).items():
            pixels[name][issues.extent.slices] = values
        return issues

    for issues in regions.each("paint", find):
        images.add(issues.extent.images, contributed(params, "issues", "image", issues))
        sums = summed_parts(sums, contributed(params, "issues", "dataset", issues))
    return pixels, dict(sums)
