"""What is given to an inspector of images, checked and in one form."""

from __future__ import annotations

import numpy as np

from dask_labelqc.errors import InputError

__all__ = ["check_bound"]


def check_bound(bound: float | None) -> float | None:
    """Return up to which score pixels that agree are kept, None for the usual bound.

    Raises
    ------
    InputError
        It is no number above 0.5 and up to 1.
    """
    if bound is None:
        return None
    number = isinstance(bound, int | float | np.number) and not isinstance(bound, bool)
    if not number or not 0.5 < bound <= 1:
        raise InputError(f"bound: got {bound!r}, it must be None, or above 0.5 and up to 1")
    return float(bound)
