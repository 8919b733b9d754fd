"""A store that tells what it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from zarr.abc.store import Store
from zarr.storage import MemoryStore, WrapperStore


class CountingStore(WrapperStore[Store]):
    """Notes each request for an object, and counts how often each is read, whole or in part.

    A copy of it, as one that is opened for reading only, is a store of its own.
    """

    def __init__(self, store: Store | None = None) -> None:
        super().__init__(MemoryStore() if store is None else store)
        self.requests: list[tuple[str, str]] = []
        self.reads: Counter[str] = Counter()

    def chunk_reads(self, name: str) -> Counter[str]:
        prefix = f"{name}/c/"
        return Counter({k: n for k, n in self.reads.items() if k.startswith(prefix)})

    def forget(self) -> None:
        """Forget what was asked until now."""
        self.requests.clear()
        self.reads.clear()

    def _note_reads(self, keys: list[str]) -> None:
        self.requests += [("get", key) for key in keys]
        self.reads.update(keys)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self._note_reads([key])
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> Any:
        ranges = list(key_ranges)
        self._note_reads([key for key, _ in ranges])
        return await super().get_partial_values(prototype, ranges)

    async def exists(self, key: str) -> bool:
        self.requests.append(("exists", key))
        return await super().exists(key)

    async def set(self, key: str, value: Any) -> None:
        self.requests.append(("set", key))
        await super().set(key, value)

    async def delete(self, key: str) -> None:
        self.requests.append(("delete", key))
        await super().delete(key)
