"""Items whose rows lie in columns side by side: boxes of images, facts of examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dask_labelqc.kernels.hashing import hash_runs
from dask_labelqc.storage.ledger import Entry
from dask_labelqc.storage.packing import pack, unpack
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["Columns", "Form", "counts_of", "form_of", "hashes_of"]

FORM, COUNT, WORST = "form", "count_", "worst"


@dataclass(frozen=True)
class Form:
    """What columns of a record are.

    Attributes
    ----------
    axes
        Of each column, along what it has rows.
    dtypes, shapes
        Of each column, and of each of its rows.
    """

    axes: Mapping[str, str]
    dtypes: Mapping[str, np.dtype[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Columns:
    """The rows of n items, item after item.

    Attributes
    ----------
    ids, hashes
        Of the items, and uint8 (n, 16): of all that is known of one.
    counts
        (n,) by axis: how many rows along it each item has.
    axes
        The axis of each column.
    values
        The columns by name: as many rows as all items have along their axis.
    about
        Text that is one for all of the items, by name.
    worst
        float64 (w, 3): of items whose numbers add up to something else than they should, the
        number, how far it is, and the sum.
    """

    ids: Sequence[str]
    hashes: AnyArray
    counts: Mapping[str, Ints]
    axes: Mapping[str, str]
    values: Mapping[str, AnyArray]
    about: Mapping[str, str] = field(default_factory=dict)
    worst: Floats = field(default_factory=lambda: np.zeros((0, 3)))

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(values.nbytes for values in (*self.counts.values(), *self.values.values()))

    def some(self, items: Ints) -> Columns:
        """Return some of the items, in this order."""
        counts = {axis: each[items] for axis, each in self.counts.items()}
        rows = {axis: _rows(each, items) for axis, each in self.counts.items()}
        values = {name: column[rows[self.axes[name]]] for name, column in self.values.items()}
        ids = [self.ids[item] for item in items.tolist()]
        return Columns(ids, self.hashes[items], counts, self.axes, values, self.about)

    def follows(self, other: Columns) -> bool:
        """Say if the same is said of all items of both."""
        return self.about == other.about

    def joined_with(self, others: Sequence[Columns]) -> Columns:
        """Put the items of others after these."""
        parts = [self, *others]
        starts = _edges(np.array([len(part.ids) for part in parts]))
        worst = [p.worst + np.array([start, 0, 0]) for p, start in zip(parts, starts, strict=False)]
        return Columns(
            [each for part in parts for each in part.ids],
            np.concatenate([part.hashes for part in parts]),
            {axis: np.concatenate([p.counts[axis] for p in parts]) for axis in self.counts},
            self.axes,
            {name: np.concatenate([p.values[name] for p in parts]) for name in self.values},
            self.about,
            np.concatenate(worst),
        )

    def head(self) -> dict[str, AnyArray]:
        """Return what is to be known without the columns."""
        form = {n: (self.axes[n], v.dtype.str, v.shape[1:]) for n, v in self.values.items()}
        return {
            FORM: np.frombuffer(json.dumps(form).encode(), np.uint8),
            **{COUNT + axis: _narrow(each) for axis, each in self.counts.items()},
            **{name: np.array(value) for name, value in self.about.items()},
            WORST: self.worst,
        }

    def body(self) -> dict[str, AnyArray]:
        """Return the columns, packed."""
        return {name: pack(values) for name, values in self.values.items()}

    @classmethod
    def of(cls, entry: Entry) -> Columns:
        """Return what is on record."""
        form, counts = form_of(entry), counts_of(entry)
        values = {
            name: unpack(entry.body[name], dtype).reshape(-1, *form.shapes[name])
            for name, dtype in form.dtypes.items()
        }
        return cls(entry.ids, entry.hashes, counts, form.axes, values)


def form_of(entry: Entry) -> Form:
    """Return what the columns of a record are, from its head."""
    found = json.loads(entry.head[FORM].tobytes())
    return Form(
        {name: axis for name, (axis, _, _) in found.items()},
        {name: np.dtype(dtype) for name, (_, dtype, _) in found.items()},
        {name: tuple(shape) for name, (_, _, shape) in found.items()},
    )


def counts_of(entry: Entry) -> dict[str, Ints]:
    """Return how many rows each item of a record has along each axis, from its head."""
    return {
        name.removeprefix(COUNT): each.astype(np.int64)
        for name, each in entry.head.items()
        if name.startswith(COUNT)
    }


def hashes_of(
    counts: Mapping[str, Ints], axes: Mapping[str, str], values: Mapping[str, AnyArray]
) -> AnyArray:
    """Return a hash of each item: of its numbers, however wide they are."""
    lists = []
    for name, column in values.items():
        wide = np.ascontiguousarray(column, np.float64 if column.dtype.kind == "f" else np.int64)
        lists.append((wide, counts[axes[name]] * int(np.prod(column.shape[1:]))))
    return hash_runs(lists)


def _edges(counts: Ints) -> Ints:
    edges: Ints = np.concatenate([[0], np.cumsum(counts)])
    return edges


def _narrow(counts: Ints) -> Ints:
    narrow: Ints = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    return narrow


def _rows(counts: Ints, items: Ints) -> Ints:
    """Return where the rows of some items are.

    Examples
    --------
    >>> _rows(np.array([2, 0, 3]), np.array([2, 0]))
    array([2, 3, 4, 0, 1])
    """
    chosen = counts[items]
    shift = _edges(counts)[items] - (np.cumsum(chosen) - chosen)
    rows: Ints = np.arange(chosen.sum()) + np.repeat(shift, chosen)
    return rows
