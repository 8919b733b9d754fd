"""The tasks of the job. Each reads one group's data or record, and returns something small."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, TypeAlias

import numpy as np
import zarr

from dask_labelqc.errors import OutputError
from dask_labelqc.graph.blocks import Box, Plan
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.issues import count_off_diagonal, find_issues, paint
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.summary import (
    Candidates,
    ImageStatistics,
    RegionSummary,
    Statistics,
    summarize,
)
from dask_labelqc.storage.arrays import BlockReader
from dask_labelqc.storage.records import Records
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

__all__ = [
    "GroupIssues",
    "GroupSummary",
    "Job",
    "Numbers",
    "count_groups",
    "groups_histogram",
    "paint_groups",
    "stored_statistics",
    "summarize_group",
]

Numbers: TypeAlias = tuple[int, ...]
"""Numbers of groups that one task goes through."""

CHECKPOINT = "checkpoint"
LISTS = "candidate_"
CHECKSUM = "checksum_"


@dataclass(frozen=True)
class Job:
    """What every task of a job needs; it travels with each of them.

    Attributes
    ----------
    reader, output
        Where to read and write.
    arrays
        Those of the output that the tasks write, opened: it takes a request each to open them.
    params, plan
        What to compute, in which groups.
    """

    reader: BlockReader
    output: zarr.Group
    arrays: Mapping[str, zarr.Array[Any]]
    params: Parameters
    plan: Plan

    @property
    def records(self) -> Records:
        return Records(self.arrays[CHECKPOINT])

    def box(self, number: int) -> Box:
        """Return the box of a group."""
        return self.plan.group_box([int(i) for i in np.unravel_index(number, self.plan.grid)])

    def write(self, name: str, box: Box, values: AnyArray) -> None:
        """Write the values of a box to an output that has the labels' own dimensions."""
        layout = self.reader.lineup.labels
        self.arrays[name][layout.own(box.slices)] = layout.outwards(values)

    def read(self, name: str, box: Box) -> AnyArray:
        """Read back what `write` has written."""
        values: AnyArray = self.reader.lineup.labels.read(self.arrays[name], box)
        return values

    def groups_beside(self, number: int) -> range:
        """Return the groups that hold parts of the same images, this one among them."""
        beside = math.prod(self.plan.grid[1:])
        first = number - number % beside
        return range(first, first + beside)


@dataclass(frozen=True)
class GroupSummary:
    """What the first stage returns of a group.

    Attributes
    ----------
    statistics
        To be added up.
    num_bytes
        Of predictions that were read, decoded.
    read_seconds
        For which it waited for labels and predictions.
    """

    statistics: Statistics
    num_bytes: int
    read_seconds: float


def summarize_group(job: Job, bound: float | None, number: int) -> GroupSummary:
    """Read a group, write its dense outputs, and put its summary on record."""
    region = job.box(number)
    read = _Timed()
    with read.opening(job.reader, region, job.plan):
        summary = summarize(region, job.plan.blocks(region), read, job.params, bound)
    dense = _dense_outputs(summary)
    for name, values in dense.items():
        job.write(name, region, values)
    checksums = {CHECKSUM + name: _checksum(values) for name, values in dense.items()}
    job.records.write(number, _to_arrays(summary) | checksums)
    return GroupSummary(summary.statistics, region.size * job.params.pixel_bytes, read.seconds)


class _Timed:
    """Reads the blocks of a region, and knows how long that took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def opening(self, reader: BlockReader, region: Box, plan: Plan) -> Iterator[None]:
        begun = time.monotonic()
        with reader.for_region(region, plan.blocks(region)) as self._read:
            self.seconds += time.monotonic() - begun
            yield

    def __call__(self, block: Box) -> tuple[AnyArray, AnyArray]:
        begun = time.monotonic()
        result = self._read(block)
        self.seconds += time.monotonic() - begun
        return result


def _dense_outputs(summary: RegionSummary) -> dict[str, AnyArray]:
    dense = {"pixel_scores": summary.dense.scores, "predicted_label": summary.dense.predicted}
    return {name: values for name, values in dense.items() if values is not None}


def _checksum(values: AnyArray) -> AnyArray:
    return np.array(zlib.crc32(np.ascontiguousarray(values).data), np.uint32)


def stored_statistics(job: Job, numbers: Numbers) -> tuple[Numbers, Statistics | None]:
    """Return which groups are done, and the sum of their statistics.

    Done is a group that has a whole record, and dense outputs that are what was written.
    """
    with job.records.reading(numbers) as records:
        found = {
            number: _statistics(arrays)
            for number, arrays in records
            if arrays is not None and _has_dense_outputs(job, number, arrays)
        }
    return tuple(found), reduce(add, found.values()) if found else None


def _has_dense_outputs(job: Job, number: int, arrays: dict[str, AnyArray]) -> bool:
    for name, checksum in arrays.items():
        if name.startswith(CHECKSUM):
            try:
                stored = job.read(name.removeprefix(CHECKSUM), job.box(number))
            except Exception:  # whatever a codec raises over a chunk that was cut short
                return False
            if _checksum(stored) != checksum:
                return False
    return True


def count_groups(job: Job, thresholds: Floats, numbers: Numbers) -> int:
    """Count the groups' off-diagonal candidates."""
    return sum(
        count_off_diagonal(_as_candidates(job, arrays, number), thresholds)
        for number, arrays in _recorded(job, numbers)
    )


