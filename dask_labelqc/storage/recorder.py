"""A writer of records: what is known of items waits until it is enough for one."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.storage.ledger import FOLDER, Ledger, writer_name
from dask_labelqc.storage.objects import is_absent, list_names
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import AnyArray

__all__ = ["Recordable", "Recorder", "check_repeated", "open_ledger"]


class Recordable(Protocol):
    """What is known of some items, which a record is made of."""

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def hashes(self) -> AnyArray: ...

    @property
    def num_bytes(self) -> int: ...

    def follows(self, other: Self) -> bool:
        """Say if it may be in one record with what came before."""

    def joined_with(self, others: Sequence[Self]) -> Self:
        """Return what is known of these items and, after them, of others."""

    def head(self) -> Mapping[str, AnyArray]: ...

    def body(self) -> Mapping[str, AnyArray]: ...


T = TypeVar("T", bound=Recordable)

log = logging.getLogger(__name__)


def open_ledger(output: str | Path, storage_options: Mapping[str, Any] | None = None) -> Ledger:
    """Return the records beside an output that is there, or can be made.

    Raises
    ------
    InputError
        The URL or the options cannot be used.
    OutputError
        Something else is there, or it may not be written.
    """
    try:
        store = open_store(output, storage_options, read_only=False)
        there = [] if is_absent(store) else list_names(store, "")
        Ledger(store).parameters()  # of what is a file, nothing can be read
    except InputError as error:
        raise InputError(f"output: {error}") from error
    except PermissionError as error:
        raise OutputError(f"output: no permission to write {str(output)!r}: {error}") from error
    except FileExistsError as error:
        raise OutputError(f"output: {str(output)!r} is a file; name a folder") from error
    if FOLDER not in there and any(not name.endswith(".partial") for name in there):
        raise OutputError(
            f"output: {str(output)!r} exists and is no output of an inspector; name a new place "
            "for it"
        )
    return Ledger(store)


def check_repeated(items: Iterable[Recordable]) -> None:
    """See that items of one batch that have one id are the same, as those that a sampler pads.

    Raises
    ------
    InputError
        Something else is known of them.
    """
    seen: dict[str, bytes] = {}
    for some in items:
        for name, hashed in zip(some.ids, some.hashes, strict=True):
            if seen.setdefault(name, hashed.tobytes()) != hashed.tobytes():
                raise InputError(
                    f"ids: {name!r} stands for more than one item, of other labels or predictions; "
                    "each must have an id of its own"
                )


class Recorder(Generic[T]):
    """Puts what is known of items on record, some at a time; threads may share one.

    A copy, a pickled one and a fork are writers of their own that have nothing waiting.

    Parameters
    ----------
    output
        Path or URL of the output beside which the records lie.
    parameters
        What all records of the output have in common.
    flush_items, flush_bytes
        How many items, and how much of them, may wait.
    storage_options
        Of the store that the URL names.
    """

    def __init__(
        self,
        output: str | Path,
        parameters: Mapping[str, Any],
        *,
        flush_items: int,
        flush_bytes: int,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._most_items = flush_items
        self._most_bytes = positive_integer("flush_bytes", flush_bytes)
        self._parameters = dict(parameters)
        self._ledger = open_ledger(output, storage_options)
        self._ledger.begin(parameters)
        self._closed = False
        self._recorded: dict[str, frozenset[str]] = {}
        self._become_a_writer()

    def _become_a_writer(self) -> None:
        """Begin with nothing waiting, under a name that nobody else has."""
        self._process, self._name, self._number = os.getpid(), writer_name(), 0
        self._waiting: list[T] = []
        self._items = self._bytes = 0
        self._lock = threading.RLock()

    def __del__(self) -> None:
        if getattr(self, "_waiting", None) and self._process == os.getpid():
            log.warning(
                "%d items were taken in and never put on record: the inspector was not closed",
                self._items,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n not in ("_lock", "_waiting")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._become_a_writer()

    def _own(self) -> None:
        """Notice that this process is a fork: what waits is its parent's to write."""
        if self._process != os.getpid():
            self._become_a_writer()

    def add(self, items: T) -> None:
        """Let items wait for the next record, which is written if that is due."""
        self._own()
        with self._lock:
            self.check_open()
            if self._waiting and not items.follows(self._waiting[-1]):
                self.flush()
            self._waiting.append(items)
            self._items += len(items.ids)
            self._bytes += items.num_bytes
            if self._items >= self._most_items or self._bytes >= self._most_bytes:
                self.flush()

    def check_open(self) -> None:
        """Raise InputError if nothing more may be put on record."""
        if self._closed:
            raise InputError("update: this inspector is closed; make another one to go on")

    def flush(self) -> None:
        """Put all that waits on record; what cannot be written is kept."""
        self._own()
        with self._lock:
            if not self._waiting:
                return
            items = self._waiting[0].joined_with(self._waiting[1:])
            name = f"{self._name}-{self._number:06}"
            known = items.ids, items.hashes, self._parameters
            self._ledger.write(name, *known, items.head(), items.body())
            self._number += 1
            self._waiting.clear()
            self._items = self._bytes = 0

    def close(self) -> None:
        """Put all that waits on record, and take nothing more."""
        self.flush()
        self._closed = True

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return which of some ids are neither on record nor waiting for that, in their order.

        One that is asked for twice is told once.
        """
        self._own()
        with self._lock:
            new = [name for name in self._ledger.names() if name not in self._recorded]
            for entry in self._ledger.heads(new):
                self._recorded[entry.name] = frozenset(entry.ids)
            known = {each for some in self._waiting for each in some.ids}
            known = known.union(*self._recorded.values())
        return [each for each in dict.fromkeys(ids) if each not in known]
