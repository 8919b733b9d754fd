"""The lists in a JSON file, plain or gzip, read entry by entry; a fault names the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dask_labelqc.errors import InputError

__all__ = ["entries", "is_list"]

GZIP, BYTE_ORDER_MARK = b"\x1f\x8b", b"\xef\xbb\xbf"
SPACES = b" \t\r\n"


def is_list(path: str | Path) -> bool:
    """Say if a JSON file is a list, rather than an object of named lists.

    Raises
    ------
    InputError
        It is neither, or cannot be read.
    """
    with _read(path) as file:
        first = file.read(1)
        while first and first in SPACES:
            first = file.read(1)
    if first not in (b"[", b"{"):
        begins = f"begins with {first!r}" if first else "is empty"
        raise InputError(f"{path} {begins}; it must be a JSON list or object")
    return first == b"["


def entries(path: str | Path, key: str | None, *, required: bool = True) -> Iterator[Any]:
    """Yield the entries of a list, of which one is held at a time.

    Parameters
    ----------
    path
        A JSON file.
    key
        Of the list in the object that the file is; None when the file is the list.
    required
        Whether there must be such a list.

    Raises
    ------
    ImportError
        ijson is not installed.
    InputError
        The file is damaged, or has no such list.
    """
    ijson, found = _ijson(), 0
    with _read(path, lambda: f" after {found} entries of {key or 'the list'}") as file:
        for entry in ijson.items(file, f"{key}.item" if key else "item", use_float=True):
            found += 1
            yield entry
    # An empty list gives nothing, and so do a missing one and an object in its place.
    if key is not None and required and not found:
        _require_list(path, key)


def _require_list(path: str | Path, key: str) -> None:
    keys = []
    with _read(path) as file:
        for prefix, event, value in _ijson().parse(file, use_float=True):
            if prefix == key:
                if event == "start_array":
                    return
                raise InputError(f"{path}: {key} must be a list, got {event.replace('_', ' ')}")
            if (prefix, event) == ("", "map_key"):
                keys.append(value)
    raise InputError(f"{path} has no {key!r}; it has {keys[:10]}")


@contextmanager
def _read(path: str | Path, where: Any = str) -> Iterator[IO[bytes]]:
    """Open a file, unpacked and without its byte order mark; `where` says how far reading got."""
    damaged = (EOFError, UnicodeError, zlib.error, gzip.BadGzipFile, _ijson().JSONError)
    try:
        with Path(path).open("rb") as raw:
            file: Any = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP else raw
            if file.peek(3)[:3] == BYTE_ORDER_MARK:
                file.read(3)
            yield file
    except damaged as error:
        text = error.args[0] if error.args else error
        text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        reason = " ".join(text.partition("\n")[0].split())
        raise InputError(f"{path} is no whole JSON file{where()}: {reason}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _ijson() -> Any:
    try:
        import ijson  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            'from_coco needs ijson to read the files as a stream: pip install "dask-labelqc[coco]"'
        ) from error
    return ijson
