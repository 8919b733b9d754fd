"""Which images are on record, where, and in what order an audit has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError, advise
from dask_labelqc.inspectors.arguments import texts_of_ids
from dask_labelqc.storage.ledger import Entry, Ledger
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["Catalog", "read_catalog", "read_manifest"]

SHOWN = 3


@dataclass(frozen=True)
class Catalog:
    """The images of an audit, and their records.

    Attributes
    ----------
    ids
        In the order of the images.
    shapes
        int64 (N, d).
    names, num_bytes
        Of the records, and their sizes.
    numbers
        For each record int64 (n,): which images it is of, -1 for one that is left out.
    counts
        For each record bool (n,): whether what it knows of an image is taken, which is on record
        somewhere else, too, if not.
    dtype
        Of the stored predictions.
    digest
        Of all that is known of the images, in their order.
    num_left_out
        Images on record that the manifest does not have.
    """

    ids: Sequence[str]
    shapes: Ints
    names: Sequence[str]
    num_bytes: Sequence[int]
    numbers: Sequence[Ints]
    counts: Sequence[AnyArray]
    dtype: np.dtype[Any]
    digest: str
    num_left_out: int = 0


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
            lines = Path(manifest).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"manifest: {str(manifest)!r} cannot be read: {error}") from error
        manifest = [line for line in lines if line]
    found = texts_of_ids(manifest, "manifest")
    if not found:
        raise InputError("manifest: it names no image")
    return found


def read_catalog(
    ledger: Ledger, manifest: Sequence[str] | None, *, allow_missing: bool = False
) -> Catalog:
    """Read the heads of all records.

    Raises
    ------
    InputError
        There are none, or they contradict one another or the manifest.
    """
    names = ledger.names()
    if not names:
        raise InputError(f"output: {str(ledger.store)!r} has no records of an inspector")
    seen = _Seen(ledger.heads(names))
    ids = sorted(seen.place) if manifest is None else _in_manifest(seen, manifest, allow_missing)
    number_of = dict(zip(ids, range(len(ids)), strict=True))
    numbers = [np.array([number_of.get(i, -1) for i in part], np.int64) for part in seen.ids]
    counts = [
        np.array([seen.place[i] == (e, slot) for slot, i in enumerate(part)]) & (numbers[e] >= 0)
        for e, part in enumerate(seen.ids)
    ]
    where = [seen.place[i] for i in ids]
    shapes = np.array([seen.shapes[e][slot] for e, slot in where], np.int64)
    digest = hashlib.blake2b(digest_size=16)
    for name, (e, slot) in zip(ids, where, strict=True):
        digest.update(f"{len(name)}:{name}".encode("utf-8", "surrogatepass"))
        digest.update(seen.hashes[e][slot].tobytes())
    return Catalog(
        ids,
        shapes,
        names,
        seen.num_bytes,
        numbers,
        counts,
        seen.dtype,
        digest.hexdigest(),
        len(seen.place) - len(ids),
    )


class _Seen:
    """What the heads say; of each image the first record counts, and others are to be equal."""

    def __init__(self, heads: Iterator[Entry]) -> None:
        self.ids: list[Sequence[str]] = []
        self.hashes: list[AnyArray] = []
        self.shapes: list[AnyArray] = []
        self.num_bytes: list[int] = []
        self.place: dict[str, tuple[int, int]] = {}
        first: Entry | None = None
        writers: list[str] = []
        for e, entry in enumerate(heads):
            first = first or entry
            _check_alike(first, entry)
            writers.append(entry.writer)
            self.ids.append(entry.ids)
            self.hashes.append(entry.hashes)
            self.shapes.append(entry.head["shape"])
            self.num_bytes.append(entry.num_bytes)
            for slot, each in enumerate(entry.ids):
                other, there = self.place.setdefault(each, (e, slot))
                if not np.array_equal(self.hashes[other][there], entry.hashes[slot]):
                    raise InputError(
                        f"output: the image {each!r} is on record twice, and not with the same "
                        f"labels and predictions: by {writers[other]} and by {entry.writer}; "
                        "delete the records of one of them, or give the images other ids"
                    )
        assert first is not None
        self.dtype = first.head["stored_dtype"].dtype


def _check_alike(first: Entry, entry: Entry) -> None:
    """Raise InputError if two records cannot be of one dataset."""
    for name, what in (("stored_dtype", "predictions"), ("shape", "images")):
        mine, other = entry.head[name], first.head[name]
        if name == "shape" and mine.shape[1] != other.shape[1]:
            raise InputError(
                f"output: the {what} of {entry.writer} have {mine.shape[1]} dimensions, those of "
                f"{first.writer} have {other.shape[1]}; they need outputs of their own"
            )
        if name != "shape" and mine.dtype != other.dtype:
            raise InputError(
                f"output: the {what} of {entry.writer} are {mine.dtype}, those of {first.writer} "
                f"{other.dtype}; the {what} of one audit must have one dtype"
            )


def _in_manifest(seen: _Seen, manifest: Sequence[str], allow_missing: bool) -> list[str]:
    """Return the images of the manifest that are on record."""
    wanted = set(manifest)
    missing = [name for name in manifest if name not in seen.place]
    others = sorted(name for name in seen.place if name not in wanted)
    if allow_missing and len(missing) < len(manifest):
        return [name for name in manifest if name in seen.place]
    said = [
        f"{_some(names)} {text}"
        for names, text in (
            (missing, "of it are not on record"),
            (others, "are on record and not in it"),
        )
        if names
    ]
    if said:
        raise InputError(
            f"manifest: {'; '.join(said)}",
            advise("{allow_missing} audits the images that are in both", allow_missing=True),
        )
    return list(manifest)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN])) + ", ..." * (len(names) > SHOWN)
    return f"{len(names)} image{'s' * (len(names) > 1)} ({shown})"
