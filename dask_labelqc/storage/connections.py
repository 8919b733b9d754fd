"""What it takes to open a store, sorted from its URL and from storage options.

Keys come from the environment, a profile or `storage_options`; command lines and what is kept with
an output have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dask.config
from dask.utils import parse_timedelta

from dask_labelqc.errors import InputError

__all__ = [
    "BACKOFF",
    "RETRY_DEFAULTS",
    "RETRY_TIMES",
    "SECRET",
    "TIMES",
    "Connection",
    "check_url",
    "connection_of",
    "parse_storage_options",
    "scheme_of",
    "time_of",
    "without_keys",
]

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
class Connection:
    """What it takes to open a store, on any worker."""

    url: str
    config: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    client: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    retry: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    profile: str | None = None
    one_writer: bool = False

    @property
    def cloud(self) -> str | None:
        return SCHEMES.get(scheme_of(self.url))


def check_url(url: str, read_only: bool) -> None:
    """Raise InputError if a URL has keys in it, or cannot be written to."""
    scheme = scheme_of(url)
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


def connection_of(url: str, options: dict[str, Any]) -> Connection:
    """Sort the options, each to whom it concerns."""
    scheme = scheme_of(url)
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
        return Connection(url, config=tuple(options.items()), one_writer=one_writer)
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
    return Connection(
        url,
        _sorted(config),
        _sorted(client),
        _sorted(retry),
        profile if cloud == "s3" and not anonymous else None,
        one_writer,
    )


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


def time_of(name: str, value: Any) -> timedelta:
    """Return the value of an option that is a time."""
    try:
        return timedelta(seconds=float(parse_timedelta(value)))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f'storage_options: {name} is {value!r}, it must be a time such as "30s"'
        ) from error


def scheme_of(url: str) -> str:
    """Return the protocol that a URL names."""
    return url.partition("://")[0].lower()
