"""What is given to an inspector of images, checked and in one form."""

from __future__ import annotations

import numpy as np

from dask_labelqc.errors import InputError

__all__ = ["check_bound", "check_class_axis"]


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


def check_class_axis(class_axis: int) -> int:
    """Return which axis of a batch of predictions has the classes.

    Raises
    ------
    InputError
        It is no whole number, or that of the images.
    """
    whole = isinstance(class_axis, int | np.integer) and not isinstance(class_axis, bool)
    if not whole or class_axis == 0:
        raise InputError(
            f"class_axis: got {class_axis!r}, it must be the number of an axis, such as 1 or -1; "
            "0 is that of the images"
        )
    return int(class_axis)
