"""The stages over arrays in memory, on the threads of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from dask_labelqc.engine.threads import Threads
from dask_labelqc.graph.blocks import positive_integer
from dask_labelqc.kernels.softmin import combine_softmin, empty_softmin, finalize_softmin
from dask_labelqc.method.calls import call_progress
from dask_labelqc.method.issues import Issues, find_issues, paint
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.sequence import Selection, select
from dask_labelqc.method.summary import Candidates, Dense
from dask_labelqc.progress import Progress
from dask_labelqc.segmentation.inputs import InMemory
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["audit_in_memory", "score_in_memory"]


class _Images(Threads):
    """The regions of images in memory, whose dense outputs are put where they belong."""

    def __init__(
        self,
        inputs: InMemory,
        batch_size: int | None,
        threads: int,
        pool: ThreadPoolExecutor,
        progress: Progress,
    ) -> None:
        plan = inputs.plan(threads, batch_size)
        self.params = inputs.params
        self.dense = Dense.empty(inputs.params.shape, inputs.params)
        scan = partial(inputs.summarize, plan, self.dense)
        super().__init__(plan.group_boxes(), scan, pool, progress)

    def paint(self, selection: Selection) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return the mask, the issues of each image, and those of each pair of classes."""
        params = self.params
        mask = np.empty(params.shape, np.bool_)
        per_image = np.zeros(params.shape[0], np.int64)
        matrix = np.zeros((params.num_classes,) * 2, np.int64)

        def find(candidates: Candidates) -> Issues:
            issues = find_issues(candidates, selection.search, params)
            mask[issues.box.slices] = paint(issues)
            return issues

        for issues in self.each("paint", find):
            per_image[issues.box.images] += issues.per_image()
            matrix += issues.matrix(params.num_classes)
        return mask, per_image, matrix

    def dense_outputs(self) -> dict[str, AnyArray]:
        """Return the dense outputs that were asked for, by name."""
        named = {"pixel_scores": self.dense.scores, "predicted_label": self.dense.predicted}
        return {name: values for name, values in named.items() if values is not None}

    def per_image(self) -> tuple[Floats, AnyArray]:
        """Return the score of each image, and how many of its pixels take part."""
        num_images, temperature = self.params.shape[0], self.params.temperature
        softmin, count = empty_softmin(num_images), np.zeros(num_images, np.int64)
        for summary in self.scanned:
            images = summary.box.images
            softmin[images] = combine_softmin(softmin[images], summary.images.softmin, temperature)
            count[images] += summary.images.count
        return finalize_softmin(softmin), count


@contextmanager
def _regions(
    inputs: InMemory, batch_size: int | None, n_jobs: int | None, verbose: bool
) -> Iterator[_Images]:
    threads = (os.cpu_count() or 1) if n_jobs is None else positive_integer("n_jobs", n_jobs)
    if batch_size is not None:
        batch_size = positive_integer("batch_size", batch_size)
    with call_progress(verbose) as progress, ThreadPoolExecutor(threads) as pool:
        yield _Images(inputs, batch_size, threads, pool, progress)


def audit_in_memory(
    inputs: InMemory, batch_size: int | None, n_jobs: int | None, verbose: bool
) -> dict[str, AnyArray]:
    """Return every output of an audit by name."""
    with _regions(inputs, batch_size, n_jobs, verbose) as regions:
        selection = select(regions, PixelMethod(inputs.params))
        mask, issue_count, matrix = regions.paint(selection)
    scores, pixel_count = regions.per_image()
    with np.errstate(invalid="ignore"):
        fraction = issue_count / pixel_count
    return {
        "label_issues": mask,
        "image_score": scores,
        "image_issue_fraction": fraction,
        "image_issue_count": issue_count,
        "confident_threshold": selection.thresholds,
        "class_count": selection.total.pixel_count,
        "class_issue_count": matrix.sum(axis=1),
        "issue_matrix": matrix,
    } | regions.dense_outputs()


def score_in_memory(
    inputs: InMemory, batch_size: int | None, n_jobs: int | None, verbose: bool
) -> dict[str, AnyArray]:
    """Return the scores of images and pixels by name; the issues are not looked for."""
    method = PixelMethod(inputs.params)
    with _regions(inputs, batch_size, n_jobs, verbose) as regions:
        regions.scan(method.first, method.warn)
    scores, _ = regions.per_image()
    return {"image_score": scores} | regions.dense_outputs()
