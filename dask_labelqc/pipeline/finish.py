"""The end of a job: small outputs are written and looked at, and the output is marked whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np
import zarr

from dask_labelqc.errors import OutputError, advise
from dask_labelqc.pipeline.lease import CHECKPOINT
from dask_labelqc.storage.fence import FencedStore
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.objects import list_tags, tag_of

__all__ = [
    "INPUTS",
    "OBJECTS",
    "check_written",
    "count_objects",
    "finish_output",
    "lost_arrays",
    "tidy_output",
    "write_small",
]

NOT_AUDITED = "not_audited"
INPUTS = "inputs"
OBJECTS = "num_objects"
"""The attribute that says how many objects each array of a complete output is stored as."""
PARTIAL = ".partial"
"""Ends the names of what a killed writer leaves."""
LOOKED_AT_ONCE = 16


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


def count_objects(group: zarr.Group, names: Iterable[str]) -> dict[str, int]:
    """Count the objects that arrays are stored as; without those whose store does not tell."""

    def count(name: str) -> int | None:
        listed = list_tags(group.store, name)
        return None if listed is None else sum(not key.endswith(PARTIAL) for key, _ in listed)

    in_order = sorted(names)
    with ThreadPoolExecutor(LOOKED_AT_ONCE) as pool:
        counts = zip(in_order, pool.map(count, in_order), strict=True)
        return {name: number for name, number in counts if number is not None}


def lost_arrays(group: zarr.Group, had: Mapping[str, int] | None) -> list[str]:
    """Return the arrays of a complete output that lack objects which they had.

    A chunk without an issue is not stored, so that a chunk is not there says nothing by itself.
    """
    had = had or {}
    return [name for name, number in count_objects(group, had).items() if number < had[name]]


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
