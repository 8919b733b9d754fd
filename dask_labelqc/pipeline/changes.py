"""Which groups' labels or predictions changed since they were read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import zarr

from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.pipeline.inputs import Inputs
from dask_labelqc.pipeline.stamps import Stamps, summed_up

__all__ = ["InputStamps"]

STAMPS_CHUNK = 2**20

log = logging.getLogger(__name__)


class InputStamps:
    """What the stores say of the inputs' chunks, listed when it is first asked for.

    An output keeps the stamps of its groups beside their records, and their sum for good. They are
    those of before the first group was read: what changes while a job runs is found by the next.

    Attributes
    ----------
    trusted
        Nothing is to be looked at.
    """

    def __init__(self, inputs: Inputs, *, trusted: bool) -> None:
        self._inputs, self.trusted = inputs, trusted

    def of(self, inputs: Inputs) -> InputStamps:
        """Return the same for other groups; of the same groups, what was listed is kept."""
        if inputs.groups == self._inputs.groups:
            return self
        return InputStamps(inputs, trusted=self.trusted)

    @cached_property
    def listed(self) -> dict[str, Stamps]:
        """By name of the input; without those whose store does not tell.

        Raises
        ------
        InputError
            A store did not answer.
        """
        if self.trusted:
            return {}
        found = {}
        for name in self._inputs.places:
            try:
                stamps = self._inputs.stamps(name)
            except StoreError as error:
                raise InputError(f"{name}: {error}") from error
            if stamps is not None:
                found[name] = stamps
        return found

    def tell_of_labels(self) -> bool:
        """Say if the stores tell whether labels changed."""
        return self._inputs.labels & self._inputs.places.keys() <= self.listed.keys()

    def look(self) -> None:
        """List the inputs, unless that is done."""
        assert self.listed is not None

    @property
    def attribute(self) -> dict[str, str]:
        """What a complete output keeps."""
        return {name: summed_up(stamps) for name, stamps in self.listed.items()}

    def differing(self, attribute: Any) -> list[str]:
        """Return which inputs are not those that a complete output was made of."""
        had: Mapping[str, str] = attribute if isinstance(attribute, dict) else {}
        self._tell_what_is_trusted({name for name in self.listed if name in had})
        return [n for n, now in self.attribute.items() if n in had and had[n] != now]

    def changed(self, checkpoint: zarr.Group) -> list[int]:
        """Return the groups whose chunks are not those that their records were made of."""
        changed = np.zeros(self._inputs.num_groups, bool)
        known = set()
        for name, now in self.listed.items():
            before = _read(checkpoint, name)
            if before is not None:
                known.add(name)
                changed |= before != now
        self._tell_what_is_trusted(known)
        return [int(number) for number in np.flatnonzero(changed)]

    def keep(self, checkpoint: zarr.Group) -> None:
        """Write the stamps beside the records that will be made from now on."""
        for name, stamps in self.listed.items():
            chunks = (min(len(stamps), STAMPS_CHUNK),)
            checkpoint.create_array(_name(name), data=stamps, chunks=chunks, overwrite=True)

    def _tell_what_is_trusted(self, known: set[str]) -> None:
        if self.trusted:
            return
        for name, place in self._inputs.places.items():
            if name not in known:
                log.warning(
                    "%s: whether %s changed since it was read is not known (its store does not "
                    "tell, or was not asked then); it is trusted not to have",
                    name,
                    place,
                )


def _name(name: str) -> str:
    return f"stamps_of_{name}"


def _read(checkpoint: zarr.Group, name: str) -> Stamps | None:
    """Return the stamps that an earlier run kept; zeros, which nothing has, if they are damaged."""
    try:
        found = checkpoint.get(_name(name))
        if found is None:
            return None
        assert isinstance(found, zarr.Array)
        return np.asarray(found[:])
    except Exception:  # whatever a codec raises over a chunk that was cut short
        return np.zeros(1, np.uint64)
