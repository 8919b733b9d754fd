"""The stages as one graph of public Dask arrays; nothing runs before something is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import add, attrgetter
from typing import TypeAlias

import dask.array as da
import numpy as np

from dask_labelqc.engine.graph import LazyGraph
from dask_labelqc.graph.objects import along_images, map_objects, to_blocks, total
from dask_labelqc.kernels.softmin import combine_softmin, finalize_softmin
from dask_labelqc.method.issues import Issues, paint
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.sequence import select
from dask_labelqc.method.summary import (
    Candidates,
    ImageStatistics,
    RegionSummary,
    Statistics,
)
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["Again", "LazyAudit", "lazy_audit"]

Again: TypeAlias = Callable[[float, Candidates], RegionSummary]
"""Summarizes the region of candidates again, with another bound of their score."""


@dataclass(frozen=True)
class LazyAudit:
    """Every output of an audit as a lazy array; see the table of `segmentation.audit`."""

    label_issues: da.Array
    image_score: da.Array
    image_issue_fraction: da.Array
    image_issue_count: da.Array
    confident_threshold: da.Array
    class_count: da.Array
    class_issue_count: da.Array
    issue_matrix: da.Array
    pixel_scores: da.Array | None
    predicted_label: da.Array | None


def lazy_audit(
    summaries: da.Array,
    chunks: tuple[tuple[int, ...], ...],
    params: Parameters,
    again: Again,
) -> LazyAudit:
    """Build the graph on top of the summaries of all regions.

    Parameters
    ----------
    summaries
        Array of `RegionSummary` objects.
    chunks
        Extents of the regions, (N, *spatial).
    params
        Of the audit.
    again
        How to summarize a region again, for the case that needs it.
    """
    graph = LazyGraph(lambda _: summaries, again)
    method = PixelMethod(params)
    selection = select(graph, method)
    statistics = selection.total
    issues = graph.each(method.find, selection.search)
    images = along_images(
        partial(_add_images, params.temperature), map_objects(attrgetter("images"), summaries)
    )
    counts = along_images(add, map_objects(Issues.per_image, issues))
    num_classes = params.num_classes
    count_matrix = partial(Issues.matrix, num_classes=num_classes)
    matrix = total(add, map_objects(count_matrix, issues))
    per_image, per_class = chunks[:1], ((num_classes,),)
    dense = params.probability_dtype, params.class_dtype
    # No output is made of another one: `dask.compute` of a Dataset that holds both a layer of the
    # graph and what depends on it loses the first ("Missing dependency").
    return LazyAudit(
        label_issues=to_blocks(paint, issues, chunks, np.bool_),
        image_score=to_blocks(
            _itself, map_objects(_image_score, images, statistics), per_image, np.float64
        ),
        image_issue_fraction=to_blocks(
            _itself, map_objects(_fraction, counts, images), per_image, np.float64
        ),
        image_issue_count=to_blocks(_itself, counts, per_image, np.int64),
        confident_threshold=to_blocks(
            _itself, selection.thresholds, per_class, np.float64, new_axes=1
        ),
        class_count=to_blocks(
            attrgetter("pixel_count"), statistics, per_class, np.int64, new_axes=1
        ),
        class_issue_count=to_blocks(_issues_of_class, matrix, per_class, np.int64, new_axes=1),
        issue_matrix=to_blocks(_itself, matrix, per_class * 2, np.int64, new_axes=2),
        pixel_scores=(
            to_blocks(attrgetter("dense.scores"), summaries, chunks, dense[0])
            if params.scores
            else None
        ),
        predicted_label=(
            to_blocks(attrgetter("dense.predicted"), summaries, chunks, dense[1])
            if params.predicted
            else None
        ),
    )


def _itself(block: AnyArray) -> AnyArray:
    return block


def _add_images(temperature: float, a: ImageStatistics, b: ImageStatistics) -> ImageStatistics:
    return ImageStatistics(combine_softmin(a.softmin, b.softmin, temperature), a.count + b.count)


def _image_score(images: ImageStatistics, statistics: Statistics) -> Floats:
    """Return the scores of images; the statistics are asked for because they warn."""
    return finalize_softmin(images.softmin)


def _fraction(issue_count: Ints, images: ImageStatistics) -> Floats:
    """Return the fraction of pixels that are issues; NaN where none takes part."""
    with np.errstate(invalid="ignore"):
        fraction: Floats = issue_count / images.count
    return fraction


def _issues_of_class(matrix: Ints) -> Ints:
    counts: Ints = matrix.sum(axis=1)
    return counts
