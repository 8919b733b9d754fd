"""Items whose rows lie in columns side by side: boxes of images, facts of examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dask_labelqc.storage.packing import pack, unpack
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["Columns"]

ABOUT, COUNT, COLUMN = "about", "count_", "column_"


@dataclass(frozen=True)
class Columns:
    """The rows of n items, item after item.

    Attributes
    ----------
    counts
        (n,) by axis: how many rows along it each item has.
    axes
        The axis of each column.
    values
        The columns by name: as many rows as all items have along their axis.
    """

    counts: Mapping[str, Ints]
    axes: Mapping[str, str]
    values: Mapping[str, AnyArray]

    @property
    def num_items(self) -> int:
        return len(next(iter(self.counts.values())))

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in (*self.counts.values(), *self.values.values()))

    def hashes(self) -> list[str]:
        """Return a hash of each item: of its numbers, in whatever width they are kept."""
        wide = [(self._edges(name), _wide(values)) for name, values in self.values.items()]
        found = []
        for item in range(self.num_items):
            hashed = hashlib.blake2b(digest_size=8)
            for edges, values in wide:
                # How many there are, so that no row passes for one of the next column.
                hashed.update((edges[item + 1] - edges[item]).tobytes())
                hashed.update(values[edges[item] : edges[item + 1]].data)
            found.append(hashed.hexdigest())
        return found

    def some(self, items: Ints) -> Columns:
        """Return some of the items, in this order."""
        counts = {axis: each[items] for axis, each in self.counts.items()}
        rows = {axis: _rows(each, items) for axis, each in self.counts.items()}
        values = {name: column[rows[self.axes[name]]] for name, column in self.values.items()}
        return Columns(counts, self.axes, values)

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Put the items of several one after the other."""
        first = parts[0]
        return cls(
            {axis: np.concatenate([p.counts[axis] for p in parts]) for axis in first.counts},
            first.axes,
            {name: np.concatenate([p.values[name] for p in parts]) for name in first.values},
        )

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return what is put on record: few arrays, packed."""
        about = {n: (self.axes[n], v.dtype.str, v.shape) for n, v in self.values.items()}
        return {
            ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8),
            **{COUNT + axis: _narrow(each) for axis, each in self.counts.items()},
            **{COLUMN + name: pack(values) for name, values in self.values.items()},
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, AnyArray]) -> Columns:
        """Return what `to_arrays` was of."""
        about = json.loads(arrays[ABOUT].tobytes())
        counts = {
            name.removeprefix(COUNT): each.astype(np.int64)
            for name, each in arrays.items()
            if name.startswith(COUNT)
        }
        values = {
            name: unpack(arrays[COLUMN + name], np.dtype(dtype)).reshape(shape)
            for name, (_, dtype, shape) in about.items()
        }
        return cls(counts, {name: axis for name, (axis, _, _) in about.items()}, values)

    def _edges(self, name: str) -> Ints:
        return _edges(self.counts[self.axes[name]])


def _edges(counts: Ints) -> Ints:
    edges: Ints = np.concatenate([[0], np.cumsum(counts)])
    return edges


def _narrow(counts: Ints) -> Ints:
    narrow: Ints = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    return narrow


def _wide(values: AnyArray) -> AnyArray:
    """Return numbers as they are hashed, whatever it was that they came in."""
    return np.ascontiguousarray(values, np.float64 if values.dtype.kind == "f" else np.int64)


def _rows(counts: Ints, items: Ints) -> Ints:
    """Return where the rows of some items are.

    Examples
    --------
    >>> _rows(np.array([2, 0, 3]), np.array([2, 0]))
    array([2, 3, 4, 0, 1])
    """
    chosen = counts[items]
    ends = np.cumsum(chosen)
    shift = np.repeat(_edges(counts)[items] - (ends - chosen), chosen)
    rows: Ints = np.arange(chosen.sum()) + shift
    return rows
