"""What makes an output this one: of which inputs, by which parameters, in which groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import zarr
from zarr.abc.store import Store
from zarr.errors import GroupNotFoundError, NodeNotFoundError

from dask_labelqc.pipeline.inputs import Inputs
from dask_labelqc.storage.arrays import location
from dask_labelqc.storage.objects import is_absent
from dask_labelqc.typing import Shape

__all__ = [
    "FINGERPRINT",
    "Fingerprint",
    "fingerprint",
    "from_text",
    "stored_fingerprint",
    "stored_groups",
    "to_text",
]

Fingerprint: TypeAlias = dict[str, Any]

FINGERPRINT = "fingerprint"
"""The attribute of an output that holds it."""


def fingerprint(inputs: Inputs) -> Fingerprint:
    """Return what makes an output this one: its inputs, parameters and groups, as plain JSON."""
    what: Fingerprint = {
        f"{name}.{key}": value
        for name, array in inputs.arrays.items()
        for key, value in (
            ("location", location(array)),
            ("shape", array.shape),
            ("dtype", str(array.dtype)),
            ("chunks", array.chunks),
            ("fill_value", str(array.fill_value)),
        )
    }
    everything = {**what, **inputs.fingerprint(), "groups": inputs.groups}
    plain: Fingerprint = json.loads(json.dumps(everything))
    return plain


def to_text(values: Mapping[str, Any]) -> str:
    """Return plain values as one text: NetCDF has no attributes with names of their own.

    Examples
    --------
    >>> to_text({"groups": (2, 6)})
    '{"groups": [2, 6]}'
    """
    return json.dumps(values)


def from_text(attribute: Any) -> dict[str, Any] | None:
    """Return what `to_text` was given, None if this is not its text."""
    try:
        values = json.loads(attribute)
    except (TypeError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def stored_fingerprint(attributes: Mapping[str, Any]) -> Fingerprint | None:
    """Return the fingerprint in the attributes of a group, None if it is no output of an audit."""
    return from_text(attributes.get(FINGERPRINT))


def stored_groups(store: Store) -> Shape | None:
    """Return the groups of an output, None if there is no output."""
    if is_absent(store):
        return None
    try:
        attributes = zarr.open_group(store, mode="r", use_consolidated=False).attrs
        found = stored_fingerprint(attributes) or {}
        return tuple(int(n) for n in found["groups"])
    # That it is no output of ours, or damaged, is said where it is opened for writing.
    except (FileNotFoundError, GroupNotFoundError, NodeNotFoundError):
        return None
    except (KeyError, TypeError, ValueError):
        return None
