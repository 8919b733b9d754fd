"""Open the store that a path or URL names: object stores, any other protocol, the file system.

Keys come from the environment, a profile or `storage_options`. They stay inside the store: neither
its name nor an error has them in it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import dask.config
from dask.utils import parse_timedelta
from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest, Store
from zarr.buffer.cpu import Buffer as CpuBuffer
from zarr.storage import FsspecStore, LocalStore, ObjectStore, WrapperStore

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.storage.outages import is_unreachable, outage_of, pauses

if TYPE_CHECKING:
    import obstore.store

__all__ = [
    "RemoteStore",
    "file_tag",
    "is_remote",
    "object_tag",
    "open_store",
    "parse_storage_options",
    "store_url",
    "without_keys",
]

T = TypeVar("T")

CLOUDS = {
    "s3": ("s3", "s3a"),
    "gcs": ("gs",),
    "azure": ("az", "adl", "azure", "abfs", "abfss"),
    "http": ("http", "https"),
}
SCHEMES = {scheme: cloud for cloud, schemes in CLOUDS.items() for scheme in schemes}
ENDPOINT = {"s3": "endpoint", "azure": "endpoint", "gcs": "base_url"}

TIMES = {
    "connect_timeout",
    "http2_keep_alive_timeout",
    "pool_idle_timeout",
    "read_timeout",
    "timeout",
}
CLIENT = TIMES | {
    "allow_http",
    "allow_invalid_certificates",
    "default_headers",
    "http1_only",
    "http2_only",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "randomize_addresses",
    "root_certificate",
    "user_agent",
}
BACKOFF = {"init_backoff", "max_backoff", "base"}
RETRY = BACKOFF | {"max_retries", "retry_timeout"}
RETRY_TIMES = {"init_backoff", "max_backoff", "retry_timeout"}

# A chunk of 20 MB over a slow line takes longer than the 30 seconds that are usual; a connection
# that stands still is given up all the same.
CLIENT_DEFAULTS = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "10m"}
# After 0.1 s, then twice as long each time: a server that is gone for half a minute is waited for.
RETRY_DEFAULTS = {
    "max_retries": 10,
    "retry_timeout": "3m",
    "init_backoff": "100ms",
    "max_backoff": "10s",
    "base": 2,
}

SECRET = re.compile(r"secret|token|passw|credential|signature|sas|key|headers", re.IGNORECASE)
KEYLESS = {"anonymous", "endpoint", "profile", "region"}
"""Options that may be kept with what was done."""
NO_SECRET = {"sse_kms_key_id", "sse_bucket_key_enabled"}


@dataclass(frozen=True)
class _Connection:
    """What it takes to open a store, on any worker."""

    url: str
    config: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    client: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    retry: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    profile: str | None = None
    one_writer: bool = False

    @property
    def cloud(self) -> str | None:
        return SCHEMES.get(_scheme(self.url))


class RemoteStore(WrapperStore[Store]):
    """A store at a URL that opens itself again where it is unpickled.

    Its name is the URL, and every error names the object. A process keeps one set of connections
    and one set of temporary credentials for each place.
    """

    def __init__(self, connection: _Connection, *, read_only: bool = False) -> None:
        self._connection = connection
        super().__init__(_connect(connection).with_read_only(read_only))

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
        server, outage, begun = _server(self._connection), outage_of(self.url), time.monotonic()
        waits, patience = _pauses(self._connection)
        while True:
            try:
                answer = await request()
            except Exception as error:
                reason = _in_one_line(error, self._connection)
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


def _pauses(connection: _Connection) -> tuple[Iterator[float], float]:
    """Return the seconds until each further try, and those after which there is none."""
    retry: dict[str, Any] = RETRY_DEFAULTS | dict(connection.retry)
    first, most, patience = (
        _time(name, retry[name]).total_seconds()
        for name in ("init_backoff", "max_backoff", "retry_timeout")
    )
    return pauses(int(retry["max_retries"]), first, most, float(retry["base"])), patience


async def _collected(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


def _reopened(connection: _Connection, read_only: bool) -> RemoteStore:
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
    _check_url(text, read_only)
    connection = _connection(text.rstrip("/"), dict(storage_options or {}))
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


def parse_storage_options(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` from a command line, where secrets are refused.

    Raises
    ------
    InputError
        There is no ``=``, or it is a secret: command lines are seen by all users of a machine.

    Examples
    --------
    >>> parse_storage_options(["region=eu-central-1"])
    {'region': 'eu-central-1'}
    """
    options = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        name = name.strip()
        if "@" in value or (SECRET.search(name) and name not in NO_SECRET):
            raise InputError(
                f"storage_options: {name} is a secret, or has one in it, and does not belong on a "
                "command line, which others can see; give it in the environment (such as "
                "AWS_SECRET_ACCESS_KEY) or in a profile (profile=NAME)"
            )
        if not separator or not name:
            raise InputError(f"storage_options: got {pair!r}, it must be KEY=VALUE")
        options[name] = value
    return options


