"""Which items are audited, in what order, and on which record each of them is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_labelqc.arguments import texts_of_ids
from dask_labelqc.errors import InputError
from dask_labelqc.storage.ledger import Entry
from dask_labelqc.typing import Ints

__all__ = ["Ordered", "in_order"]

SHOWN = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ordered:
    """The items of an audit.

    Attributes
    ----------
    ids
        In their order.
    entries
        The heads of the records.
    record, place
        int64 (N,): which entry each is in, and which of its items it is.
    key
        A hash of what is known of them all, in this order.
    """

    ids: Sequence[str]
    entries: Sequence[Entry]
    record: Ints
    place: Ints
    key: str


def in_order(
    entries: Iterable[Entry], manifest: Any = None, *, allow_missing: bool = False
) -> Ordered:
    """Put items on record in order: that of the manifest, else that of their sorted ids.

    Parameters
    ----------
    entries
        Heads of the records. Of an item that is on several with the same hash one counts.
    manifest
        Ids of all items.
    allow_missing
        Go on without those that are not on record, and leave out those not in the manifest.

    Raises
    ------
    InputError
        Nothing is on record, records of an item differ, or not all of the manifest are there.
    """
    heads = list(entries)
    found = _where(heads)
    if not found:
        raise InputError("output: nothing is on record; update() and close() an inspector first")
    ids = sorted(found) if manifest is None else _of_manifest(manifest, found, allow_missing)
    places = np.array([found[each] for each in ids], np.int64).reshape(-1, 2)
    hashed = hashlib.blake2b(digest_size=8)
    for each, (record, place) in zip(ids, places.tolist(), strict=True):
        hashed.update(f"{len(each)} {each}".encode())
        hashed.update(heads[record].hashes[place].tobytes())
    return Ordered(ids, heads, places[:, 0], places[:, 1], hashed.hexdigest())


def _where(heads: Sequence[Entry]) -> dict[str, tuple[int, int]]:
    """Return which record each item is on, and where in it."""
    found: dict[str, tuple[int, int]] = {}
    for record, entry in enumerate(heads):
        for place, each in enumerate(entry.ids):
            first = found.setdefault(each, (record, place))
            other = heads[first[0]]
            if bytes(other.hashes[first[1]]) != bytes(entry.hashes[place]):
                raise InputError(
                    f"output: what {other.writer} and {entry.writer} have put on record of "
                    f"{each!r} differs; each item must be predicted by one model, for one label: "
                    f"delete records/{other.name} or records/{entry.name}, and predict what is "
                    "missing() then"
                )
    return found


def _of_manifest(
    manifest: Any, found: dict[str, tuple[int, int]], allow_missing: bool
) -> list[str]:
    wanted = texts_of_ids(manifest, "manifest")
    missing = [each for each in wanted if each not in found]
    others = sorted(found.keys() - set(wanted))
    told = [
        f"{len(ids)} {what}, {', '.join(map(repr, ids[:SHOWN]))}{', ...' * (len(ids) > SHOWN)}"
        for ids, what in ((missing, "are not on record"), (others, "on record are not in it"))
        if ids
    ]
    if told and not allow_missing:
        raise InputError(
            f"manifest: of its {len(wanted)} ids {'; '.join(told)}; predict what is missing, or "
            "allow_missing=True goes on with what is in both"
        )
    if len(missing) == len(wanted):
        raise InputError(f"manifest: none of its {len(wanted)} ids is on record")
    if told:
        log.warning("manifest: of its %d ids %s", len(wanted), "; ".join(told))
    return [each for each in wanted if each in found]
