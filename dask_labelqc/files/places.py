"""Files by their URLs: which there are, of which image each is, and what is in one."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from os.path import commonpath
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from zarr.abc.store import Store
from zarr.storage import LocalStore

from dask_labelqc.arguments import check_unicode
from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.storage.objects import list_keys, list_tags, open_object, read_object, tag_of
from dask_labelqc.storage.stores import RemoteStore, open_store

__all__ = ["Files", "Locations", "find_files", "is_pattern", "one_file", "suffix_of"]

Locations: TypeAlias = "str | Path | Sequence[str | Path]"
"""A folder, a pattern with * or {id}, a file, or several files."""

WILD = re.compile(r"[*?\[]|\{id\}")
TOGETHER = (".nii.gz",)
"""Endings of two parts."""
SHOWN = 3
ASKED_AT_ONCE = 16


@dataclass(frozen=True)
class Files:
    """Files of one store, each of an image.

    Attributes
    ----------
    store
        Whose keys these are.
    place
        Path or URL of the store.
    keys
        By the id of the image.
    tags
        What the store says that changes with each, by key; empty if it was not asked.
    """

    store: Store
    place: str
    keys: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def ids(self) -> list[str]:
        """In their order."""
        return sorted(self.keys)

    def name(self, id: str) -> str:
        """Return the path or URL of a file."""
        return f"{self.place}/{self.keys[id]}"

    def tag(self, id: str) -> str | None:
        """Return what changes with a file, None if the store does not tell."""
        return self.tags.get(self.keys[id])

    def path(self, id: str) -> Path | None:
        """Return the path of a file of this machine."""
        return self.store.root / self.keys[id] if isinstance(self.store, LocalStore) else None

    def read(self, id: str) -> BinaryIO:
        """Return all of a file."""
        if (path := self.path(id)) is not None:
            return path.open("rb")
        data = read_object(self.store, self.keys[id])
        if data is None:
            raise FileNotFoundError(self.name(id))
        return io.BytesIO(data)

    @contextmanager
    def open(self, id: str) -> Iterator[BinaryIO]:
        """Open a file of which a part is to be read."""
        path = self.path(id)
        with (
            path.open("rb") if path is not None else open_object(self.store, self.keys[id]) as file
        ):
            yield file

    def __getstate__(self) -> dict[str, Any]:
        # Of a million images that is too much for each task to bring.
        return {
            "store": self.store,
            "place": self.place,
            "keys": _Regular.of(self.keys),
            "tags": {},
        }


class _Regular(Mapping[str, str]):
    """Keys that are all made of their ids in the same way, as a task needs them."""

    def __init__(self, before: str, after: str) -> None:
        self.before, self.after = before, after

    @classmethod
    def of(cls, keys: Mapping[str, str]) -> Mapping[str, str]:
        """Return keys in this form, if they have it."""
        if isinstance(keys, cls):
            return keys
        id, key = next(iter(keys.items()))
        before, _, after = key.rpartition(id)
        regular = all(key == f"{before}{id}{after}" for id, key in keys.items())
        return cls(before, after) if regular else keys

    def __getitem__(self, id: str) -> str:
        return f"{self.before}{id}{self.after}"

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("a task knows only the ids of its images")

    def __len__(self) -> int:
        return 1


def suffix_of(key: str) -> str:
    """Return the ending of a name, in small letters.

    Examples
    --------
    >>> suffix_of("liver_001.NII.GZ"), suffix_of("a/b.png")
    ('.nii.gz', '.png')
    """
    name = key.rpartition("/")[2].lower()
    double = [ending for ending in TOGETHER if name.endswith(ending)]
    return double[0] if double else Path(name).suffix


def one_file(
    location: str | Path, storage_options: Mapping[str, Any] | None = None
) -> tuple[Store, str, str]:
    """Return the store of a file, the store's URL, and the key of the file in it."""
    text = _absolute(str(location))
    root, _, key = text.rpartition("/")
    return open_store(root, storage_options), root, key


def find_files(
    side: str,
    location: Locations,
    suffixes: Iterable[str],
    storage_options: Mapping[str, Any] | None = None,
) -> Files:
    """Find files, and of which image each is.

    The id of an image is what stands for ``{id}`` in the pattern, else the name of its file
    without the ending.

    Parameters
    ----------
    side
        "labels" or "pred_probs", for the message.
    location
        A folder, a pattern, a file, or several files.
    suffixes
        That files of a folder have; others are left alone.
    storage_options
        Of the store.

    Raises
    ------
    InputError
        There are none, several kinds in one folder, or two of the same image.
    """
    if not isinstance(location, str | Path):
        return _listed(side, [_absolute(str(one)) for one in location], storage_options)
    text = _absolute(str(location))
    root, wild = _cut(text)
    if wild is None and suffix_of(text) in suffixes:
        return _listed(side, [text], storage_options)
    pattern = None if wild is None else _expression(wild)
    store = open_store(root, storage_options)
    if wild is None and isinstance(store, LocalStore) and not store.root.is_dir():
        raise InputError(f"{side}: {str(location)!r} is not there")
    found: dict[str, list[str]] = defaultdict(list)
    tags = {}
    for key, tag in _listing(side, store, root):
        match = pattern.fullmatch(key) if pattern else None
        if match is None and (pattern or suffix_of(key) not in suffixes):
            continue
        found[match["id"] if match and "id" in match.groupdict() else _stem(key)].append(key)
        if tag:
            tags[key] = tag
    return _one_each(side, str(location), Files(store, root, {}, tags), found)


