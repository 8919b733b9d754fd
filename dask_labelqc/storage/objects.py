"""Single objects of a store: made by exactly one of many, and told apart by what the store says."""

from __future__ import annotations

import asyncio
import io
import os
import time
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from zarr.abc.store import RangeByteRequest, Store
from zarr.buffer.cpu import Buffer, buffer_prototype
from zarr.storage import LocalStore, ObjectStore

from dask_labelqc.errors import StoreError
from dask_labelqc.storage.stores import RemoteStore, file_tag, object_tag

__all__ = [
    "create_object",
    "is_absent",
    "list_keys",
    "list_names",
    "list_tags",
    "object_bytes",
    "open_object",
    "read_object",
    "read_ranges",
    "remove_folder",
    "remove_object",
    "tag_of",
    "write_object",
]

T = TypeVar("T")

PART_BYTES = 2**17
"""That are asked for at least of an object that is read in parts."""
AT_ONCE = 16
"""Ranges that are asked for at once."""
WHOLE_INSTEAD = "non-partial response"
"""What obstore says of a server that sends all of an object, whatever part it is asked for."""
PAUSES = (0.1, 0.5, 2.0)
"""Seconds until a listing that broke off goes on."""


def create_object(store: Store, key: str, data: bytes) -> bool:
    """Write an object unless there is one, in one step: of many who try, one is told True.

    A store that does not know of such a step writes it anyway; see `RemoteStore.create`.
    """
    if isinstance(store, LocalStore):
        return _link(store.root / key, data)
    if not isinstance(store, RemoteStore):
        raise TypeError(f"{store} is no store that an output can be in")
    return _run(store.create(key, data))


def _link(path: Path, data: bytes) -> bool:
    """Put a file in its place with all that is in it, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    temporary.write_bytes(data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        return _create_exclusively(path, data)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_exclusively(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def is_absent(store: Store) -> bool:
    """Say if a store is a folder that is not there: to look into it for writing would make it."""
    inside = getattr(store, "inside", store)
    return isinstance(inside, LocalStore) and not inside.root.exists()


def read_object(store: Store, key: str) -> bytes | None:
    """Return the bytes of an object, None if there is none."""
    return _run(object_bytes(store, key))


def read_ranges(store: Store, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Return parts of objects, each given by key, first byte and the one after the last.

    None where there is no object; less than was asked for where it ends before. No part may be
    empty, and none should be the whole, which servers answer in ways of their own.
    """
    asked = asyncio.Semaphore(AT_ONCE)

    async def read(key: str, start: int, stop: int) -> bytes | None:
        async with asked:
            try:
                found = await store.get(key, buffer_prototype, RangeByteRequest(start, stop))
            except StoreError as error:
                if WHOLE_INSTEAD not in str(error):
                    raise
                whole = await object_bytes(store, key)
                return None if whole is None else whole[start:stop]
        return None if found is None else found.to_bytes()

    async def read_all() -> list[bytes | None]:
        return await asyncio.gather(*(read(*each) for each in ranges))

    return _run(read_all())


async def object_bytes(store: Store, key: str) -> bytes | None:
    """Return the bytes of an object, None if there is none."""
    found = await store.get(key, buffer_prototype)
    return None if found is None else found.to_bytes()


def open_object(store: Store, key: str) -> BinaryIO:
    """Open an object as a file, of which nothing is read but what is asked for."""
    return cast(BinaryIO, io.BufferedReader(_ObjectFile(store, key), PART_BYTES))


class _ObjectFile(io.RawIOBase):
    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._size, self._position = _run(_size(store, key)), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(
            whence, 0
        )
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        wanted = self._key, self._position, stop
        if stop - self._position == self._size:
            data = read_object(self._store, self._key)
        else:
            data = read_ranges(self._store, [wanted])[0]
        if data is None:
            raise FileNotFoundError(f"{self._store}/{self._key}")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


async def _size(store: Store, key: str) -> int:
    try:
        return await getattr(store, "inside", store).getsize(key)
    except FileNotFoundError:
        raise
    except Exception as error:  # of the store's own kind, which may quote the request
        what = str(error).partition("\n")[0]
        raise StoreError(f"{store}/{key} cannot be looked at: {what}") from None


