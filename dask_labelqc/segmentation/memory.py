"""The stages over arrays in memory, on the threads of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar

import numpy as np

from dask_labelqc.graph.blocks import Plan, positive_integer
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.kernels.softmin import combine_softmin, empty_softmin, finalize_softmin
from dask_labelqc.method.calls import call_progress
from dask_labelqc.method.issues import count_off_diagonal, find_issues, paint
from dask_labelqc.method.stages import select
from dask_labelqc.method.summary import Dense, RegionSummary, Statistics
from dask_labelqc.progress import Progress
from dask_labelqc.segmentation.inputs import InMemory
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["audit_in_memory", "score_in_memory"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Run:
    """The stages of `method.stages`, and what they leave behind for the last one."""

    inputs: InMemory
    plan: Plan
    pool: ThreadPoolExecutor
    progress: Progress
    dense: Dense
    summaries: list[RegionSummary] = field(default_factory=list)

    def summarize(self, bound: float | None = None) -> Statistics:
        regions = list(self.plan.group_boxes())
        scan = partial(self.inputs.summarize, self.plan, bound, self.dense)
        self.summaries = list(self._stage("summarize", scan, regions))
        return reduce(add, (summary.statistics for summary in self.summaries))

    def count(self, thresholds: Floats) -> int:
        return sum(count_off_diagonal(s.candidates, thresholds) for s in self.summaries)

    def histogram(self, prefix: tuple[int, ...]) -> Histogram:
        params = self.inputs.params
        return reduce(add, (s.candidates.keys(params).histogram(prefix) for s in self.summaries))

    def paint(self, search: Search) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return the mask, the issues of each image, and those of each pair of classes."""
        params = self.inputs.params
        mask = np.empty(params.shape, np.bool_)
        per_image = np.zeros(params.shape[0], np.int64)
        matrix = np.zeros((params.num_classes,) * 2, np.int64)

        def find(summary: RegionSummary) -> Any:
            issues = find_issues(summary.candidates, search, params)
            mask[issues.box.slices] = paint(issues)
            return issues

        for issues in self._stage("paint", find, self.summaries):
            per_image[issues.box.images] += issues.per_image()
            matrix += issues.matrix(params.num_classes)
        return mask, per_image, matrix

    def dense_outputs(self) -> dict[str, AnyArray]:
        """Return the dense outputs that were asked for, by name."""
        named = {"pixel_scores": self.dense.scores, "predicted_label": self.dense.predicted}
        return {name: values for name, values in named.items() if values is not None}

    def _stage(self, name: str, function: Callable[[T], R], items: list[T]) -> Iterator[R]:
        self.progress.stage(name, len(items))
        for result in self.pool.map(function, items):
            self.progress.advance()
            yield result


def _run(inputs: InMemory, batch_size: int | None, n_jobs: int | None, progress: Progress) -> _Run:
    threads = (os.cpu_count() or 1) if n_jobs is None else positive_integer("n_jobs", n_jobs)
    if batch_size is not None:
        batch_size = positive_integer("batch_size", batch_size)
    return _Run(
        inputs,
        inputs.plan(threads, batch_size),
        ThreadPoolExecutor(threads),
        progress,
        Dense.empty(inputs.params.shape, inputs.params),
    )


def audit_in_memory(
    inputs: InMemory, batch_size: int | None, n_jobs: int | None, verbose: bool
) -> dict[str, AnyArray]:
    """Return every output of an audit by name."""
    with call_progress(verbose) as progress:
        run = _run(inputs, batch_size, n_jobs, progress)
        with run.pool:
            selection = select(run, inputs.params)
            selection.statistics.warn(inputs.params)
            mask, issue_count, matrix = run.paint(selection.search)
    scores, pixel_count = _per_image(inputs, run.summaries)
    with np.errstate(invalid="ignore"):
        fraction = issue_count / pixel_count
    return {
        "label_issues": mask,
        "image_score": scores,
        "image_issue_fraction": fraction,
        "image_issue_count": issue_count,
        "confident_threshold": selection.thresholds,
        "class_count": selection.statistics.pixel_count,
        "class_issue_count": matrix.sum(axis=1),
        "issue_matrix": matrix,
    } | run.dense_outputs()


def score_in_memory(
    inputs: InMemory, batch_size: int | None, n_jobs: int | None, verbose: bool
) -> dict[str, AnyArray]:
    """Return the scores of images and pixels by name; the issues are not looked for."""
    with call_progress(verbose) as progress:
        run = _run(inputs, batch_size, n_jobs, progress)
        with run.pool:
            statistics = run.summarize()
    statistics.warn(inputs.params)
    scores, _ = _per_image(inputs, run.summaries)
    return {"image_score": scores} | run.dense_outputs()


def _per_image(inputs: InMemory, summaries: Iterable[RegionSummary]) -> tuple[Floats, AnyArray]:
    num_images, temperature = inputs.params.shape[0], inputs.params.temperature
    softmin, count = empty_softmin(num_images), np.zeros(num_images, np.int64)
    for summary in summaries:
        images = summary.box.images
        softmin[images] = combine_softmin(softmin[images], summary.images.softmin, temperature)
        count[images] += summary.images.count
    return finalize_softmin(softmin), count
