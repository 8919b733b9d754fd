"""Which images are on record, where, and in what order an audit has them."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dask_labelqc.arguments import texts_of_ids
from dask_labelqc.errors import InputError, advise
from dask_labelqc.images import ImageTable
from dask_labelqc.storage.ledger import FOLDER, Entry, Ledger
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["Catalog", "Order", "read_catalog", "read_manifest", "read_order"]

SHOWN = 3


@dataclass(frozen=True)
class Order:
    """The items of an audit, images or examples, and their records.

    Attributes
    ----------
    ids
        In the order of the items.
    where
        int64 (N, 2): which record knows each, and which of its items it is.
    names, num_bytes
        Of the records, and their sizes.
    numbers
        For each record int64 (n,): which items it is of, -1 for one that is left out.
    counts
        For each record bool (n,): whether what it knows of an item is taken, which is on record
        somewhere else, too, if not.
    digest
        Of all that is known of the items, in their order.
    num_left_out
        Items on record that the manifest does not have.
    """

    ids: Sequence[str]
    where: Ints
    names: Sequence[str]
    num_bytes: Sequence[int]
    numbers: Sequence[Ints]
    counts: Sequence[AnyArray]
    digest: str
    num_left_out: int


@dataclass(frozen=True)
class Catalog(Order):
    """The images of an audit, and their records.

    Attributes
    ----------
    table
        Of the images.
    dtype
        Of the stored predictions.
    """

    table: ImageTable
    dtype: np.dtype[Any]


def read_manifest(manifest: Iterable[Any] | str | Path | None) -> list[str] | None:
    """Return the ids that an audit is to have, in their order.

    Raises
    ------
    InputError
        A file cannot be read, or an id stands in it twice.
    """
    if manifest is None:
        return None
    if isinstance(manifest, str | Path):
        try:
            lines = Path(manifest).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"manifest: {str(manifest)!r} cannot be read: {error}") from error
        manifest = [line for line in lines if line]
    found = texts_of_ids(manifest, "manifest", unique=True)
    if not found:
        raise InputError("manifest: it names no image")
    return found


def read_catalog(
    ledger: Ledger, manifest: Sequence[str] | None, *, allow_missing: bool = False
) -> Catalog:
    """Read the heads of all records of images.

    Raises
    ------
    InputError
        There are none, or they contradict one another or the manifest.
    """
    first: list[Entry] = []
    shapes: list[AnyArray] = []

    def see(entry: Entry) -> None:
        first[:] = first or [entry]
        _check_alike(first[0], entry)
        shapes.append(entry.head["shape"])

    order = read_order(ledger, manifest, see, allow_missing=allow_missing)
    starts = np.cumsum([0, *map(len, shapes)])
    there = starts[order.where[:, 0]] + order.where[:, 1]
    table = ImageTable.of(order.ids, np.concatenate(shapes)[there])
    return Catalog(**vars(order), table=table, dtype=first[0].head["stored_dtype"].dtype)


def read_order(
    ledger: Ledger,
    manifest: Sequence[str] | None,
    see: Callable[[Entry], None],
    *,
    allow_missing: bool = False,
    item: str = "image",
) -> Order:
    """Read the heads of all records; `see` is shown each.

    Raises
    ------
    InputError
        There are none, or they contradict one another or the manifest.
    """
    names = ledger.names()
    if not names:
        raise InputError(f"output: {str(ledger.store)!r} has no records of an inspector")
    seen = _Seen(ledger.heads(names), see, item)
    if manifest is None:
        ids = sorted(seen.place)
    else:
        ids = _in_manifest(seen, manifest, allow_missing, item)
    number_of = {name: number for number, name in enumerate(ids)}
    numbers = [np.array([number_of.get(i, -1) for i in part], np.int64) for part in seen.ids]
    place = np.array([seen.place[name] for name in ids], np.int64)
    counts = np.zeros(seen.edges[-1], np.bool_)
    counts[place] = True
    record = np.searchsorted(seen.edges, place, side="right") - 1
    digest = hashlib.blake2b(json.dumps(ids).encode(), digest_size=16)
    digest.update(np.concatenate(seen.hashes)[place].data)
    return Order(
        ids,
        np.stack([record, place - np.array(seen.edges)[record]], axis=1),
        names,
        seen.num_bytes,
        numbers,
        np.split(counts, seen.edges[1:-1]),
        digest.hexdigest(),
        len(seen.place) - len(ids),
    )


class _Seen:
    """What the heads say; of each item the first record counts, and others are to be equal.

    Attributes
    ----------
    edges
        How many items come before those of each record, and in all.
    place
        Which of all items the first is that has an id.
    """

    def __init__(self, heads: Iterator[Entry], see: Callable[[Entry], None], item: str) -> None:
        self.ids: list[Sequence[str]] = []
        self.hashes: list[AnyArray] = []
        self.num_bytes: list[int] = []
        self.edges = [0]
        self.place: dict[str, int] = {}
        self._writers: list[str] = []
        for entry in heads:
            see(entry)
            self._writers.append(entry.writer)
            self.ids.append(entry.ids)
            self.hashes.append(entry.hashes)
            self.num_bytes.append(entry.num_bytes)
            for place, each in enumerate(entry.ids, self.edges[-1]):
                other = self.place.setdefault(each, place)
                if other != place:
                    self._compare(each, other, entry.hashes[place - self.edges[-1]], item)
            self.edges.append(self.edges[-1] + len(entry.ids))

    def _compare(self, name: str, other: int, hashed: AnyArray, item: str) -> None:
        """Raise InputError if an item is not what an earlier record says that it is."""
        record = bisect_right(self.edges, other) - 1
        if not np.array_equal(self.hashes[record][other - self.edges[record]], hashed):
            raise InputError(
                f"output: the {item} {name!r} is on record twice, and not with the same labels and "
                f"predictions: by {self._writers[record]} and by {self._writers[-1]}; delete the "
                f"records of one of them, or give the {item}s other ids"
            )


def _check_alike(first: Entry, entry: Entry) -> None:
    """Raise InputError if two records cannot be of one dataset."""
    for name, what in (("stored_dtype", "predictions"), ("shape", "images")):
        mine, other = entry.head[name], first.head[name]
        if name == "shape" and mine.shape[1] != other.shape[1]:
            raise InputError(
                f"output: the {what} of {_record(entry)} have {mine.shape[1]} dimensions, those of "
                f"{_record(first)} have {other.shape[1]}; delete the records of one kind, and put "
                "their images on record in an output of their own"
            )
        if name != "shape" and mine.dtype != other.dtype:
            raise InputError(
                f"output: the {what} of {_record(entry)} are {mine.dtype}, those of "
                f"{_record(first)} {other.dtype}; the {what} of one audit must have one dtype: "
                "delete the records of one kind, and predict their images again"
            )


def _record(entry: Entry) -> str:
    return f"the record {FOLDER}/{entry.name}, which is of {_some(entry.ids, 'image')},"


def _in_manifest(seen: _Seen, manifest: Sequence[str], allow_missing: bool, item: str) -> list[str]:
    """Return the items of the manifest that are on record."""
    wanted = set(manifest)
    missing = [name for name in manifest if name not in seen.place]
    others = sorted(name for name in seen.place if name not in wanted)
    if allow_missing and len(missing) < len(manifest):
        return [name for name in manifest if name in seen.place]
    said = [
        f"{_some(names, item)} {text}"
        for names, text in (
            (missing, "of it are not on record"),
            (others, "are on record and not in it"),
        )
        if names
    ]
    both = advise(f"{{allow_missing}} audits the {item}s that are in both", allow_missing=True)
    if said:
        raise InputError(
            f"manifest: {'; '.join(said)}", both if len(missing) < len(manifest) else None
        )
    return list(manifest)


def _some(names: Sequence[str], item: str) -> str:
    shown = ", ".join(map(repr, names[:SHOWN])) + ", ..." * (len(names) > SHOWN)
    return f"{len(names)} {item}{'s' * (len(names) > 1)} ({shown})"