def groups_histogram(job: Job, prefix: tuple[int, ...], numbers: Numbers) -> Histogram:
    """Count the next digit of the groups' keys."""
    keys = (
        _as_candidates(job, arrays, number).keys(job.params)
        for number, arrays in _recorded(job, numbers)
    )
    return reduce(add, (key.histogram(prefix) for key in keys))


@dataclass(frozen=True)
class GroupIssues:
    """What the last stage returns of a group.

    Attributes
    ----------
    images, issue_count
        Of its images, as far as they lie in the group.
    """

    images: ImageStatistics
    issue_count: Ints


def paint_groups(job: Job, search: Search, numbers: Numbers) -> tuple[dict[int, GroupIssues], Ints]:
    """Write the groups' parts of the mask, and count their issues.

    Also returns how many issues of all groups there are of each pair of given and predicted class,
    int64 (K, K).
    """
    painted = {
        number: _paint(job, search, number, arrays) for number, arrays in _recorded(job, numbers)
    }
    matrix = reduce(add, (matrix for _, matrix in painted.values()))
    return {number: issues for number, (issues, _) in painted.items()}, matrix


def _paint(
    job: Job, search: Search, number: int, arrays: dict[str, AnyArray]
) -> tuple[GroupIssues, Ints]:
    issues = find_issues(_as_candidates(job, arrays, number), search, job.params)
    job.write("label_issues", issues.box, paint(issues))
    images = ImageStatistics(arrays["softmin"], arrays["count"])
    return GroupIssues(images, issues.per_image()), issues.matrix(job.params.num_classes)


def _recorded(job: Job, numbers: Numbers) -> Iterator[tuple[int, dict[str, AnyArray]]]:
    with job.records.reading(numbers) as records:
        for number, arrays in records:
            if arrays is None:
                raise OutputError(
                    f"output: the record of group {number} in {job.output.store_path} is gone or "
                    "damaged since it was written; run the same command again with resume"
                )
            yield number, arrays


def _as_candidates(job: Job, arrays: dict[str, AnyArray], number: int) -> Candidates:
    lists = {n.removeprefix(LISTS): a for n, a in arrays.items() if n.startswith(LISTS)}
    return Candidates(box=job.box(number).coarsened(job.params.factors), **lists)


def _to_arrays(summary: RegionSummary) -> dict[str, AnyArray]:
    statistics = summary.statistics
    deviation, image, pixel, total = statistics.worst_sum
    return {
        "class_sum": statistics.class_sum.astype(np.int64),
        "class_count": statistics.class_count,
        "pixel_count": statistics.pixel_count,
        "digits": statistics.histogram.digits,
        "digit_counts": statistics.histogram.counts,
        "below_bound": np.array(statistics.below_bound),
        "highest_disagreeing": np.array(statistics.highest_disagreeing),
        "worst_sum": np.array([deviation, total]),
        "worst_place": np.array([image, *pixel]),
        "softmin": summary.images.softmin,
        "count": summary.images.count,
    } | {LISTS + name: array for name, array in summary.candidates.arrays().items()}


def _statistics(arrays: dict[str, AnyArray]) -> Statistics:
    deviation, total = (float(v) for v in arrays["worst_sum"])
    place: Shape = tuple(int(v) for v in arrays["worst_place"])
    return Statistics(
        class_sum=arrays["class_sum"].astype(object),
        class_count=arrays["class_count"],
        pixel_count=arrays["pixel_count"],
        histogram=Histogram(arrays["digits"], arrays["digit_counts"]),
        below_bound=int(arrays["below_bound"]),
        highest_disagreeing=float(arrays["highest_disagreeing"]),
        worst_sum=(deviation, place[0], place[1:], total),
    )
