"""The output of an audit: one Zarr group that xarray opens as it is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.abc.store import Store
from zarr.errors import (
    GroupNotFoundError,
    NodeNotFoundError,
    ZarrUserWarning,
)

from dask_labelqc.errors import InputError, OutputError, advise
from dask_labelqc.pipeline.changes import InputStamps
from dask_labelqc.pipeline.checkpoint import OnRecord, open_record
from dask_labelqc.pipeline.fingerprint import (
    FINGERPRINT,
    Fingerprint,
    fingerprint,
    from_text,
    stored_fingerprint,
    to_text,
)
from dask_labelqc.pipeline.finish import INPUTS, OBJECTS, lost_arrays
from dask_labelqc.pipeline.inputs import Inputs
from dask_labelqc.pipeline.lease import CHECKPOINT, Lease, is_claimed
from dask_labelqc.storage.arrays import location
from dask_labelqc.storage.objects import is_absent, list_names
from dask_labelqc.storage.stores import open_store, store_url

__all__ = [
    "Output",
    "check_apart",
    "done_before",
    "open_output",
    "output_store",
    "state_of",
    "writing",
]

log = logging.getLogger(__name__)
REPLACE = advise("{overwrite} replaces it", overwrite=True)


@dataclass(frozen=True)
class Output:
    """An output that is ours to write.

    Attributes
    ----------
    group
        The Zarr group.
    complete
        It was finished before, by the same inputs and parameters.
    created
        Nothing at all was at its place before this run.
    arrays
        What the tasks write, by name: the dense outputs.
    on_record
        What earlier runs have done of it.
    """

    group: zarr.Group
    complete: bool
    created: bool = False
    arrays: Mapping[str, zarr.Array[Any]] = field(default_factory=dict)
    on_record: OnRecord | None = None


def output_store(url: str | Path, storage_options: Mapping[str, Any] | None = None) -> Store:
    """Open the store that the output goes to.

    Raises
    ------
    InputError
        The URL or the options cannot be used.
    """
    try:
        return open_store(url, storage_options, read_only=False)
    except InputError as error:
        raise InputError(f"output: {error}") from error


def check_apart(url: str | Path, store: Store, inputs: Inputs) -> None:
    """Raise OutputError if an input lies in the output, which would overwrite it, or around it."""
    place = store_url(store).rstrip("/")
    spared = tuple(f"{place}/{name}/" for name in inputs.there_before)
    for name, array in inputs.arrays.items():
        if location(array).startswith(spared):
            continue
        if f"{location(array)}/".startswith(f"{place}/"):
            raise OutputError(
                f"output: {str(url)!r} holds the {name} that are to be read, {location(array)}; "
                "name another place for the output"
            )
        if f"{place}/".startswith(f"{location(array)}/"):
            raise OutputError(
                f"output: {str(url)!r} lies in the array of the {name}, {location(array)}; name "
                "another place for the output, such as beside it"
            )


def find_output(
    url: str | Path, store: Store, inputs: Inputs, *, resume: bool, overwrite: bool
) -> zarr.Group | None:
    """Return the audit that is to be resumed or replaced, None if there is none.

    Raises
    ------
    OutputError
        What is there is not an audit, neither `resume` nor `overwrite` was asked for, or it was
        made by other inputs or parameters and is to be resumed.
    """
    found = _existing(url, store, inputs.there_before)
    if found is not None and not overwrite:
        _check_same(url, found, fingerprint(inputs), resume)
    return found


def state_of(
    url: str | Path, store: Store, inputs: Inputs
) -> Literal["absent", "complete", "other"]:
    """Say if an output is there, and if it is whole and of these inputs.

    Raises
    ------
    OutputError
        What is there is not an audit.
    """
    if is_absent(store):
        return "absent"
    with writing(url):
        found = _existing(url, store, inputs.there_before)
    if found is None:
        return "absent"
    same = stored_fingerprint(found.attrs) == fingerprint(inputs)
    return "complete" if same and found.attrs.get("status") == "complete" else "other"


def done_before(
    url: str | Path,
    store: Store,
    inputs: Inputs,
    known: InputStamps,
    *,
    resume: bool,
    overwrite: bool,
) -> zarr.Group | None:
    """Look before an output is claimed: return it if it is whole, of these inputs, and at rest.

    Raises
    ------
    OutputError
        As `find_output`; or the arguments exclude each other.
    """
    if resume and overwrite:
        raise OutputError("resume, overwrite: both were given, they exclude each other")
    if is_absent(store):
        return None
    with writing(url):
        if is_claimed(store):
            return None  # by whom, and in what state it is, will be seen
        found = find_output(url, store, inputs, resume=resume, overwrite=overwrite)
        done = (
            found is not None
            and not overwrite
            and found.attrs.get("status") == "complete"
            and found.metadata.consolidated_metadata is not None
            and not known.differing(from_text(found.attrs.get(INPUTS)))
            and not _lost(found)
        )
    return found if done else None


def open_output(
    url: str | Path,
    lease: Lease,
    inputs: Inputs,
    known: InputStamps,
    *,
    resume: bool,
    overwrite: bool,
) -> Output:
    """Create the arrays of an output that is held, or find those of an earlier run.

    Raises
    ------
    OutputError
        As `find_output`; or it cannot be written.
    """
    wanted = fingerprint(inputs)
    known.look()  # before anything is read, and where its errors are not those of the output
    try:
        with writing(url):
            found = find_output(url, lease.store, inputs, resume=resume, overwrite=overwrite)
            if found is not None and not overwrite and found.attrs.get("status") == "complete":
                changed = known.differing(from_text(found.attrs.get(INPUTS)))
                lost = [] if changed else _lost(found)
                if not changed and not lost:
                    return Output(found, complete=True)
                log.warning(
                    "output: %s is complete, but %s: all %d groups are audited again",
                    url,
                    f"its {' and '.join(changed)} changed since"
                    if changed
                    else f"some of its {' and '.join(lost)} was deleted",
                    inputs.num_groups,
                )
                overwrite = True
            created = found is None
            if found is None or overwrite:
                found = _create_group(lease.store, found, wanted)
            else:
                found.attrs["status"] = "unfinished"
            arrays = _create_arrays(found, inputs)
            record = open_record(url, found, lease.id, inputs, known)
    except ValueError as error:
        raise OutputError(f"output: {str(url)!r} is damaged ({error})", REPLACE) from error
    return Output(found, complete=False, created=created, arrays=arrays, on_record=record)


def _lost(group: zarr.Group) -> list[str]:
    """Return the arrays of a complete output of which something was deleted."""
    return lost_arrays(group, from_text(group.attrs.get(OBJECTS)))


def _create_group(store: Store, found: zarr.Group | None, wanted: Fingerprint) -> zarr.Group:
    if found is not None:
        _clear(found)
    # Deletes whatever is there, but for the claims.
    attributes: dict[str, Any] = {"status": "unfinished", FINGERPRINT: to_text(wanted)}
    return zarr.open_group(store, mode="w", attributes=attributes)


@contextmanager
def writing(url: str | Path) -> Iterator[None]:
    """Say which output cannot be written."""
    try:
        yield
    except OutputError:
        raise
    except FileExistsError as error:
        raise _not_ours(url) from error
    except PermissionError as error:
        raise OutputError(f"output: no permission to write {str(url)!r}: {error}") from error
    except OSError as error:
        raise OutputError(f"output: {str(url)!r} cannot be written: {error}") from error


def _not_ours(url: str | Path) -> OutputError:
    return OutputError(
        f"output: {str(url)!r} exists and is not an audit; name a new place for the output"
    )


def _clear(group: zarr.Group) -> None:
    """Delete an audit from the inside out.

    Killed on the way, it is an audit still, and not one that looks complete.
    """
    group.attrs["status"] = "unfinished"
    with warnings.catch_warnings(), suppress(ValueError):
        # Damaged or missing metadata: what is left is deleted all the same.
        warnings.simplefilter("ignore", ZarrUserWarning)
        names = list(group)
        # In an object store each takes several requests, one after the other.
        with ThreadPoolExecutor(len(names) or 1) as pool:
            list(pool.map(group.__delitem__, names))


def _existing(url: str | Path, store: Store, beside: Container[str]) -> zarr.Group | None:
    """Return the audit at a URL, None if nothing is there.

    Raises OutputError if something else is there: it is not ours to replace.
    """
    try:
        group = zarr.open_group(store, mode="r+")
    except (FileNotFoundError, GroupNotFoundError, NodeNotFoundError):
        if _holds_others(store, beside):
            raise _not_ours(url) from None
        return None
    except (TypeError, ValueError) as error:
        raise _not_ours(url) from error
    if stored_fingerprint(group.attrs) is None:
        raise _not_ours(url)
    if group.attrs.get("status") == "complete":
        return group
    # Where a complete output was being replaced, the consolidated metadata are out of date.
    return zarr.open_group(store, mode="r+", use_consolidated=False)


def _holds_others(store: Store, beside: Container[str]) -> bool:
    """Say if there is more in a place without a group than an audit that was hardly begun."""
    names = [name for name in list_names(store, "") if name not in beside]
    return names != [] and (names != [CHECKPOINT] or list_names(store, CHECKPOINT) != ["claims"])


def _check_same(url: str | Path, group: zarr.Group, wanted: Fingerprint, resume: bool) -> None:
    """Raise OutputError, with a way on, unless the output may be finished and is to be."""
    exists = f"output: {str(url)!r} exists already ({group.attrs.get('status', 'not an audit')})"
    had = stored_fingerprint(group.attrs) or {}
    differing = [
        f"{key} was {had.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted(had.keys() | wanted.keys())
        if had.get(key) != wanted.get(key)
    ]
    if differing:
        raise OutputError(
            f"{exists} and was made by other inputs or parameters: {'; '.join(differing)}", REPLACE
        )
    if not resume:
        both = advise("{resume} finishes it, {overwrite} replaces it", resume=True, overwrite=True)
        raise OutputError(exists, both)


def _create_arrays(group: zarr.Group, inputs: Inputs) -> dict[str, zarr.Array[Any]]:
    arrays = {}
    for output in inputs.outputs():
        found = group.get(output.name)
        if not isinstance(found, zarr.Array):
            found = group.create_array(
                output.name,
                shape=output.shape,
                chunks=output.chunks,
                dtype=output.dtype,
                fill_value=output.fill_value,
                dimension_names=output.dims,
                overwrite=True,  # chunks without metadata: a deletion that was cut short
            )
        arrays[output.name] = found
    return arrays
