"""The tasks of the job. Each reads one group's data or record, and returns something small."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, xor
from typing import Any, TypeAlias

import numpy as np
import zarr

from dask_labelqc.errors import LabelQCError, OutputError, advise
from dask_labelqc.pipeline.inputs import Found, Inputs, Part
from dask_labelqc.pipeline.stamps import stamp
from dask_labelqc.storage.fence import FencedStore
from dask_labelqc.storage.objects import tag_of
from dask_labelqc.storage.records import Records
from dask_labelqc.typing import AnyArray

__all__ = [
    "GroupSummary",
    "Job",
    "Numbers",
    "PaintedGroups",
    "blank_groups",
    "damaged_record",
    "mend_groups",
    "paint_groups",
    "reduce_groups",
    "sift_part",
    "stored_totals",
    "summarize_group",
    "summarize_others",
    "try_part",
]

Numbers: TypeAlias = tuple[int, ...]
"""Numbers of groups that one task goes through."""

CHECKSUM = "checksum_"
CLAIM = "claim"
HOW = "how"
LABELS = "labels_hash"
LEFT_OUT = "left_out"


@dataclass(frozen=True)
class Job:
    """What every task of a job needs; it travels with each of them.

    Attributes
    ----------
    inputs
        What to read, and what to compute.
    output
        The group.
    arrays
        Those of the output that the tasks write, opened: it takes a request each to open them.
    records, lists
        What is on record of the groups, and beside that.
    claims
        Under which the records that count were written; the last is this job's.
    compare_labels
        Records count only if their labels are what is stored now.
    how
        A hash of how the groups are scanned: records of another scan do not count.
    """

    inputs: Inputs
    output: zarr.Group
    arrays: Mapping[str, zarr.Array[Any]]
    records: Records
    lists: Records | None = None
    claims: tuple[str, ...] = ()
    compare_labels: bool = False
    how: int = 0

    def counts(self, record: Mapping[str, AnyArray]) -> bool:
        """Say if a record is of this scan of this job, or of one that it goes on from."""
        return str(record[CLAIM]) in self.claims and bool(record.get(HOW) == self.how)

    def part(self, number: int) -> Part:
        """Return all items of a group."""
        return Part(number, self.inputs.items(number))

    def stored_stamp(self, name: str, number: int) -> int:
        """Return the stamp of what is stored of an output: 0 if nothing is."""
        array, key = self.arrays[name], self._key(name, number)
        tag = tag_of(array.store, f"{array.path}/{key}")
        return 0 if tag is None else stamp(name, key, tag)

    def _key(self, name: str, number: int) -> str:
        return self.arrays[name].metadata.encode_chunk_key(self.inputs.position(number))

    def chunk(self, name: str, number: int) -> tuple[slice, ...]:
        """Return the one chunk of an output that is a group's; it may be empty."""
        array = self.arrays[name]
        sides = zip(self.inputs.position(number), array.chunks, array.shape, strict=True)
        return tuple(slice(min(i * size, n), min((i + 1) * size, n)) for i, size, n in sides)

    def blank(self, name: str, number: int) -> AnyArray:
        """Return what an output is where nothing was audited."""
        array = self.arrays[name]
        shape = [part.stop - part.start for part in self.chunk(name, number)]
        return np.full(shape, array.fill_value, array.dtype)

    def write(self, name: str, number: int, values: AnyArray) -> int:
        """Write an output of a group; return the stamp of what is stored then."""
        array, key = self.arrays[name], self._key(name, number)
        store, path = array.store, f"{array.path}/{key}"
        assert isinstance(store, FencedStore)
        if store.has_files and _is_not_stored(array, values):
            store.remove_file(path)  # as Zarr would do it, ten times as fast
        elif values.size:
            array[self.chunk(name, number)] = values
        tag = store.written.pop(path, None)
        return 0 if tag is None else stamp(name, key, tag)

    def read(self, name: str, number: int) -> AnyArray | None:
        """Read back what `write` has written, None if it cannot be decoded."""
        try:
            return np.asarray(self.arrays[name][self.chunk(name, number)])
        except Exception:  # whatever a codec raises over a chunk that was cut short
            return None