def is_pattern(location: str) -> bool:
    """Say if a path or URL names several files by a pattern."""
    return _cut(_absolute(location))[1] is not None


def _cut(text: str) -> tuple[str, str | None]:
    """Return the folder that a path or URL begins with, and the pattern below it, if there is one.

    What is there by that name is no pattern, whatever is in the name.
    """
    names = text.split("/")
    for i, name in enumerate(names):
        folder = "/".join(names[:i])
        if WILD.search(name) and not ("://" not in text and Path(folder, name).exists()):
            return folder, "/".join(names[i:])
    return text.rstrip("/"), None


def _listed(side: str, urls: Sequence[str], storage_options: Mapping[str, Any] | None) -> Files:
    """Return files that are named one by one."""
    if not urls:
        raise InputError(f"{side}: got no files")
    remote = "://" in urls[0]
    if remote:
        root = urls[0].rpartition("/")[0]
        while not all(url.startswith(f"{root}/") for url in urls):
            root = root.rpartition("/")[0]
        if root.endswith(":/"):
            raise InputError(f"{side}: {urls[0]!r} and others are in different stores")
    else:
        root = commonpath([str(Path(url).parent) for url in urls])
    store = open_store(root, storage_options)
    found: dict[str, list[str]] = defaultdict(list)
    tags: dict[str, str] = {}
    keys = [url[len(root.rstrip("/")) + 1 :] for url in urls]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        for key, tag in zip(keys, pool.map(lambda key: tag_of(store, key), keys), strict=True):
            if tag is None and not isinstance(store, RemoteStore):
                raise InputError(f"{side}: {root}/{key} is not there")
            found[_stem(key)].append(key)
            tags |= {key: tag} if tag else {}
    return _one_each(side, urls[0], Files(store, root, {}, tags), found)


def _one_each(side: str, location: str, files: Files, found: Mapping[str, Sequence[str]]) -> Files:
    """See that there are files, of one kind, and one of each image."""
    if not found:
        raise InputError(f"{side}: {location!r} has no files that an audit can read")
    for id, keys in found.items():
        check_unicode(side, keys[0])
        if len(keys) > 1:
            raise InputError(
                f"{side}: {keys[0]!r} and {keys[1]!r} in {files.place} are both of the image "
                f"{id!r}; a pattern says what of a name is the id, such as 'masks/*/{{id}}.png'"
            )
    kinds: dict[str, str] = {}
    for id in sorted(found):
        kinds.setdefault(suffix_of(found[id][0]), found[id][0])
    if len(kinds) > 1 and len({ending.replace("tiff", "tif") for ending in kinds}) > 1:
        raise InputError(
            f"{side}: {location!r} has files of several kinds, such as "
            f"{', '.join(islice(kinds.values(), SHOWN))}; name those of one, such as "
            f"'{files.place}/*{next(iter(kinds))}'"
        )
    first = {id: each[0] for id, each in found.items()}
    tags = {key: files.tags[key] for key in first.values() if key in files.tags}
    return Files(files.store, files.place, first, tags)


def _listing(side: str, store: Store, root: str) -> Iterator[tuple[str, str]]:
    try:
        listed = list_tags(store, "")
        yield from ((key, "") for key in list_keys(store)) if listed is None else listed
    except (StoreError, NotImplementedError) as error:
        raise InputError(
            f"{side}: {root} cannot be listed, name its files one by one: {error}"
        ) from error


def _absolute(text: str) -> str:
    if "://" in text and not text.startswith("file://"):
        return text
    path = text.removeprefix("file://")
    absolute = Path(path).absolute()
    return f"{absolute}/" if path.endswith("/") else str(absolute)


def _stem(key: str) -> str:
    name = key.rpartition("/")[2]
    ending = suffix_of(name)
    return name[: len(name) - len(ending)] if ending else name


def _expression(pattern: str) -> re.Pattern[str]:
    """Return what a pattern stands for: ``*`` and ``{id}`` are within a folder, ``**`` is not.

    Examples
    --------
    >>> _expression("*/{id}_mask.png").fullmatch("train/a7_mask.png")["id"]
    'a7'
    """
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{id}": "(?P<id>[^/]+)"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\{id\}|\[[^]/]+\])", pattern)
    seen = False
    written = []
    for part in parts:
        if part == "{id}" and seen:
            written.append("(?P=id)")
            continue
        seen |= part == "{id}"
        is_set = part.startswith("[") and part.endswith("]")
        written.append(
            part.replace("[!", "[^") if is_set else meanings.get(part) or re.escape(part)
        )
    return re.compile("".join(written), re.DOTALL)
