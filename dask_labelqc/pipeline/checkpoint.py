"""What is on record in an output of its groups, and which of it counts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zarr

from dask_labelqc.pipeline.changes import InputStamps
from dask_labelqc.pipeline.inputs import Inputs
from dask_labelqc.pipeline.lease import CHECKPOINT
from dask_labelqc.pipeline.recorded import FORM
from dask_labelqc.storage.records import Records

__all__ = ["OnRecord", "open_record", "scan_records"]

CLAIMED = "claims"
RECORDS_FORM = "form"
FORMER = 1
"""The form of records that do not say theirs."""
RECORDS, LISTS = "summaries", "lists"
MOST_SCANS = 3
"""Of examples; what is on record of any but the first is of no use once inputs have changed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnRecord:
    """What is on record.

    Attributes
    ----------
    claims
        Under which the records that count were written; the last is our own.
    records, lists
        Of the groups, and beside that.
    """

    claims: tuple[str, ...]
    records: Records
    lists: Records | None


def open_record(
    url: str | Path, output: zarr.Group, claim: str, inputs: Inputs, known: InputStamps
) -> OnRecord:
    """Return what earlier runs of the same job have done, without what changed since."""
    checkpoint = output.require_group(CHECKPOINT)
    _drop_other_form(url, checkpoint, inputs.num_groups)
    records = scan_records(output, 0, inputs.num_groups)
    lists = Records.open(checkpoint, LISTS, inputs.num_lists) if inputs.num_lists else None
    _drop_changed(checkpoint, records, known)
    return OnRecord(_claims(checkpoint, claim), records, lists)


def scan_records(group: zarr.Group, scan: int, num_groups: int) -> Records:
    """Return what is on record of the groups from one of the scans, the first of which is 0."""
    return Records.open(group.require_group(CHECKPOINT), _name(scan), num_groups)


def _name(scan: int) -> str:
    return f"{RECORDS}_{scan + 1}" if scan else RECORDS


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


def _drop_changed(checkpoint: zarr.Group, records: Records, known: InputStamps) -> None:
    """Delete the records of inputs that are not there any more, then keep what is there now.

    Killed in between, the next run finds them changed again. Before the first claim is noted there
    are no records: what was kept until then may be half of it, and is not looked at.
    """
    if known.trusted:
        return
    if CLAIMED in checkpoint.attrs:
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
