"""What is on record of items, put down in their order as columns that a job reads.

The group lies among the records, under the hash of what is in it: whoever finishes the same items
writes the same there, and finds it if it is whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr
from zarr.errors import (
    GroupNotFoundError,
    NodeNotFoundError,
    UnstableSpecificationWarning,
    ZarrUserWarning,
)

from dask_labelqc.inspectors.catalog import Order, read_order
from dask_labelqc.pipeline.fingerprint import FINGERPRINT
from dask_labelqc.pipeline.job import Run
from dask_labelqc.pipeline.lease import hold
from dask_labelqc.storage.ahead import reading_ahead, reads_ahead
from dask_labelqc.storage.columns import Columns, Form, counts_of, form_of
from dask_labelqc.storage.gaps import missing_objects
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.ledger import FOLDER, Entry, Ledger
from dask_labelqc.storage.objects import list_names, remove_folder
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["Finishing", "Layout", "Ordered", "counts_in_order", "laid_down", "widest_form"]

AT_ONCE = 2**28
"""Bytes of items that are put in order at a time; all records that have one of them are read."""
STATUS = "status"


@dataclass(frozen=True)
class Ordered(Order):
    """The items of an audit, and the heads of their records.

    Attributes
    ----------
    entries
        The heads.
    """

    entries: Sequence[Entry]

    @property
    def record(self) -> Ints:
        """Which record each item is on."""
        return self.where[:, 0]

    @property
    def place(self) -> Ints:
        """Which of its record's items each is."""
        return self.where[:, 1]

    @classmethod
    def read(
        cls, ledger: Ledger, manifest: Sequence[str] | None, *, allow_missing: bool, item: str
    ) -> Self:
        """Read the heads of all records."""
        heads: list[Entry] = []
        order = read_order(ledger, manifest, heads.append, allow_missing=allow_missing, item=item)
        return cls(**vars(order), entries=heads)


@dataclass(frozen=True)
class Finishing:
    """What is audited, and how.

    Attributes
    ----------
    output, ledger, items
        Where, the records there, and those of their items that are audited.
    parameters
        What all records have in common.
    run
        Of the job.
    """

    output: str | Path
    ledger: Ledger
    items: Ordered
    parameters: Mapping[str, Any]
    run: Run

    def again(self) -> Run:
        """Return how the job goes on if it was begun on these items, or replaces one on others."""
        try:
            group = zarr.open_group(self.ledger.store, mode="r", use_consolidated=False)
            same = self.items.digest in str(group.attrs.get(FINGERPRINT, ""))
        except (FileNotFoundError, GroupNotFoundError, NodeNotFoundError, ValueError):
            same = False
        return replace(self.run, resume=same, overwrite=not same)


