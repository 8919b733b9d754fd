"""Records of an inspector as the regions of a job: a part is some records, read together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar

import numpy as np
from zarr.abc.store import Store

from dask_labelqc.engine.regions import Eager
from dask_labelqc.errors import InputError
from dask_labelqc.images import Span
from dask_labelqc.inspectors.catalog import Catalog, Order
from dask_labelqc.inspectors.facts import ImageFacts, read_entry
from dask_labelqc.method.gaps import Missing
from dask_labelqc.method.issues import find_issues
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.method.statistics import NO_SUM, WorstSum
from dask_labelqc.method.summarize import Candidates, Statistics
from dask_labelqc.pipeline.lease import CHECKPOINT
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.storage.ledger import Ledger
from dask_labelqc.storage.objects import read_ranges, write_object
from dask_labelqc.storage.packing import Record, pack, to_bytes, unpack
from dask_labelqc.storage.records import Records
from dask_labelqc.typing import AnyArray, Ints

__all__ = [
    "PART_BYTES",
    "PartFound",
    "PartReader",
    "RecordParts",
    "SortedIssues",
    "cut_into_parts",
    "put_down_parts",
]

R = TypeVar("R")

PART_BYTES = 32 * 2**20
"""Of records that one task reads."""
ISSUES = f"{CHECKPOINT}/issues"
ENTRY = np.dtype("<u8")
"""Of the index of an object of issues."""


def cut_into_parts(catalog: Order, part_bytes: int = PART_BYTES) -> list[range]:
    """Return which records are read together: runs of them of about so many bytes.

    Examples
    --------
    >>> sizes = Order([], np.zeros((0, 2)), "abc", [3, 2, 9], [], [], "", 0)
    >>> cut_into_parts(sizes, 5)
    [range(0, 2), range(2, 3)]
    """
    parts, first, total = [], 0, 0
    for i, size in enumerate(catalog.num_bytes):
        if i > first and total + size > part_bytes:
            parts.append(range(first, i))
            first, total = i, 0
        total += size
    return [*parts, range(first, len(catalog.num_bytes))]


def put_down_parts(lists: Records, catalog: Catalog, parts: Sequence[range], offsets: Ints) -> None:
    """Write down for each part its records, and which images they are of.

    Tasks could not carry it: of a million images it is 20 MB.
    """
    for p, part in enumerate(parts):
        names = "\n".join(catalog.names[e] for e in part).encode()
        numbers = np.concatenate([catalog.numbers[e] for e in part])
        lists.write(
            p,
            {
                "names": np.frombuffer(names, np.uint8),
                "numbers": numbers,
                "counts": np.concatenate([catalog.counts[e] for e in part]),
                "offsets": offsets[numbers],
            },
        )


@dataclass(frozen=True)
class PartFound:
    """What a stage finds in a part.

    Attributes
    ----------
    numbers, images
        Which images count, and parts of the outputs of each.
    statistics
        Of these images, where they are added up.
    """

    numbers: Ints
    images: Mapping[str, AnyArray]
    statistics: Statistics | None = None


@dataclass(frozen=True)
class PartReader:
    """Reads the records of a part, in a task.

    Attributes
    ----------
    ledger
        Where they are.
    params
        Of the audit.
    """

    ledger: Ledger
    params: Parameters

    def summarize(self, lists: Records, part: int) -> PartFound:
        """Add up what is known of the images of a part."""
        read = self._read(lists, part)
        facts, params = read.facts, self.params
        candidates = self._candidates(read)
        sums, counts = _class_sums(facts, params.num_classes)
        statistics = Statistics(
            sums,
            counts,
            read.worst(),
            {"pixel_count": counts},
            candidates.keys(params).histogram(()),
            int(facts.images["below"].sum(dtype=np.int64)),
            float(facts.images["highest"].max(initial=0.0)),
            Missing(),
        )
        images = {
            "softmin": facts.images["softmin"],
            "count": facts.images["image_count"].astype(np.int64),
        }
        return PartFound(read.numbers, images, statistics)

    def reduce(self, function: Callable[..., R], lists: Records, *values: Any) -> R:
        """Return ``function(candidates, *values)`` of a part, which is the last value."""
        *others, part = values
        return function(self._candidates(self._read(lists, part)), *others)

    def sort_issues(self, lists: Records, search: Search, edges: Ints, part: int) -> PartFound:
        """Put down the issues of a part, group by group, and count those of its images.

        The object begins with an index: where what is of each group begins, and the end.
        """
        read = self._read(lists, part)
        issues = find_issues(self._candidates(read), search, self.params)
        order = np.argsort(issues.position, kind="stable")
        columns = issues.position, issues.given, issues.predicted
        position, given, predicted = (values[order] for values in columns)
        cuts = np.searchsorted(position, edges).tolist()
        groups = [
            _packed_issues(position[a:b] - edge, given[a:b], predicted[a:b])
            for edge, a, b in zip(edges, cuts, cuts[1:], strict=False)
        ]
        ends = np.cumsum([ENTRY.itemsize * edges.size, *map(len, groups)], dtype=ENTRY)
        # One byte more: no range is ever the whole object, which servers answer in other ways.
        data = b"".join([ends.tobytes(), *groups, b"\0"])
        write_object(lists.array.store, _issues_key(part), data)
        return PartFound(read.numbers, {"issue_count": read.count(position)})

    def _read(self, lists: Records, part: int) -> _Read:
        assigned = lists.read(part)
        if assigned is None:
            raise InputError(f"output: what part {part} of the records is was deleted meanwhile")
        names = assigned["names"].tobytes().decode().split("\n")
        facts = [read_entry(self.ledger.read(name)) for name in names]
        return _Read.of(facts, assigned)

    def _candidates(self, read: _Read) -> Candidates:
        """Return the candidates of a part; positions are those on the flat axis of all images."""
        lists, images = read.facts.lists, read.facts.images
        nothing = np.zeros(0, np.int64)
        starts = np.repeat(read.offsets, images["num_disagreeing"])
        axis = Span.of(0, np.array([[math.prod(self.params.shape)]]), 0)
        columns = {name: lists[name] for name in ("score", "confidence", "given", "predicted")}
        return Candidates(
            extent=axis,
            position=starts + lists["position"],
            **columns,
            agreeing=lists["agreeing"],
            pixel_cell=nothing,
            pixel_position=nothing,
            pixel_given=nothing,
            pixel_predicted=nothing,
        )


@dataclass(frozen=True)
class _Read:
    """What was read of a part: of the images that count, and the worst sums of all."""

    facts: ImageFacts
    numbers: Ints
    offsets: Ints
    sums: Sequence[WorstSum]

    @classmethod
    def of(cls, facts: Sequence[ImageFacts], assigned: Mapping[str, AnyArray]) -> _Read:
        joined, counts = ImageFacts.joined(facts), assigned["counts"]
        numbers = assigned["numbers"]
        sums = []
        for worst in joined.worst:
            if numbers[worst.image] >= 0:
                shape = tuple(joined.images["shape"][worst.image].tolist())
                pixel = (int(i) for i in np.unravel_index(worst.position, shape))
                named: Any = repr(joined.ids[worst.image])  # for the message
                place = (named, *pixel)
                sums.append(WorstSum(worst.deviation, place, worst.total))
        only = joined if counts.all() else joined.only(counts)
        return cls(only, numbers[counts], assigned["offsets"][counts], sums)

    def count(self, position: Ints) -> Ints:
        """Count ascending positions on the flat axis in each image."""
        sizes = self.facts.images["shape"].prod(axis=1, dtype=np.int64)
        first = np.searchsorted(position, self.offsets)
        counts: Ints = np.searchsorted(position, self.offsets + sizes) - first
        return counts

    def worst(self) -> WorstSum:
        return min([NO_SUM, *self.sums], key=lambda w: (-w.deviation, w.place))


def _class_sums(facts: ImageFacts, num_classes: int) -> tuple[AnyArray, Ints]:
    """Add up the classes of all images; 63 bits hold the sums of one image, not those of all."""
    classes, sums = facts.lists["classes"], facts.lists["class_sum"]
    halves = np.zeros((2, num_classes), np.int64)
    np.add.at(halves[0], classes, sums >> 32)
    np.add.at(halves[1], classes, sums & (2**32 - 1))
    counts = np.zeros(num_classes, np.int64)
    np.add.at(counts, classes, facts.lists["class_count"].astype(np.int64))
    return halves[0].astype(object) * 2**32 + halves[1].astype(object), counts


class RecordParts(Eager):
    """The parts as regions; see `engine.regions.Regions`.

    Parameters
    ----------
    stages
        Of the job.
    reader
        Of the parts.
    num_parts
        How many there are.
    kept
        Up to which score pixels that agree are on record.
    see
        Is told what is found in each part.
    """

    def __init__(
        self,
        stages: JobStages,
        reader: PartReader,
        num_parts: int,
        kept: float,
        see: Callable[[PartFound], None],
    ) -> None:
        self._stages, self._reader, self._num_parts = stages, reader, num_parts
        self._kept, self._see = kept, see

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> Any:
        total: list[Statistics] = []
        for found in self._stages.of_lists("summarize", self._reader.summarize, self._num_parts):
            self._see(found)
            assert found.statistics is not None
            total = [reduce(add, total, found.statistics)]
        return total[0] if then is None else then(total[0])

    def scan_again(self, how: float | None, known: Any) -> Any:
        if how is None or how <= self._kept:
            return known
        params = self._reader.params
        raise InputError(
            "pred_probs: the probabilities sum to more than 1 and the cut falls above a score of "
            f"{params.bound:.3g}, up to which pixels that agree are on record; predict the images "
            "again into a new output, with inspectors that are made with bound=1"
        )

    def reduce(self, stage: str, function: Callable[..., R], *values: Any) -> R:
        task = partial(self._reader.reduce, function)
        return reduce(add, self._stages.of_lists(stage, task, self._num_parts, *values))

    def sort_issues(self, search: Search, edges: Ints) -> SortedIssues:
        """Put down the issues of all parts, by groups that begin at edges of the flat axis."""
        task, store = self._reader.sort_issues, self._stages.lists.array.store
        for found in self._stages.of_lists("sort", task, self._num_parts, search, edges):
            self._see(found)
        return SortedIssues(store, self._num_parts)


@dataclass(frozen=True)
class SortedIssues:
    """The issues of all parts, in objects of the output; of each part those of a group together."""

    store: Store
    num_parts: int

    def of_group(self, group: int) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield the issues of a group, part by part: positions in it, given and predicted class."""
        entry = ENTRY.itemsize
        keys = [_issues_key(part) for part in range(self.num_parts)]
        wanted = [(key, group * entry, (group + 2) * entry) for key in keys]
        ranges = []
        for key, found in zip(keys, read_ranges(self.store, wanted), strict=True):
            start, stop = np.frombuffer(_there(found, key), ENTRY).tolist()
            if start < stop:
                ranges.append((key, start, stop))
        for (key, *_), found in zip(ranges, read_ranges(self.store, ranges), strict=True):
            yield _unpacked_issues(_there(found, key))


def _there(found: bytes | None, key: str) -> bytes:
    if found is None:
        raise InputError(f"output: {key} was deleted while it was needed")
    return found


def _issues_key(part: int) -> str:
    return f"{ISSUES}/{part:06}"


def _packed_issues(position: Ints, given: Ints, predicted: Ints) -> bytes:
    if not position.size:
        return b""
    return to_bytes(
        {
            "position": pack(position.astype(np.uint64), True),
            "given": pack(given),
            "predicted": pack(predicted),
            "dtype": np.zeros(0, given.dtype),
        }
    )


def _unpacked_issues(data: bytes) -> tuple[Ints, Ints, Ints]:
    arrays = Record(data)
    label = arrays["dtype"].dtype
    position = unpack(arrays["position"], np.dtype(np.uint64), True).astype(np.int64)
    return position, unpack(arrays["given"], label), unpack(arrays["predicted"], label)