def without_keys(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the options that say where a store is, and none that says who asks.

    Examples
    --------
    >>> without_keys({"s3": {"endpoint": "http://10.0.0.5:9000", "secret_access_key": "..."}})
    {'s3': {'endpoint': 'http://10.0.0.5:9000'}}
    """
    kept: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if isinstance(value, Mapping):
            kept |= {name: inner} if (inner := without_keys(value)) else {}
        elif name in KEYLESS and "@" not in str(value):
            kept[name] = value
    return kept or None


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _check_url(url: str, read_only: bool) -> None:
    scheme = _scheme(url)
    for authority in re.findall(r"://([^/]*)", url):
        # A container and its account: abfss://container@account.dfs.core.windows.net
        if "@" in authority and (not scheme.startswith("abfs") or ":" in authority):
            raise InputError(
                f"a {scheme}:// URL has a user or a key in it, before the @: such a URL ends up in "
                "logs and outputs; give keys in the environment, by profile, or in storage_options"
            )
    if scheme in SCHEMES and ("?" in url or "#" in url):
        raise InputError(
            f"a {scheme}:// URL has a query or a fragment in it, {url.split('?')[0]!r} and what "
            "follows; name the Zarr array or group alone"
        )
    if scheme in CLOUDS["http"] and not read_only:
        raise InputError(
            f"{url!r} can only be read, over HTTP; write to s3://, gs://, az:// or a path"
        )


def _connection(url: str, options: dict[str, Any]) -> _Connection:
    """Sort the options, each to whom it concerns."""
    scheme = _scheme(url)
    cloud = SCHEMES.get(scheme)
    own: dict[str, Any] = {}
    for name in (
        [] if "::" in url else [name for name in options if isinstance(options[name], Mapping)]
    ):
        if name in SCHEMES or name == scheme:
            found = options.pop(name)
            own |= found if SCHEMES.get(name, name) == (cloud or scheme) else {}
    options |= own
    promised = dask.config.get("labelqc.one-writer", False)
    one_writer = _truth("one_writer", options.pop("one_writer", promised))
    if cloud is None:
        return _Connection(url, config=tuple(options.items()), one_writer=one_writer)
    client: dict[str, Any] = CLIENT_DEFAULTS | _taken(options, CLIENT, "client_options")
    retry: dict[str, Any] = RETRY_DEFAULTS | _taken(options, RETRY, "retry_config")
    retry |= retry.pop("backoff", {})
    profile = options.pop("profile", None)
    endpoint, region = options.pop("endpoint", None), options.pop("region", None)
    anonymous = _truth("anonymous", options.pop("anonymous", False))
    config: dict[str, Any] = {}
    if cloud != "http":  # which has neither keys nor regions
        config = options | {
            ENDPOINT[cloud]: endpoint,
            "skip_signature": True if anonymous else None,
            "region": region if cloud == "s3" else None,
        }
    return _Connection(
        url,
        _sorted(config),
        _sorted(client),
        _sorted(retry),
        profile if cloud == "s3" and not anonymous else None,
        one_writer,
    )


def _taken(options: dict[str, Any], names: Iterable[str], nested: str) -> dict[str, Any]:
    """Take the options of these names, and those in a mapping of their own, out of all options."""
    whole: dict[str, Any] = dict(options.pop(nested, None) or {})
    return whole | {name: options.pop(name) for name in names if name in options}


def _sorted(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, _plain(name, v)) for name, v in options.items() if v is not None))


def _plain(name: str, value: Any) -> Any:
    """Return an option in a form in which places can be told apart."""
    if name == "default_headers":
        if not isinstance(value, Mapping) or not all(
            isinstance(text, str | bytes) for pair in value.items() for text in pair
        ):
            raise InputError(
                "storage_options: default_headers must be a mapping of names to values, such as "
                f'{{"X-Tenant": "labels"}}; got a {type(value).__name__}'
            )
        return tuple(sorted((str(header), text) for header, text in value.items()))
    if not isinstance(value, str | int | float | bool | timedelta):
        raise InputError(
            f"storage_options: {name} is a {type(value).__name__}, it must be one value"
        )
    return value


def _truth(name: str, value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}
    if str(value).lower() not in known:
        raise InputError(f"storage_options: {name} is {value!r}, it must be true or false")
    return known[str(value).lower()]


def _time(name: str, value: Any) -> timedelta:
    try:
        return timedelta(seconds=float(parse_timedelta(value)))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f'storage_options: {name} is {value!r}, it must be a time such as "30s"'
        ) from error


def _connect(connection: _Connection) -> Store:
    if connection.cloud is None:
        return _connect_by_fsspec(connection)
    return ObjectStore(_object_store(connection))


@lru_cache(maxsize=64)
def _object_store(connection: _Connection) -> obstore.store.ObjectStore:
    """Return the one client of this process for a place: its connections are used again."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(
            f"{_scheme(connection.url)}:// needs the package obstore: "
            'pip install "dask-labelqc[cloud]"'
        ) from error
    try:
        found: Any = from_url(  # type: ignore[call-overload]
            connection.url,
            config=dict(connection.config) or None,
            client_options=_client_options(connection),
            retry_config=_retry_config(connection),
            **_credentials(connection),
        )
    except (BaseError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"storage_options: {connection.url} cannot be opened with these: "
            f"{_in_one_line(error, connection)}"
        ) from None
    return found