def _is_not_stored(array: zarr.Array[Any], values: AnyArray) -> bool:
    """Say if Zarr stores no chunk of these values: a mask without an issue."""
    falses = values.dtype == np.bool_ and not array.fill_value and not values.any()
    return bool(falses) and not array.config.write_empty_chunks


@dataclass(frozen=True)
class GroupSummary:
    """What the first stage returns of a group.

    Attributes
    ----------
    total
        To be added up.
    num_bytes
        Of predictions that were read, decoded.
    read_seconds
        For which it waited for data.
    number, stamp
        Of the group, and of its dense outputs.
    """

    total: Any
    num_bytes: int
    read_seconds: float
    number: int
    stamp: int

    @classmethod
    def of(cls, found: Found, number: int, stamp: int = 0) -> GroupSummary:
        return cls(found.total, found.num_bytes, found.read_seconds, number, stamp)


def try_part(job: Job, how: Any, part: Part) -> GroupSummary:
    """Read a part of a group as it would be for its summary, of which nothing is kept."""
    return GroupSummary.of(job.inputs.scan(how, part), part.number)


def sift_part(job: Job, how: Any, part: Part) -> Mapping[int, LabelQCError]:
    """Return what cannot be audited of items that are read together."""
    return job.inputs.bad_items(how, part)


def summarize_group(job: Job, how: Any, number: int, left_out: Sequence[int] = ()) -> GroupSummary:
    """Read a group, write its dense outputs, and put its summary on record.

    The items that are left out are not read, and take part in nothing.
    """
    found = job.inputs.scan(how, job.part(number), left_out)
    stamps = [job.write(name, number, values) for name, values in found.dense.items()]
    for place, lists in job.inputs.to_lists(number, found.kept).items():
        assert job.lists is not None
        job.lists.write(place, lists)
    about = {CHECKSUM + name: _checksum(values) for name, values in found.dense.items()}
    about |= {CLAIM: np.array(job.claims[-1]), LABELS: np.array(found.labels, np.uint32)}
    about |= {HOW: np.array(job.how, np.uint64)}
    about |= {LEFT_OUT: np.array(left_out)} if left_out else {}
    job.records.write(number, {**job.inputs.to_record(found.kept), **about})
    return GroupSummary.of(found, number, reduce(xor, stamps, 0))


def summarize_others(
    job: Job, how: Any, left_out: Mapping[int, Sequence[int]], number: int
) -> GroupSummary:
    """Summarize a group without some of its items."""
    return summarize_group(job, how, number, left_out[number])


def _checksum(values: AnyArray) -> AnyArray:
    return np.array(zlib.crc32(np.ascontiguousarray(values).data), np.uint32)


def stored_totals(job: Job, whole: bool, numbers: Numbers) -> tuple[dict[int, int], list[Any]]:
    """Return which groups are done, with their stamps, and the sum of their totals, if any is.

    Done is a group that has a whole record, of this job or of those that it goes on from, and dense
    outputs that are what was written; `whole` are only those of which nothing was left out.
    """
    stamps: dict[int, int] = {}
    total: list[Any] = []
    with job.records.reading(numbers) as records:
        for number, record in records:
            if record is None or not job.counts(record) or (whole and LEFT_OUT in record):
                continue
            if not _has_labels(job, number, record):
                continue
            # Before they are looked at: what is changed meanwhile is found at the end.
            stored = reduce(xor, (job.stored_stamp(name, number) for name in _dense(record)), 0)
            if _has_dense_outputs(job, number, record):
                stamps[number] = stored
                total = [reduce(add, total, job.inputs.total(record))]
    return stamps, total


def _dense(record: Mapping[str, AnyArray]) -> list[str]:
    """Return the names of the dense outputs that were written with a record."""
    return [name.removeprefix(CHECKSUM) for name in record if name.startswith(CHECKSUM)]


def _has_labels(job: Job, number: int, record: Mapping[str, AnyArray]) -> bool:
    if not job.compare_labels or LEFT_OUT in record:
        return True
    return job.inputs.labels_hash(number) == int(record[LABELS])


def _has_dense_outputs(job: Job, number: int, record: Mapping[str, AnyArray]) -> bool:
    for name in _dense(record):
        stored = job.read(name, number)
        if stored is None or _checksum(stored) != record[CHECKSUM + name]:
            return False
    return True


