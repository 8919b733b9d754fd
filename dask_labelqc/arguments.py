"""Arguments of public functions that several have, checked."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError

__all__ = ["check_flag", "number_of_threads", "positive_integer"]


def positive_integer(name: str, value: Any) -> int:
    """Return the value of an argument as a Python integer.

    Raises
    ------
    InputError
        It is not an integer of 1 or more.
    """
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < 1:
        raise InputError(f"{name}: got {value!r}, it must be an integer of 1 or more")
    return int(value)


def check_flag(name: str, value: Any) -> None:
    """Raise InputError if the value of an argument is neither True nor False, nor 1 or 0."""
    if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
        raise InputError(f"{name}: got {value!r}, it must be True or False")


def number_of_threads(n_jobs: Any) -> int:
    """Return how many threads are meant; None means one for each core.

    Raises
    ------
    InputError
        It is neither None nor an integer of 1 or more.
    """
    return positive_integer("n_jobs", os.cpu_count() or 1 if n_jobs is None else n_jobs)
