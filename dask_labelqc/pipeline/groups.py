"""The tasks of the job. Each reads one group's data or record, and returns something small."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add, xor
from typing import Any, Self, TypeAlias

import numpy as np
import zarr

from dask_labelqc.errors import OutputError, advise
from dask_labelqc.graph.blocks import Box, Plan
from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.issues import count_off_diagonal, find_issues, paint
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.summary import (
    Dense,
    ImageStatistics,
    Statistics,
    summarize,
)
from dask_labelqc.pipeline.recorded import candidates_of, statistics_of, to_arrays
from dask_labelqc.pipeline.stamps import stamp
from dask_labelqc.region import Gaps
from dask_labelqc.storage.arrays import BlockReader
from dask_labelqc.storage.fence import FencedStore
from dask_labelqc.storage.objects import tag_of
from dask_labelqc.storage.records import Records
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

__all__ = [
    "GroupIssues",
    "GroupSummary",
    "Job",
    "Numbers",
    "Part",
    "blank_group",
    "blank_groups",
    "count_groups",
    "groups_histogram",
    "mend_groups",
    "paint_groups",
    "stored_statistics",
    "summarize_group",
    "summarize_others",
    "try_part",
]

Numbers: TypeAlias = tuple[int, ...]
"""Numbers of groups that one task goes through."""

CHECKPOINT = "checkpoint"
CHECKSUM = "checksum_"
CLAIM = "claim"
LABELS = "labels_hash"
LEFT_OUT = "left_out"


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
    claims
        Under which the records that count were written; the last is this job's.
    compare_labels
        Records count only if their labels are what is stored now.
    """

    reader: BlockReader
    output: zarr.Group
    arrays: Mapping[str, zarr.Array[Any]]
    params: Parameters
    plan: Plan
    claims: tuple[str, ...] = ()
    compare_labels: bool = False

    @property
    def records(self) -> Records:
        return Records(self.arrays[CHECKPOINT])

    def position(self, number: int) -> Shape:
        """Return where a group is in the grid of groups."""
        return tuple(int(i) for i in np.unravel_index(number, self.plan.grid))

    def box(self, number: int) -> Box:
        """Return the box of a group."""
        return self.plan.group_box(self.position(number))

    def counts(self, arrays: dict[str, AnyArray]) -> bool:
        """Say if a record is of this job, or of one that it goes on from."""
        return str(arrays[CLAIM]) in self.claims

    def stamp(self, name: str, number: int) -> int:
        """Return the stamp of what was just written of a dense output: 0 if nothing is stored."""
        array, key = self._chunk(name, number)
        assert isinstance(array.store, FencedStore)
        tag = array.store.written.pop(f"{array.path}/{key}", None)
        return 0 if tag is None else stamp(name, key, tag)

    def stored_stamp(self, name: str, number: int) -> int:
        """Return the stamp of what is stored of a dense output."""
        array, key = self._chunk(name, number)
        tag = tag_of(array.store, f"{array.path}/{key}")
        return 0 if tag is None else stamp(name, key, tag)

    def _chunk(self, name: str, number: int) -> tuple[zarr.Array[Any], str]:
        """Return a dense output, and the key of the one chunk of a group."""
        array = self.arrays[name]
        position = self.reader.lineup.labels.own(self.position(number))
        return array, array.metadata.encode_chunk_key(position)

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
    number, stamp
        Of the group, and of its dense outputs.
    """

    statistics: Statistics
    num_bytes: int
    read_seconds: float
    number: int
    stamp: int


@dataclass(frozen=True)
class Part:
    """Images of a group.

    Attributes
    ----------
    number
        Of the group.
    images
        The first, and the one after the last.
    """

    number: int
    images: tuple[int, int]

    @property
    def num_images(self) -> int:
        return self.images[1] - self.images[0]

    def halves(self) -> tuple[Part, Part]:
        first, stop = self.images
        middle = (first + stop) // 2
        return Part(self.number, (first, middle)), Part(self.number, (middle, stop))


def try_part(job: Job, part: Part) -> GroupSummary:
    """Read a part of a group as it would be for its summary, of which nothing is kept."""
    region = _of_images(job.box(part.number), *part.images)
    with _TimedReads(job, [region]) as read:
        summary = summarize(region, read.blocks, read, job.params, find_gaps=read.gaps)
    num_bytes = region.size * job.params.pixel_bytes
    return GroupSummary(summary.statistics, num_bytes, read.seconds, part.number, 0)


def summarize_group(
    job: Job, bound: float | None, number: int, left_out: Sequence[int] = ()
) -> GroupSummary:
    """Read a group, write its dense outputs, and put its summary on record.

    The images that are left out are not read, and take part in nothing.
    """
    region = job.box(number)
    boxes = list(_without_images(region, left_out))
    blank = Dense.blank(region.shape, job.params) if left_out else None
    with _TimedReads(job, boxes) as read:
        summary = summarize(region, read.blocks, read, job.params, bound, blank, read.gaps)
    dense = _write_dense(job, region, summary.dense)
    combined = reduce(xor, (job.stamp(name, number) for name in dense), 0)
    about = {CHECKSUM + name: _checksum(values) for name, values in dense.items()}
    about |= {CLAIM: np.array(job.claims[-1]), LABELS: np.array(read.labels, np.uint32)}
    about |= {LEFT_OUT: np.array(left_out)} if left_out else {}
    job.records.write(number, to_arrays(summary) | about)
    num_bytes = sum(box.size for box in boxes) * job.params.pixel_bytes
    return GroupSummary(summary.statistics, num_bytes, read.seconds, number, combined)


def summarize_others(
    job: Job, bound: float | None, left_out: Mapping[int, Sequence[int]], number: int
) -> GroupSummary:
    """Summarize a group without some of its images."""
    return summarize_group(job, bound, number, left_out[number])


def _of_images(box: Box, first: int, stop: int) -> Box:
    return Box((first, *box.start[1:]), (stop, *box.stop[1:]))


def _without_images(box: Box, left_out: Sequence[int]) -> Iterator[Box]:
    """Yield the runs of the other images."""
    first = box.start[0]
    for image in (*left_out, box.stop[0]):
        if first < image:
            yield _of_images(box, first, image)
        first = image + 1


class _TimedReads:
    """Reads the blocks of some boxes, and knows how long that took, and a hash of the labels."""

    def __init__(self, job: Job, boxes: Sequence[Box]) -> None:
        self.seconds = 0.0
        self.labels = 0
        self._job, self._boxes = job, iter(boxes)
        self._opened = ExitStack()
        self._stop = 0
        self.blocks = (block for box in boxes for block in job.plan.blocks(box))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def __call__(self, block: Box) -> tuple[AnyArray, AnyArray]:
        begun = time.monotonic()
        if block.start[0] >= self._stop:  # it is of the next box
            self._opened.close()
            box = next(self._boxes)
            reading = self._job.reader.for_region(box, self._job.plan.blocks(box))
            self._read, self._stop = self._opened.enter_context(reading), box.stop[0]
        result = self._read(block)
        self.seconds += time.monotonic() - begun
        self.labels = zlib.crc32(np.ascontiguousarray(result[0]).data, self.labels)
        return result

    def gaps(self, block: Box) -> Gaps:
        return self._read.gaps(block)


def blank_group(job: Job, number: int) -> None:
    """Take the dense outputs back of a group of which nothing is audited after all."""
    region = job.box(number)
    _write_dense(job, region, Dense.blank(region.shape, job.params))


def _write_dense(job: Job, region: Box, dense: Dense) -> dict[str, AnyArray]:
    outputs = {"pixel_scores": dense.scores, "predicted_label": dense.predicted}
    wanted = {name: values for name, values in outputs.items() if values is not None}
    for name, values in wanted.items():
        job.write(name, region, values)
    return wanted


def _checksum(values: AnyArray) -> AnyArray:
    return np.array(zlib.crc32(np.ascontiguousarray(values).data), np.uint32)


def stored_statistics(
    job: Job, whole: bool, numbers: Numbers
) -> tuple[dict[int, int], Statistics | None]:
    """Return which groups are done, with their stamps, and the sum of their statistics.

    Done is a group that has a whole record, of this job or of those that it goes on from, and dense
    outputs that are what was written; `whole` are only those of which no image was left out.
    """
    stamps: dict[int, int] = {}
    total: Statistics | None = None
    with job.records.reading(numbers) as records:
        for number, arrays in records:
            if arrays is None or not job.counts(arrays) or (whole and LEFT_OUT in arrays):
                continue
            if not _has_labels(job, number, arrays):
                continue
            # Before they are looked at: what is changed meanwhile is found at the end.
            stored = reduce(xor, (job.stored_stamp(name, number) for name in _dense(arrays)), 0)
            if _has_dense_outputs(job, number, arrays):
                stamps[number] = stored
                found = statistics_of(arrays)
                total = found if total is None else total + found
    return stamps, total


def _dense(arrays: dict[str, AnyArray]) -> list[str]:
    """Return the names of the dense outputs that were written with a record."""
    return [name.removeprefix(CHECKSUM) for name in arrays if name.startswith(CHECKSUM)]


def _has_labels(job: Job, number: int, arrays: dict[str, AnyArray]) -> bool:
    if not job.compare_labels or LEFT_OUT in arrays:
        return True
    region = job.box(number)
    labels, found = job.reader.read_labels(region), 0
    for block in job.plan.blocks(region):
        part = np.ascontiguousarray(labels[block.within(region).slices])
        found = zlib.crc32(part.data, found)
    return found == arrays[LABELS]


def _has_dense_outputs(job: Job, number: int, arrays: dict[str, AnyArray]) -> bool:
    for name in _dense(arrays):
        stored = _stored(job, name, number)
        if stored is None or _checksum(stored) != arrays[CHECKSUM + name]:
            return False
    return True


def _stored(job: Job, name: str, number: int) -> AnyArray | None:
    """Return what is stored of a dense output, None if it cannot be decoded."""
    try:
        return job.read(name, job.box(number))
    except Exception:  # whatever a codec raises over a chunk that was cut short
        return None


def count_groups(job: Job, thresholds: Floats, numbers: Numbers) -> int:
    """Count the groups' off-diagonal candidates."""
    return sum(
        count_off_diagonal(candidates_of(job.box(number), arrays, job.params), thresholds)
        for number, arrays in _recorded(job, numbers)
    )