@dataclass(frozen=True)
class Layout:
    """How columns are put down.

    Attributes
    ----------
    dims, dtypes, shapes
        Of each column.
    chunk_bytes
        Of a chunk, about.
    arrange
        Makes of columns on record those that are put down.
    attributes
        Of the arrays, by name.
    """

    dims: Mapping[str, tuple[str, ...]]
    dtypes: Mapping[str, np.dtype[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    chunk_bytes: int = 2**22
    arrange: Callable[[Columns], Columns] = lambda columns: columns
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def widest_form(items: Ordered) -> Form:
    """Return the form of all records, whose numbers fit into its dtypes."""
    forms = [form_of(items.entries[record]) for record in np.unique(items.record)]
    dtypes = {n: np.result_type(*(form.dtypes[n] for form in forms)) for n in forms[0].dtypes}
    return Form(forms[0].axes, dtypes, forms[0].shapes)


def counts_in_order(items: Ordered) -> dict[str, Ints]:
    """Return how many rows each item has along each axis."""
    by_record = [counts_of(entry) for entry in items.entries]
    starts = np.cumsum([0, *(len(entry.ids) for entry in items.entries)])
    place = starts[items.record] + items.place
    return {
        axis: np.concatenate([counts[axis] for counts in by_record])[place] for axis in by_record[0]
    }


def laid_down(audit: Finishing, name: str, layout: Layout, beside: xr.Dataset) -> zarr.Group:
    """Put columns down, unless that is done; return their group.

    Parameters
    ----------
    audit
        What is audited.
    name
        Of the group; the hash of the items becomes part of it.
    layout
        Of the columns.
    beside
        What else is to lie in the group.
    """
    with hold(audit.ledger.store, str(audit.output)):
        group = _whole(audit, f"{name}.{audit.items.digest}", layout, beside)
        for other in list_names(audit.ledger.store, FOLDER):  # what was put down of other items
            if other.startswith(f"{name}.") and other != f"{name}.{audit.items.digest}":
                remove_folder(audit.ledger.store, f"{FOLDER}/{other}")
    return group


def _whole(audit: Finishing, name: str, layout: Layout, beside: xr.Dataset) -> zarr.Group:
    # A store of its own: below the output Zarr would make that a group.
    place = f"{str(audit.output).rstrip('/')}/{FOLDER}/{name}"
    store = open_store(place, audit.run.storage_options, read_only=False)
    group = zarr.open_group(store, mode="a", use_consolidated=False)
    if group.attrs.get(STATUS) == "complete" and _is_whole(group, layout, beside):
        return zarr.open_group(store, mode="r")
    group.attrs[STATUS] = "unfinished"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)  # strings
        warnings.simplefilter("ignore", ZarrUserWarning)  # what a write that was killed has left
        beside.to_zarr(store, mode="a", consolidated=False, zarr_format=3)
    group = zarr.open_group(store, mode="a", use_consolidated=False)  # with what that has put there
    counts = counts_in_order(audit.items)
    columns = _Appended(group, layout, counts)
    for some in _pieces(audit.ledger, audit.items, counts):
        columns.add(layout.arrange(some))
    columns.end()
    group.attrs[STATUS] = "complete"
    return consolidate(group)


def _is_whole(group: zarr.Group, layout: Layout, beside: xr.Dataset) -> bool:
    # What is all False is not written.
    columns = (name for name in layout.dims if layout.dtypes[name].kind != "b")
    arrays = (group.get(str(name)) for name in (*columns, *beside.data_vars))
    return all(isinstance(a, zarr.Array) and not missing_objects(a) for a in arrays)


def _pieces(ledger: Ledger, items: Ordered, counts: Mapping[str, Ints]) -> Iterator[Columns]:
    """Yield the items in their order, as many at a time as fit into memory."""
    form = widest_form(items)
    weight = np.full(len(items.ids), 64)  # of the numbers that say where it is
    for name, axis in form.axes.items():
        weight += counts[axis] * form.dtypes[name].itemsize * int(np.prod(form.shapes[name]))
    number = np.cumsum(weight) // AT_ONCE
    for piece in np.split(np.arange(len(items.ids)), np.flatnonzero(np.diff(number)) + 1):
        yield _read(ledger, items, piece)


def _read(ledger: Ledger, items: Ordered, piece: Ints) -> Columns:
    record, place = items.record[piece], items.place[piece]
    needed = np.unique(record).tolist()

    def read(number: int) -> Columns:
        columns = Columns.of(ledger.read(items.entries[number].name))
        return columns.some(place[record == number])

    with reading_ahead(read, needed, reads_ahead(ledger.store)) as parts:
        first, *others = parts
    # They came record by record; where each belongs says the order of the records.
    order = np.argsort(np.argsort(record, kind="stable"), kind="stable")
    return first.joined_with(others).some(order)


class _Appended:
    """Columns that grow; whole chunks of them are written."""

    def __init__(self, group: zarr.Group, layout: Layout, counts: Mapping[str, Ints]) -> None:
        self._arrays = {}
        for name, dims in layout.dims.items():
            row = layout.dtypes[name].itemsize * int(np.prod(layout.shapes[name]))
            size = int(counts[dims[0]].sum())
            shape, dtype = layout.shapes[name], layout.dtypes[name]
            self._arrays[name] = group.create_array(
                name,
                shape=(size, *shape),
                chunks=(max(min(layout.chunk_bytes // row, size), 1), *shape),
                dtype=dtype,
                fill_value=_never(dtype),
                dimension_names=dims,
                attributes=dict(layout.attributes.get(name, {})),
                overwrite=True,
            )
        self._waiting: dict[str, list[AnyArray]] = {name: [] for name in self._arrays}
        self._written = dict.fromkeys(self._arrays, 0)

    def add(self, columns: Columns) -> None:
        for name, waiting in self._waiting.items():
            waiting.append(columns.values[name])
            chunk = self._arrays[name].chunks[0]
            self._write(name, sum(map(len, waiting)) // chunk * chunk)

    def end(self) -> None:
        for name, waiting in self._waiting.items():
            self._write(name, sum(map(len, waiting)))

    def _write(self, name: str, rows: int) -> None:
        if rows:
            start, values = self._written[name], np.concatenate(self._waiting[name])
            self._arrays[name][start : start + rows] = values[:rows]
            self._waiting[name] = [values[rows:]]
            self._written[name] += rows


def _never(dtype: np.dtype[np.generic]) -> Any:
    """Return a number that is never put down: a chunk that holds nothing else would not be."""
    if dtype.kind == "f":
        return np.nan
    if dtype.kind == "b":
        return False
    limits = np.iinfo(dtype.str)
    return int(limits.min if dtype.kind == "i" else limits.max)
