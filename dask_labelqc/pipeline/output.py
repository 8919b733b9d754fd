"""The output of an audit: one Zarr group that xarray opens as it is."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.errors import (
    GroupNotFoundError,
    NodeNotFoundError,
    ZarrUserWarning,
)
from zarr.storage import LocalStore

from dask_labelqc.errors import InputError, OutputError, advise
from dask_labelqc.pipeline.changes import InputStamps
from dask_labelqc.pipeline.fingerprint import (
    FINGERPRINT,
    Fingerprint,
    fingerprint,
    from_text,
    stored_fingerprint,
    to_text,
)
from dask_labelqc.pipeline.inputs import Inputs
from dask_labelqc.pipeline.lease import CHECKPOINT, Lease, is_claimed
from dask_labelqc.pipeline.recorded import FORM
from dask_labelqc.storage.arrays import location
from dask_labelqc.storage.fence import FencedStore
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.objects import is_absent, list_names, tag_of
from dask_labelqc.storage.records import Records
from dask_labelqc.storage.stores import open_store, store_url

__all__ = [
    "INPUTS",
    "Output",
    "check_apart",
    "check_written",
    "done_before",
    "finish_output",
    "open_output",
    "output_store",
    "scan_records",
    "state_of",
    "tidy_output",
    "write_small",
    "writing",
]

NOT_AUDITED = "not_audited"
INPUTS = "inputs"
CLAIMED = "claims"
RECORDS_FORM = "form"
FORMER = 1
"""The form of records that do not say theirs."""
PARTIAL = re.compile(r"zarr\..*\.partial")
LOOKED_AT_ONCE = 16
RECORDS, LISTS = "summaries", "lists"
MOST_SCANS = 3
"""Of examples; what is on record of any but the first is of no use once inputs have changed."""

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
    claims
        Under which the records that count were written; the last is our own.
    records, lists
        What is on record of the groups, and beside that.
    """

    group: zarr.Group
    complete: bool
    created: bool = False
    arrays: Mapping[str, zarr.Array[Any]] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    records: Records | None = None
    lists: Records | None = None


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
                if not changed:
                    return Output(found, complete=True)
                log.warning(
                    "output: %s is complete, but its %s changed since: "
                    "all %d groups are audited again",
                    url,
                    " and ".join(changed),
                    inputs.num_groups,
                )
                overwrite = True
            created = found is None
            if found is None or overwrite:
                found = _create_group(lease.store, found, wanted)
            else:
                found.attrs["status"] = "unfinished"
            checkpoint = found.require_group(CHECKPOINT)
            _drop_other_form(url, checkpoint, inputs.num_groups)
            arrays = _create_arrays(found, inputs)
            records = scan_records(found, 0, inputs.num_groups)
            lists = Records.open(checkpoint, LISTS, inputs.num_lists) if inputs.num_lists else None
            claims = _claims(checkpoint, lease.id)
            _drop_changed(checkpoint, records, known, resumed=len(claims) > 1)
    except ValueError as error:
        raise OutputError(f"output: {str(url)!r} is damaged ({error})", REPLACE) from error
    return Output(
        found,
        complete=False,
        created=created,
        arrays=arrays,
        claims=claims,
        records=records,
        lists=lists,
    )


def scan_records(group: zarr.Group, scan: int, num_groups: int) -> Records:
    """Return what is on record of the groups from one of the scans, the first of which is 0."""
    return Records.open(group.require_group(CHECKPOINT), _name(scan), num_groups)


def _name(scan: int) -> str:
    return f"{RECORDS}_{scan + 1}" if scan else RECORDS


def _create_group(store: Store, found: zarr.Group | None, wanted: Fingerprint) -> zarr.Group:
    if found is not None:
        _clear(found)
    elif isinstance(inside := getattr(store, "inside", store), LocalStore):
        _drop_partial(inside.root)
    # Deletes whatever is there, but for the claims.
    attributes: dict[str, Any] = {"status": "unfinished", FINGERPRINT: to_text(wanted)}
    return zarr.open_group(store, mode="w", attributes=attributes)


