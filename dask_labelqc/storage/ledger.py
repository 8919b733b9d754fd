"""Records of items that many writers put down beside an output, without knowing of each other.

A record is one object, ``records/<writer>-<number>``. It is written whole, under a name that no
other writer uses, and never changed. Its head says what items it is of, and a hash of what is known
of each; it can be read alone. What all records of an output have in common lies beside them.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from zarr.abc.store import Store

from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.kernels.hashing import HASH_BYTES
from dask_labelqc.storage.objects import (
    create_object,
    is_absent,
    list_names,
    read_object,
    read_ranges,
    write_object,
)
from dask_labelqc.storage.packing import Record, pack, to_bytes, unpack
from dask_labelqc.typing import AnyArray

__all__ = [
    "FOLDER",
    "HASH_BYTES",
    "PARAMETERS",
    "PREDICTIONS",
    "Entry",
    "Ledger",
    "writer_name",
]

FOLDER = "records"
"""In an output."""
PARAMETERS = f"{FOLDER}/parameters.json"
PREDICTIONS = "predictions"
"""What records are of that become a dataset themselves."""
NAME = re.compile(r"[\w-]+-\d{6,}")
PREFIX = struct.Struct("<8sIIQI")
"""A mark, and the bytes and the checksum of the head and of the body."""
MARK = b"labelqc1"
HEADS_AT_ONCE = 256
IDS, HASHES, COMMON = "ids", "hashes", "common"


def writer_name() -> str:
    """Return a name for a writer that no other has, and that tells people where it runs."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname()).strip("-") or "host"
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Entry:
    """A record.

    Attributes
    ----------
    name
        Of the object: its writer, and a number.
    ids, hashes
        Of its items, and uint8 (n, `HASH_BYTES`).
    num_bytes
        Of the object.
    head, body
        Arrays by name; the body is empty where only the head was read.
    """

    name: str
    ids: Sequence[str]
    hashes: AnyArray
    num_bytes: int
    head: Mapping[str, AnyArray] = field(default_factory=dict)
    body: Mapping[str, AnyArray] = field(default_factory=dict)

    @property
    def writer(self) -> str:
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class Ledger:
    """The records beside an output.

    Attributes
    ----------
    store
        The output's.
    """

    store: Store

    def begin(self, parameters: Mapping[str, Any]) -> None:
        """Note what all records have in common, unless the first writer has.

        Raises
        ------
        OutputError
            The first writer has noted something else; the message says what differs.
        """
        wanted = json.loads(json.dumps(dict(parameters)))
        had = self.parameters()
        if had is None:
            text = json.dumps(wanted).encode()
            try:
                create_object(self.store, PARAMETERS, text)
            except NotImplementedError:
                # Two that begin at once would not see each other here; it is in each record, too.
                write_object(self.store, PARAMETERS, text)
            had = self.parameters()
        self._compare(had or {}, wanted)

    def _compare(self, had: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        kinds = had.get("what"), wanted.get("what")
        if None not in kinds and kinds[0] != kinds[1]:
            raise OutputError(
                f"output: {str(self.store)!r} is an output of {kinds[0]}, and these records are of "
                f"{kinds[1]}; name a new place for these"
            )
        differing = [
            f"{key} was {had.get(key)!r} and is {wanted.get(key)!r}"
            for key in sorted(had.keys() | wanted.keys())
            if had.get(key) != wanted.get(key)
        ]
        if differing:
            raise OutputError(
                f"output: the records in {str(self.store)!r} were made with other parameters: "
                f"{'; '.join(differing)}; name a new place for these"
            )

    def parameters(self) -> dict[str, Any] | None:
        """Return what all records have in common, None if no writer has begun."""
        if is_absent(self.store):
            return None
        found = read_object(self.store, PARAMETERS)
        return None if found is None else dict(json.loads(found))

    def write(
        self,
        name: str,
        ids: Sequence[str],
        hashes: AnyArray,
        parameters: Mapping[str, Any],
        head: Mapping[str, AnyArray],
        body: Mapping[str, AnyArray],
    ) -> None:
        """Put a record down, whole."""
        known = {IDS: _packed_json(ids), COMMON: _packed_json(dict(parameters)), HASHES: hashes}
        first, rest = to_bytes({**known, **head}), to_bytes(body)
        prefix = PREFIX.pack(MARK, len(first), zlib.crc32(first), len(rest), zlib.crc32(rest))
        write_object(self.store, _key(name), b"".join([prefix, first, rest]))

    def names(self) -> list[str]:
        """Return the names of all records, in order."""
        if is_absent(self.store):
            return []
        return sorted(name for name in list_names(self.store, FOLDER) if NAME.fullmatch(name))

    def heads(self, names: Sequence[str]) -> Iterator[Entry]:
        """Yield the heads of records; what all have in common is compared.

        Raises
        ------
        InputError
            A record is damaged, or made with other parameters.
        """
        common = self.parameters() or {}
        for start in range(0, len(names), HEADS_AT_ONCE):
            some = names[start : start + HEADS_AT_ONCE]
            # Never a whole object: some servers do not answer that as they answer for a part.
            begun = read_ranges(self.store, [(_key(name), 0, PREFIX.size) for name in some])
            ranges = [
                (_key(name), PREFIX.size, PREFIX.size + _lengths(name, prefix)[0])
                for name, prefix in zip(some, begun, strict=True)
            ]
            rest = read_ranges(self.store, ranges)
            for name, prefix, head in zip(some, begun, rest, strict=True):
                entry = _entry(name, (prefix or b"") + (head or b""))
                self._compare(common, _unpacked_json(entry.head[COMMON]))
                yield entry

    def read(self, name: str) -> Entry:
        """Return a record.

        Raises
        ------
        InputError
            It is gone, or damaged.
        """
        return _entry(name, read_object(self.store, _key(name)) or b"", whole=True)


def _key(name: str) -> str:
    return f"{FOLDER}/{name}"


def _packed_json(value: Any) -> AnyArray:
    return pack(np.frombuffer(json.dumps(value).encode(), np.uint8))


def _unpacked_json(packed: AnyArray) -> Any:
    return json.loads(unpack(packed, np.dtype(np.uint8)).tobytes())


def _lengths(name: str, data: bytes | None) -> tuple[int, int, int, int]:
    """Return the bytes and the checksum of the head of a record, and of its body."""
    if data is None or len(data) < PREFIX.size or not data.startswith(MARK):
        raise _damaged(name)
    _, *found = PREFIX.unpack_from(data)
    return found[0], found[1], found[2], found[3]


def _entry(name: str, data: bytes, whole: bool = False) -> Entry:
    length, checksum, rest, rest_checksum = _lengths(name, data)
    head = data[PREFIX.size : PREFIX.size + length]
    if zlib.crc32(head) != checksum:
        raise _damaged(name)
    body = data[PREFIX.size + length :] if whole else b""
    if whole and (len(body) != rest or zlib.crc32(body) != rest_checksum):
        raise _damaged(name)
    arrays = Record(head)
    ids = _unpacked_json(arrays[IDS])
    size = PREFIX.size + length + rest
    return Entry(name, ids, arrays[HASHES], size, arrays, Record(body) if whole else {})


def _damaged(name: str) -> InputError:
    return InputError(
        f"output: the record {FOLDER}/{name} is gone or damaged; delete it and predict its images "
        "again, which missing() of an inspector names"
    )
