"""A store that only the holder of a claim writes to."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.storage import LocalStore, WrapperStore

from dask_labelqc.errors import StoreError, TakenOverError
from dask_labelqc.storage.ledger import FOLDER
from dask_labelqc.storage.objects import object_bytes, read_object
from dask_labelqc.storage.stores import RemoteStore, file_tag

__all__ = ["Claim", "FencedStore", "close_desk", "open_desk"]

DELETED_AT_ONCE = 16
"""Objects of a remote store that are deleted between two looks at the claim."""


@dataclass(frozen=True)
class Claim:
    """An object that is there, with these bytes, for as long as its job may write.

    Attributes
    ----------
    folder
        Where claims are; nothing in it is deleted through the store.
    key
        Of the object.
    content
        Unlike that of any other claim.
    """

    folder: str
    key: str
    content: bytes


def open_desk(store: Store, claim: Claim) -> bool:
    """Make the folder that the holder of a claim writes its files in; say if it holds it still."""
    if not isinstance(store, LocalStore):
        return True
    with suppress(FileNotFoundError):
        os.mkdir(_desk(store, claim.key))
    if read_object(store, claim.key) == claim.content:
        return True
    close_desk(store, claim.key)
    return False


def close_desk(store: Store, key: str) -> None:
    """Take that folder away in one step: from then on the holder of the claim changes no file."""
    if isinstance(store, LocalStore):
        desk = _desk(store, key)
        closed = desk.with_suffix(".closed")
        with suppress(FileNotFoundError):
            desk.rename(closed)
        shutil.rmtree(closed, ignore_errors=True)


def _desk(store: LocalStore, key: str) -> Path:
    return store.root / f"{key}.desk"


class FencedStore(WrapperStore[Store]):
    """Looks at the claim before it writes or deletes anything; what was reads as ever.

    What inspectors have put down beside an output is no job's to delete.

    A process that sleeps while its output is given to another job writes nothing when it wakes up.
    On disk a file is written in a folder of the claim's own, its desk, and moved from there to its
    place; what is deleted is moved there first. Whoever takes the output over takes the desk away,
    and no such move can happen after that. In an object store the time of one request is left.

    Attributes
    ----------
    written
        Tags of what was written through this object and not asked for yet, by key; without what
        lies in the folder that the claims' folder lies in.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        super().__init__(store)
        self._claim = claim
        self.written: dict[str, str] = {}

    @property
    def inside(self) -> Store:
        """Where it is written to."""
        return self._store

    @property
    def has_files(self) -> bool:
        """Whether objects are files, which `put_file` and `remove_file` are for."""
        return isinstance(self._store, LocalStore)

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self._claim)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._store, self._claim)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FencedStore) and (self._store, self._claim) == (
            other._store,
            other._claim,
        )

    def __str__(self) -> str:
        return str(self._store)

    def __repr__(self) -> str:
        return f"FencedStore({self._store!r})"

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        if self.has_files:
            await asyncio.to_thread(self.put_file, key, value.as_buffer_like())
            return
        await self._check(key)
        if isinstance(self._store, RemoteStore):
            self._note(key, await self._store.put(key, value))
        else:
            await self._store.set(key, value)
            self._note(key, "")

    def _note(self, key: str, tag: str) -> None:
        if key.partition("/")[0] != self._claim.folder.partition("/")[0]:
            self.written[key] = tag

    def put_file(self, key: str, data: Any) -> None:
        """Write a file in this thread: to ask Zarr's to would cost as much as a small file."""
        root = self._root
        self._check_file(root)
        file = self._on_desk()
        try:
            tag = _write_file(file, data)
            self._move(file, key)
        except BaseException:
            with suppress(OSError):
                file.unlink()
            self._check_desk()
            raise
        self._note(key, tag)

    def remove_file(self, key: str) -> None:
        """Delete a file, in this thread, if there is one."""
        root = self._root
        self._check_file(root)
        self._remove(root / key)
        self.written.pop(key, None)

    def _remove(self, path: Path | str) -> None:
        file = self._on_desk()
        try:
            os.rename(path, file)
        except (FileNotFoundError, NotADirectoryError):
            self._check_desk()
        else:
            with suppress(FileNotFoundError):  # taken away with the desk
                file.unlink()

    def _move(self, file: Path, key: str) -> None:
        """Move a file from the desk to its place, and folders that are missing there likewise."""
        root = self._root
        while True:
            try:
                file.replace(root / key)
                return
            except FileNotFoundError:
                if not file.exists():
                    raise
            for parent in reversed(Path(key).parents):
                if not (root / parent).exists():
                    folder = self._on_desk()
                    folder.mkdir()
                    try:
                        folder.rename(root / parent)
                    except OSError as error:
                        folder.rmdir()
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                            raise

    def _on_desk(self) -> Path:
        return self._desk / uuid.uuid4().hex

    @property
    def _root(self) -> Path:
        assert isinstance(self._store, LocalStore)
        return self._store.root

    @property
    def _desk(self) -> Path:
        assert isinstance(self._store, LocalStore)
        return _desk(self._store, self._claim.key)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless there is one."""
        if not await self._store.exists(key):
            await self.set(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        await asyncio.gather(*(self.set(key, value) for key, value in values))

    async def delete(self, key: str) -> None:
        """Delete an object if there is one."""
        if self.has_files:
            await asyncio.to_thread(self.remove_file, key)
            return
        await self._check(key)
        await self._store.delete(key)
        self.written.pop(key, None)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all objects below a prefix but claims and inspectors' records; metadata last."""
        if self.has_files:
            await asyncio.to_thread(self._delete_files, self._root, prefix)
            return
        keys = [key async for key in self._store.list_prefix(f"{prefix}/" if prefix else "")]
        spared = f"{self._claim.folder}/", f"{FOLDER}/"
        ours = [key for key in keys if not key.startswith(spared)]
        ours.sort(key=lambda key: (key.endswith("zarr.json"), key))
        for i in range(0, len(ours), DELETED_AT_ONCE):
            await self._check(prefix)
            await asyncio.gather(*(self._store.delete(k) for k in ours[i : i + DELETED_AT_ONCE]))

    def _delete_files(self, root: Path, prefix: str) -> None:
        spared = tuple(f"{root / folder}{os.sep}" for folder in (self._claim.folder, FOLDER))
        for folder, _, files in os.walk(root / prefix, topdown=False):
            if f"{folder}{os.sep}".startswith(spared):
                continue
            for file in sorted(files, key=lambda name: name == "zarr.json"):
                self._check_file(root)
                self._remove(os.path.join(folder, file))
            with suppress(OSError):  # what is spared is in it
                os.rmdir(folder)

    async def clear(self) -> None:
        """Delete all objects but claims and inspectors' records."""
        await self.delete_dir("")

    async def _check(self, key: str) -> None:
        try:
            found = await object_bytes(self._store, self._claim.key)
        except StoreError as error:
            raise StoreError(f"{self}/{key} cannot be written: {error}") from None
        self._compare(found)

    def _check_file(self, root: Path) -> None:
        try:
            with open(f"{root}/{self._claim.key}", "rb", buffering=0) as file:
                found = file.read(len(self._claim.content) + 1)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        self._compare(found)

    def _check_desk(self) -> None:
        if not self._desk.is_dir():
            self._compare(None)

    def _compare(self, found: bytes | None) -> None:
        if found != self._claim.content:
            raise TakenOverError(
                f"output: {str(self._store)!r} was taken over by another job; this one ends"
            )


def _write_file(path: Path, data: Any) -> str:
    """Write a new file; return its tag."""
    with path.open("xb", buffering=0) as file:
        rest = memoryview(data).cast("B")
        while rest.nbytes:
            rest = rest[file.write(rest) :]
        return file_tag(os.fstat(file.fileno()))
