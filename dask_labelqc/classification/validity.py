"""Labels that are missing or no whole numbers, and probabilities that do not sum to one."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.method.statistics import WorstSum
from dask_labelqc.method.validity import wrong_sum
from dask_labelqc.typing import AnyArray, BoolArray

__all__ = ["warn_of_sum", "whole_labels"]

LARGEST_WHOLE = 2.0**53
"""Floats above are whole numbers because they cannot be others."""


def whole_labels(
    labels: AnyArray, start: int, named_place: Callable[[int], str] = "example {}".format
) -> tuple[AnyArray, BoolArray]:
    """Return labels as integers, and which of them are masked or NaN (and 0 instead).

    Parameters
    ----------
    labels
        (n,): integers, or floats, as what decodes a fill value to NaN makes of integers.
    start, named_place
        The place of the first one, and what names a place, for the message.

    Raises
    ------
    InputError
        A float is not a whole number.

    Examples
    --------
    >>> whole_labels(np.array([2.0, np.nan]), 0)
    (array([2, 0]), array([False,  True]))
    """
    missing = np.ma.getmaskarray(labels)
    values = np.ma.getdata(labels)
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
        values = np.where(missing, 0, values)
        fractions = (values != np.trunc(values)) | (np.abs(values) > LARGEST_WHOLE)
        if fractions.any():
            first = int(np.argmax(fractions))
            raise InputError(
                f"labels: {fractions.sum()} of the {values.size} labels of examples {start} to "
                f"{start + values.size - 1} are no whole numbers, the first is {values[first]} at "
                f"{named_place(start + first)}"
            )
        return values.astype(np.int64), missing
    return np.where(missing, 0, values) if missing.any() else values, missing


def warn_of_sum(worst: WorstSum, tolerance: float, stacklevel: int = 3) -> bool:
    """Warn, and return True, if the worst sum of probabilities is off by more than allowed.

    `stacklevel` is the warning's: 3 points to the caller of the public function that calls this.
    """
    message = wrong_sum(worst, tolerance)
    if message is None:
        return False
    warnings.warn(message, LabelQCWarning, stacklevel=stacklevel)
    return True