def _retry_config(connection: _Connection) -> dict[str, Any]:
    values: dict[str, Any] = {
        n: _time(n, v) if n in RETRY_TIMES else v for n, v in connection.retry
    }
    values["max_retries"] = int(values["max_retries"])
    backoff = {name: values.pop(name) for name in BACKOFF if name in values}
    return values | {"backoff": backoff}


def _client_options(connection: _Connection) -> dict[str, Any]:
    """Allow plain HTTP where the endpoint is named so, or the URL."""
    options: dict[str, Any] = {n: _time(n, v) if n in TIMES else v for n, v in connection.client}
    if "default_headers" in options:
        options["default_headers"] = dict(options["default_headers"])
    if (_endpoint(connection) or connection.url).startswith("http://"):
        options.setdefault("allow_http", True)
    return options


def _endpoint(connection: _Connection) -> str | None:
    """Return the address of a server that is not the cloud's own."""
    named = dict(connection.config)
    endpoint = named.get("endpoint") or named.get("base_url")
    if not endpoint and connection.cloud == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return str(endpoint) if endpoint else None


def _server(connection: _Connection) -> str:
    """Name a server, without keys."""
    endpoint = re.sub("//[^/]*@", "//", _endpoint(connection) or "")
    return f"{connection.url} at {endpoint}" if endpoint else connection.url


def _credentials(connection: _Connection) -> dict[str, Any]:
    """Return the credentials of a profile, unless keys are given otherwise."""
    if connection.cloud != "s3":
        return {}
    profile, config = connection.profile, dict(connection.config)
    if profile is None:
        given = config.keys() & {"access_key_id", "aws_access_key_id", "skip_signature"}
        if given or "AWS_ACCESS_KEY_ID" in os.environ:
            return {}
        profile = os.environ.get("AWS_PROFILE")
    if profile is None:
        return {}
    try:
        import boto3
        import botocore.exceptions
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise InputError(
            f"profile: {profile!r} is read by the package boto3: pip install boto3"
        ) from error
    try:
        session = boto3.Session(profile_name=profile)
        return {"credential_provider": Boto3CredentialProvider(session)}
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise InputError(f"profile: {profile!r} cannot be used: {error}") from error


def _connect_by_fsspec(connection: _Connection) -> Store:
    scheme = _scheme(connection.url)
    try:
        return FsspecStore.from_url(connection.url, storage_options=dict(connection.config))
    except ImportError as error:
        raise InputError(
            f"{scheme}:// needs fsspec and the file system's own package ({error}): "
            'pip install "dask-labelqc[cloud]"'
        ) from error
    except Exception as error:  # whatever a file system of fsspec raises
        raise InputError(
            f"{connection.url} cannot be opened: {_in_one_line(error, connection)}"
        ) from None


def _in_one_line(error: Exception, connection: _Connection) -> str:
    """Return what went wrong, without the dump of its insides and without keys."""
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(.*?)</Code>", text)
    if code is not None:
        text = f"{text.partition('<')[0].rstrip(': ')}: {code[1]}"
    if "169.254.169.254" in text:
        text += " (no keys were found in the environment, so those of the machine were asked for)"
    named = type(error).__name__ if not text else ""
    values = [v for name, v in connection.config if SECRET.search(name)]
    values += [
        v for name, pairs in connection.client if name == "default_headers" for _, v in pairs
    ]
    values += [v for name, v in os.environ.items() if name.startswith("AWS_") and _is_key(name)]
    for value in values:
        if len(str(value)) > 3:
            text = text.replace(str(value), "***")
    return " ".join(text.split()) or named


def _is_key(name: str) -> bool:
    return name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
