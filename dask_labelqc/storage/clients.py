"""The clients of stores that are not files: obstore's, and fsspec's for any other protocol."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, ObjectStore

from dask_labelqc.errors import InputError
from dask_labelqc.storage.connections import (
    BACKOFF,
    RETRY_TIMES,
    SECRET,
    TIMES,
    Connection,
    scheme_of,
    time_of,
)

if TYPE_CHECKING:
    import obstore.store

__all__ = ["connect", "in_one_line", "server_name"]


def connect(connection: Connection) -> Store:
    """Return the store at a place."""
    if connection.cloud is None:
        return _connect_by_fsspec(connection)
    return ObjectStore(_object_store(connection))


@lru_cache(maxsize=64)
def _object_store(connection: Connection) -> obstore.store.ObjectStore:
    """Return the one client of this process for a place: its connections are used again."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(
            f"{scheme_of(connection.url)}:// needs the package obstore: "
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
            f"{in_one_line(error, connection)}"
        ) from None
    return found


def _retry_config(connection: Connection) -> dict[str, Any]:
    values: dict[str, Any] = {
        n: time_of(n, v) if n in RETRY_TIMES else v for n, v in connection.retry
    }
    values["max_retries"] = int(values["max_retries"])
    backoff = {name: values.pop(name) for name in BACKOFF if name in values}
    return values | {"backoff": backoff}


def _client_options(connection: Connection) -> dict[str, Any]:
    """Allow plain HTTP where the endpoint is named so, or the URL."""
    options: dict[str, Any] = {n: time_of(n, v) if n in TIMES else v for n, v in connection.client}
    if "default_headers" in options:
        options["default_headers"] = dict(options["default_headers"])
    if (_endpoint(connection) or connection.url).startswith("http://"):
        options.setdefault("allow_http", True)
    return options


def _endpoint(connection: Connection) -> str | None:
    """Return the address of a server that is not the cloud's own."""
    named = dict(connection.config)
    endpoint = named.get("endpoint") or named.get("base_url")
    if not endpoint and connection.cloud == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return str(endpoint) if endpoint else None


def server_name(connection: Connection) -> str:
    """Name a server, without keys."""
    endpoint = re.sub("//[^/]*@", "//", _endpoint(connection) or "")
    return f"{connection.url} at {endpoint}" if endpoint else connection.url


def _credentials(connection: Connection) -> dict[str, Any]:
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


def _connect_by_fsspec(connection: Connection) -> Store:
    scheme = scheme_of(connection.url)
    try:
        return FsspecStore.from_url(connection.url, storage_options=dict(connection.config))
    except ImportError as error:
        raise InputError(
            f"{scheme}:// needs fsspec and the file system's own package ({error}): "
            'pip install "dask-labelqc[cloud]"'
        ) from error
    except Exception as error:  # whatever a file system of fsspec raises
        raise InputError(
            f"{connection.url} cannot be opened: {in_one_line(error, connection)}"
        ) from None


def in_one_line(error: Exception, connection: Connection) -> str:
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