def write_object(store: Store, key: str, data: bytes) -> None:
    """Write an object, whether there is one or not."""
    _run(store.set(key, Buffer.from_bytes(data)))


def remove_object(store: Store, key: str) -> None:
    """Delete an object if there is one, and the folders that are empty then."""
    if not isinstance(store, LocalStore):
        _run(store.delete(key))
        return
    (store.root / key).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or gone
        for folder in Path(key).parents:
            (store.root / folder).rmdir()


def remove_folder(store: Store, prefix: str) -> None:
    """Delete all objects below a prefix."""
    _run(store.delete_dir(prefix))


def list_names(store: Store, prefix: str) -> list[str]:
    """Return what lies right below a prefix."""

    async def collect() -> list[str]:
        return [name async for name in store.list_dir(prefix)]

    return _run(collect())


def list_keys(store: Store) -> list[str]:
    """Return the keys of all objects of a store."""

    async def collect() -> list[str]:
        return [key async for key in store.list()]

    return _run(collect())


def list_tags(store: Store, prefix: str) -> Iterator[tuple[str, str]] | None:
    """Yield all objects below a prefix, each with what the store says that changes with it.

    Objects are told apart by their ETag, files by size and time.

    Returns
    -------
    iterator of (str, str)
        Keys, relative to the prefix, and tags; None if the store does not tell.
    """
    inside = getattr(store, "inside", store)
    if isinstance(store, RemoteStore) and store.cloud == "http":
        return None
    if isinstance(inside, LocalStore):
        return _files(inside.root / prefix)
    if isinstance(inside, ObjectStore):
        return _objects(inside, prefix, str(store))
    return list_tags(inside, prefix) if inside is not store else None


def _files(root: Path) -> Iterator[tuple[str, str]]:
    waiting = [str(root)]
    length = len(waiting[0]) + 1
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                try:
                    folder = entry.is_dir()
                    tag = "" if folder else file_tag(entry.stat())
                except OSError:  # whoever reads it will say why it cannot be
                    folder, tag = False, ""
                if folder:
                    waiting.append(entry.path)
                else:
                    yield entry.path[length:].replace(os.sep, "/"), tag


def _objects(store: ObjectStore[Any], prefix: str, name: str) -> Iterator[tuple[str, str]] | None:
    from obstore.exceptions import NotSupportedError, PermissionDeniedError

    length = len(prefix) + 1 if prefix else 0
    told = _told(store, prefix, name)
    try:
        first = list(islice(told, 1))
    except (PermissionDeniedError, NotSupportedError, NotImplementedError):
        return None  # whoever may read need not be allowed to list
    return ((it["path"][length:], object_tag(it)) for it in chain(first, told))


def _told(store: ObjectStore[Any], prefix: str, name: str) -> Iterator[Any]:
    """Yield what is told of each object; a listing that breaks off goes on after the last."""
    import obstore
    from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError

    last, pauses = None, iter(PAUSES)
    while True:
        try:
            for batch in obstore.list(store.store, prefix or None, offset=last, chunk_size=1000):
                for told in batch:
                    yield told
                    last, pauses = told["path"], iter(PAUSES)
        except (PermissionDeniedError, NotSupportedError):
            raise
        except BaseError as error:
            if (pause := next(pauses, None)) is None:
                what = str(error).partition("\n")[0]
                raise StoreError(f"{name}/{prefix} cannot be listed: {what}") from None
            time.sleep(pause)
        else:
            return


def tag_of(store: Store, key: str) -> str | None:
    """Return what the store says that changes with an object, None if there is no object."""
    inside = getattr(store, "inside", store)
    if isinstance(inside, LocalStore):
        try:
            return file_tag((inside.root / key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None
    if isinstance(inside, ObjectStore):
        import obstore

        try:
            return object_tag(obstore.head(inside.store, key))
        except FileNotFoundError:
            return None
        except obstore.exceptions.BaseError as error:
            what = str(error).partition("\n")[0]
            raise StoreError(f"{store}/{key} cannot be looked at: {what}") from None
    return tag_of(inside, key) if inside is not store else None


def _run(what: Coroutine[Any, Any, T]) -> T:
    """Wait for what a store does, whatever runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, what).result()