def reduce_groups(
    job: Job, function: Callable[..., Any], values: Sequence[Any], numbers: Numbers
) -> Any:
    """Add up a function of what was kept of groups."""
    found = (
        function(job.inputs.kept(number, record), *values)
        for number, record in _recorded(job, numbers)
    )
    return reduce(add, found)


@dataclass(frozen=True)
class PaintedGroups:
    """What the last stage returns of groups.

    Attributes
    ----------
    parts
        What it has to tell of each, by number.
    stamps
        Of what was written of each.
    total
        To be added up.
    num_bytes
        Of predictions that were read.
    """

    parts: Mapping[int, Any]
    stamps: Mapping[int, int]
    total: Any
    num_bytes: int


def paint_groups(job: Job, how: Any, numbers: Numbers) -> PaintedGroups:
    """Write the groups' outputs of the last stage."""
    parts, stamps, num_bytes = {}, {}, 0
    totals: list[Any] = []
    for number, records in _needed(job, how, numbers):
        painted = job.inputs.paint_from(how, number, records)
        written = [job.write(name, number, values) for name, values in painted.dense.items()]
        parts[number], stamps[number] = painted.part, reduce(xor, written, 0)
        totals = [reduce(add, totals, painted.total)]
        num_bytes += painted.num_bytes
    return PaintedGroups(parts, stamps, totals[0], num_bytes)


def mend_groups(job: Job, how: Any, numbers: Numbers) -> tuple[Numbers, Numbers]:
    """Look at all that is stored of groups, and write what the last stage wrote where it differs.

    Returns the groups of which something was written again, and those whose other dense outputs
    are not what was written.
    """
    painted, spoiled = [], []
    for number, records in _needed(job, how, numbers):
        wanted = job.inputs.paint_from(how, number, records).dense
        if any([_write_if_different(job, name, number, wanted[name]) for name in wanted]):
            painted.append(number)
        if not _has_dense_outputs(job, number, records.get(number, {})):
            spoiled.append(number)
    return tuple(painted), tuple(spoiled)


def blank_groups(job: Job, numbers: Numbers) -> Numbers:
    """See to it that nothing is stored of groups that were left out; return where there was."""
    return tuple(
        number
        for number in numbers
        for name in job.arrays
        if _write_if_different(job, name, number, job.blank(name, number))
    )


def _write_if_different(job: Job, name: str, number: int, values: AnyArray) -> bool:
    """Write a group's part of a dense output if something else is stored; say if it was."""
    array, stored = job.arrays[name], job.read(name, number)
    same = stored is not None and np.array_equal(stored, values, equal_nan=values.dtype.kind == "f")
    # An object that holds nothing but the fill value should not be there.
    empty = np.all(values == array.fill_value) and job.stored_stamp(name, number) != 0
    if not same or empty:
        job.write(name, number, values)
    return not same or bool(empty)


def damaged_record(number: int, place: zarr.Group | zarr.Array[Any]) -> OutputError:
    """Return the error of who needs a record that is not there, or not whole."""
    return OutputError(
        f"output: the record of group {number} in {place.store_path} is gone or damaged since it "
        "was written",
        advise("{resume} goes on from here", resume=True),
    )


def _needed(
    job: Job, how: Any, numbers: Numbers
) -> Iterator[tuple[int, dict[int, Mapping[str, AnyArray]]]]:
    """Yield groups, and the records that each is painted from; each record is read once."""
    needed = {number: job.inputs.needed(how, number) for number in numbers}
    wanted = tuple(sorted({n for some in needed.values() for n in some}))
    recorded = _recorded(job, wanted)
    held: dict[int, Mapping[str, AnyArray]] = {}
    for number in numbers:
        while not held.keys() >= set(needed[number]):
            held.update([next(recorded)])
        yield number, {n: held[n] for n in needed[number]}
        held = {n: record for n, record in held.items() if n >= min(needed[number], default=number)}


def _recorded(job: Job, numbers: Numbers) -> Iterator[tuple[int, Mapping[str, AnyArray]]]:
    with job.records.reading(numbers) as records:
        for number, record in records:
            if record is None or not job.counts(record):
                raise damaged_record(number, job.output)
            yield number, record
