"""Where inspectors put their records: an output that is none of another kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_labelqc.errors import OutputError
from dask_labelqc.pipeline.output import output_store, writing
from dask_labelqc.storage.ledger import FOLDER, Ledger
from dask_labelqc.storage.objects import is_absent, list_names

__all__ = ["open_ledger"]


def open_ledger(output: str | Path, storage_options: Mapping[str, Any] | None = None) -> Ledger:
    """Return the records of an output that is there, or can be made.

    Raises
    ------
    InputError
        The URL or the options cannot be used.
    OutputError
        Something else is there.
    """
    store = output_store(output, storage_options)
    with writing(output):
        there = [] if is_absent(store) else list_names(store, "")
    if FOLDER not in there and any(not name.endswith(".partial") for name in there):
        raise OutputError(
            f"output: {str(output)!r} exists and is no output of an inspector; name a new place "
            "for it"
        )
    return Ledger(store)