def _claims(checkpoint: zarr.Group, own: str) -> tuple[str, ...]:
    """Return the claims under which the records that count were written, and add our own."""
    had = checkpoint.attrs.get(CLAIMED, [])
    assert isinstance(had, list)
    claims = (*(str(claim) for claim in had), own)
    checkpoint.update_attributes({CLAIMED: list(claims), RECORDS_FORM: FORM})
    return claims


def _drop_other_form(url: str | Path, checkpoint: zarr.Group, num_groups: int) -> None:
    """Delete the records of an earlier run if another version wrote them, in a form of its own."""
    had = checkpoint.attrs.get(RECORDS_FORM, FORMER)
    if CLAIMED in checkpoint.attrs and had != FORM:
        log.warning(
            "output: %s was begun by another version of dask-labelqc, whose records (form %s) this "
            "one, with form %d, does not read: all %d groups are audited again",
            url,
            had,
            FORM,
            num_groups,
        )
        _drop_scans(checkpoint, range(MOST_SCANS))
        if LISTS in checkpoint:
            del checkpoint[LISTS]


def _drop_scans(checkpoint: zarr.Group, scans: Iterable[int]) -> None:
    for name in map(_name, scans):
        if name in checkpoint:
            del checkpoint[name]


def _drop_changed(
    checkpoint: zarr.Group, records: Records, known: InputStamps, *, resumed: bool
) -> None:
    """Delete the records of inputs that are not there any more, then keep what is there now.

    Killed in between, the next run finds them changed again.
    """
    if known.trusted:
        return
    if resumed:
        changed = known.changed(checkpoint)
        records.remove(changed)
        if changed:
            _drop_scans(checkpoint, range(1, MOST_SCANS))
            log.warning(
                "%d of %d groups are audited again: their labels or predictions changed since",
                len(changed),
                records.array.size,
            )
    known.keep(checkpoint)


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
    found = (name for name in list_names(store, "") if name not in beside)
    names = [name for name in found if not PARTIAL.fullmatch(name)]
    return names != [] and (names != [CHECKPOINT] or list_names(store, CHECKPOINT) != ["claims"])


def _drop_partial(path: Path) -> None:
    """Delete what Zarr leaves behind if it is killed in the very first write of a group."""
    for file in path.iterdir():
        if PARTIAL.fullmatch(file.name):
            file.unlink()


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


def write_small(group: zarr.Group, name: str, dims: tuple[str, ...], values: Any) -> None:
    """Write a small output whole."""
    data = np.asarray(values)
    chunks = tuple(max(length, 1) for length in data.shape)  # of no issues there are none
    group.create_array(name, data=data, chunks=chunks, dimension_names=dims, overwrite=True)


def check_written(group: zarr.Group) -> None:
    """See that the small outputs are those that this process wrote.

    Raises
    ------
    OutputError
        Something else wrote to them.
    """
    store = group.store
    assert isinstance(store, FencedStore)

    def differs(key: str) -> bool:
        return store.written[key] not in ("", tag_of(store, key))

    keys = [key for key in store.written if key != "zarr.json"]
    with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:
        others = [key for key, other in zip(keys, pool.map(differs, keys), strict=True) if other]
    if others:
        raise OutputError(
            f"output: {group.store_path}/{others[0]} is not what was written; something else "
            "writes there",
            advise("end that, then {resume} goes on from here", resume=True),
        )


def finish_output(
    group: zarr.Group, attributes: Mapping[str, Any], not_audited: Sequence[int]
) -> None:
    """Mark an output whole, then tidy it; or partial, and keep the records for a later run."""
    what = {"version": version("dask-labelqc"), "status": "partial" if not_audited else "complete"}
    left_out = {NOT_AUDITED: list(not_audited)} if not_audited else {}
    new = {**attributes} | what | left_out
    # In the same order whatever an earlier run has left.
    replaced = {NOT_AUDITED, INPUTS, *new} - {"status"}
    had = {key: value for key, value in group.attrs.items() if key not in replaced}
    group.attrs.put(had | new)
    if not_audited:
        consolidate(group)
    else:
        tidy_output(group)


def tidy_output(group: zarr.Group) -> None:
    """Delete the records of a complete output and consolidate its metadata, unless it is done.

    xarray looks for consolidated metadata first, and warns if there are none.
    """
    if group.metadata.consolidated_metadata is not None:
        return
    del group[CHECKPOINT]
    consolidate(group)
