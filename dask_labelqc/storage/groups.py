"""What Zarr groups need besides their arrays."""

from __future__ import annotations

import warnings

import zarr

__all__ = ["consolidate"]


def consolidate(group: zarr.Group) -> zarr.Group:
    """Put the metadata of a group's arrays in its own, so that xarray opens it in one read."""
    with warnings.catch_warnings():
        # That the specification of Zarr 3 does not mention consolidated metadata.
        warnings.simplefilter("ignore")
        return zarr.consolidate_metadata(group.store, path=group.path or None)