def groups_histogram(job: Job, prefix: tuple[int, ...], numbers: Numbers) -> Histogram:
    """Count the next digit of the groups' keys."""
    keys = (
        candidates_of(job.box(number), arrays, job.params).keys(job.params)
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
    stamp
        Of its part of the mask.
    """

    images: ImageStatistics
    issue_count: Ints
    stamp: int


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
    issues = find_issues(candidates_of(job.box(number), arrays, job.params), search, job.params)
    job.write("label_issues", issues.box, paint(issues))
    images = ImageStatistics(arrays["softmin"], arrays["count"])
    written = job.stamp("label_issues", number)
    return GroupIssues(images, issues.per_image(), written), issues.matrix(job.params.num_classes)


def mend_groups(job: Job, search: Search, numbers: Numbers) -> tuple[Numbers, Numbers]:
    """Look at all that is stored of groups, and write the mask again where it differs.

    Returns the groups whose masks were written again, and those whose other dense outputs are not
    what was written.
    """
    painted, spoiled = [], []
    for number, arrays in _recorded(job, numbers):
        issues = find_issues(candidates_of(job.box(number), arrays, job.params), search, job.params)
        if _write_if_different(job, "label_issues", number, paint(issues)):
            painted.append(number)
        if not _has_dense_outputs(job, number, arrays):
            spoiled.append(number)
    return tuple(painted), tuple(spoiled)


def blank_groups(job: Job, numbers: Numbers) -> Numbers:
    """See to it that nothing is stored of groups that were left out; return where there was."""
    return tuple(
        number
        for number in numbers
        for name in {*job.arrays} - {CHECKPOINT}
        if _write_if_different(
            job, name, number, np.full(job.box(number).shape, job.arrays[name].fill_value)
        )
    )


def _write_if_different(job: Job, name: str, number: int, values: AnyArray) -> bool:
    """Write a group's part of a dense output if something else is stored; say if it was."""
    array, stored = job.arrays[name], _stored(job, name, number)
    same = stored is not None and np.array_equal(stored, values, equal_nan=values.dtype.kind == "f")
    # An object that holds nothing but the fill value should not be there.
    empty = np.all(values == array.fill_value) and job.stored_stamp(name, number) != 0
    if not same or empty:
        job.write(name, job.box(number), values)
        job.stamp(name, number)
    return not same or bool(empty)


def _recorded(job: Job, numbers: Numbers) -> Iterator[tuple[int, dict[str, AnyArray]]]:
    with job.records.reading(numbers) as records:
        for number, arrays in records:
            if arrays is None or not job.counts(arrays):
                raise OutputError(
                    f"output: the record of group {number} in {job.output.store_path} is gone or "
                    "damaged since it was written",
                    advise("{resume} goes on from here", resume=True),
                )
            yield number, arrays
