"""Open the store that a path or URL names: object stores, any other protocol, the file system.

Keys come from the environment, a profile or `storage_options`. They stay inside the store: neither
its name nor an error has them in it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest, Store
from zarr.buffer.cpu import Buffer as CpuBuffer
from zarr.storage import FsspecStore, LocalStore, ObjectStore, WrapperStore

from dask_labelqc.errors import StoreError
from dask_labelqc.storage.clients import connect, in_one_line, server_name
from dask_labelqc.storage.connections import (
    RETRY_DEFAULTS,
    Connection,
    check_url,
    connection_of,
    time_of,
)
from dask_labelqc.storage.outages import is_unreachable, outage_of, pauses

__all__ = [
    "RemoteStore",
    "file_tag",
    "is_remote",
    "object_tag",
    "open_store",
    "store_url",
]

T = TypeVar("T")


class RemoteStore(WrapperStore[Store]):
    """A store at a URL that opens itself again where it is unpickled.

    Its name is the URL, and every error names the object. A process keeps one set of connections
    and one set of temporary credentials for each place.
    """

    def __init__(self, connection: Connection, *, read_only: bool = False) -> None:
        self._connection = connection
        super().__init__(connect(connection).with_read_only(read_only))

    @property
    def url(self) -> str:
        return self._connection.url

    @property
    def cloud(self) -> str | None:
        """Whose protocol it speaks: "s3", "gcs", "azure" or "http"; None if it is fsspec's."""
        return self._connection.cloud

    @property
    def one_writer(self) -> bool:
        """The user makes sure that nobody else writes."""
        return self._connection.one_writer

    @property
    def inside(self) -> Store:
        """What does the work."""
        return self._store

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return the same store, for reading only or not."""
        return type(self)(self._connection, read_only=read_only)

    def at(self, url: str) -> Self:
        """Return the store at another URL, opened in the same way."""
        return type(self)(replace(self._connection, url=url), read_only=self.read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._connection, self.read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and (self._connection, self.read_only) == (
            other._connection,
            other.read_only,
        )

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    async def get(
        self, key: str, prototype: Any, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object or a part of it, None if there is none."""
        return await self._try("read", key, lambda: self._store.get(key, prototype, byte_range))

    async def exists(self, key: str) -> bool:
        """Say if there is an object."""
        return await self._try("read", key, lambda: self._store.exists(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await self.put(key, value)

    async def put(self, key: str, value: Buffer) -> str:
        """Write an object, and return its tag: empty if the store does not tell."""
        store = self._store
        if not isinstance(store, ObjectStore):
            await self._try("written", key, lambda: store.set(key, value))
            return ""
        import obstore

        self._check_writable()
        data = value.as_buffer_like()
        told = await self._try("written", key, lambda: obstore.put_async(store.store, key, data))
        return object_tag(told)

    async def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one, in one step, and say whether it was written.

        Where the user makes sure that there is one writer, the two steps of any store will do.
        Some servers do not know the condition that the request has, and write whatever is there.

        Raises
        ------
        NotImplementedError
            The store is known to have no such step.
        """
        store = self._store
        if self.one_writer:
            if await self.exists(key):
                return False
            await self.set(key, CpuBuffer.from_bytes(data))
            return True
        if not isinstance(store, ObjectStore):
            raise NotImplementedError
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        async def put() -> bool | None:
            try:
                await obstore.put_async(store.store, key, data, mode="create")
            except AlreadyExistsError:
                return False
            except (NotSupportedError, NotImplementedError):
                return None
            return True

        created = await self._try("written", key, put)
        if created is None:
            raise NotImplementedError
        return created

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless there is one."""
        # Some S3 servers know no conditional writes, and would replace it.
        if await self.exists(key):
            return
        await self._try("written", key, lambda: self._store.set_if_not_exists(key, value))

    async def delete(self, key: str) -> None:
        """Delete an object if there is one."""
        await self._try("deleted", key, lambda: self._store.delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Delete all objects below a prefix."""
        await self._try("deleted", prefix, lambda: self._store.delete_dir(prefix))

    async def is_empty(self, prefix: str) -> bool:
        """Say if there is nothing below a prefix."""
        return await self._try("listed", prefix, lambda: self._store.is_empty(prefix))

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        for key in await self._try("listed", "", lambda: _collected(self._store.list())):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin so."""
        store = self._store
        for key in await self._try("listed", prefix, lambda: _collected(store.list_prefix(prefix))):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield what lies right below a prefix."""
        store = self._store
        for key in await self._try("listed", prefix, lambda: _collected(store.list_dir(prefix))):
            yield key

    async def _try(self, what: str, key: str, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request, which may be made again, and say in one line which object an error is of.

        The client retries by itself what a server refuses for the moment, but not deletions, nor
        answers that break off in their body, unless this is an object's; and it gives a server that
        cannot be reached a few seconds, whatever its settings are.
        """
        server, outage, begun = server_name(self._connection), outage_of(self.url), time.monotonic()
        waits, patience = _pauses(self._connection)
        while True:
            try:
                answer = await request()
            except Exception as error:
                reason = in_one_line(error, self._connection)
                pause = next(waits, None) if is_unreachable(error) else None
                if pause is None or time.monotonic() + pause - begun > patience:
                    place = f"{self.url}/{key}".rstrip("/")
                    # Not "from error": what a server answers may quote the key it was asked with.
                    raise StoreError(f"{place} cannot be {what}: {reason}") from None
                outage.lasts(server, reason, begun)
                await asyncio.sleep(pause)
            else:
                outage.is_over(server)
                return answer


def _pauses(connection: Connection) -> tuple[Iterator[float], float]:
    """Return the seconds until each further try, and those after which there is none."""
    retry: dict[str, Any] = RETRY_DEFAULTS | dict(connection.retry)
    first, most, patience = (
        time_of(name, retry[name]).total_seconds()
        for name in ("init_backoff", "max_backoff", "retry_timeout")
    )
    return pauses(int(retry["max_retries"]), first, most, float(retry["base"])), patience


async def _collected(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


def _reopened(connection: Connection, read_only: bool) -> RemoteStore:
    return RemoteStore(connection, read_only=read_only)


def open_store(
    url: str | Path,
    storage_options: Mapping[str, Any] | None = None,
    *,
    read_only: bool = True,
) -> Store:
    """Open what a path or URL names as a Zarr store.

    Parameters
    ----------
    url
        A path, ``file://``, ``s3://``, ``gs://``, ``az://``, ``http://`` or ``https://`` (for
        reading only), or a URL of any other protocol that fsspec knows.
    storage_options
        ``endpoint``, ``region``, ``anonymous``, ``profile``; keys and other settings of obstore's
        store for that protocol; settings of its HTTP client such as ``timeout``, and of its
        retries: ``max_retries``, ``retry_timeout``, ``init_backoff``, ``max_backoff``. A mapping
        under the name of a protocol ("s3") holds for that one only. Of other protocols: the
        arguments of the fsspec file system. ``one_writer``: you make sure yourself that no two
        jobs write an output at once, to a store that cannot create an object in one step.
    read_only
        Not to be written to.

    Returns
    -------
    zarr.abc.store.Store
        It can be pickled, and opens itself again on a worker.

    Raises
    ------
    InputError
        The URL or an option cannot be used, or a package is missing.

    Examples
    --------
    >>> open_store("s3://bucket/data.zarr", {"region": "eu-central-1", "anonymous": True})
    RemoteStore('s3://bucket/data.zarr')
    """
    text = str(url)
    if "://" not in text:
        return LocalStore(Path(text).resolve(), read_only=read_only)
    if text.startswith("file://"):
        return LocalStore(Path(text.removeprefix("file://")), read_only=read_only)
    check_url(text, read_only)
    connection = connection_of(text.rstrip("/"), dict(storage_options or {}))
    return RemoteStore(connection, read_only=read_only)


def is_remote(store: Store) -> bool:
    """Say if each request to a store takes a while."""
    inside = getattr(store, "inside", store)
    return isinstance(inside, RemoteStore | ObjectStore | FsspecStore)


def object_tag(told: Mapping[str, Any]) -> str:
    """Return what changes with an object, of what a store tells when it is written or listed."""
    if told["e_tag"]:
        return str(told["e_tag"]).strip('"')
    return f"{told['size']}-{told['last_modified'].timestamp()}" if "size" in told else ""


def file_tag(told: os.stat_result) -> str:
    """Return what changes with a file."""
    return f"{told.st_size}-{told.st_mtime_ns}"


def store_url(store: Store) -> str:
    """Return where a store is: the same for the same place, however it was opened."""
    if isinstance(store, RemoteStore):
        inside = store.inside
        return store_url(inside) if isinstance(inside, ObjectStore) else store.url
    if not isinstance(store, ObjectStore):
        return str(store)
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

    inner = store.store
    match inner:
        case S3Store():
            return f"s3://{inner.config['bucket']}/{inner.prefix or ''}".rstrip("/")
        case GCSStore():
            return f"gs://{inner.config['bucket']}/{inner.prefix or ''}".rstrip("/")
        case AzureStore():
            return f"az://{inner.config['container_name']}/{inner.prefix or ''}".rstrip("/")
        case HTTPStore():
            return str(inner.url).rstrip("/")
    return str(store)
