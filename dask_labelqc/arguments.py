"""Arguments of public functions that several have, checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError

__all__ = [
    "check_flag",
    "check_unicode",
    "names_of_classes",
    "number_of_classes",
    "number_of_threads",
    "positive_integer",
    "texts_of_ids",
]

SHOWN = 3


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


def check_unicode(name: str, text: str) -> None:
    """Raise InputError if a text cannot be written as UTF-8: of a file's name in other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{name}: {text!r} is no Unicode text, as the name of a file that is not in UTF-8; "
            "rename it"
        ) from None


def texts_of_ids(ids: Any, name: str = "ids", *, unique: bool = False) -> list[str]:
    """Return ids as texts; whole numbers are written in decimal digits.

    Raises
    ------
    InputError
        One is neither a text nor a whole number, or no Unicode; or, if they are to be `unique`, one
        stands for two items.

    Examples
    --------
    >>> texts_of_ids(["tile_7", 12, np.int64(3)])
    ['tile_7', '12', '3']
    """
    if isinstance(ids, str | bytes | Mapping):
        raise InputError(f"{name}: got {ids!r}, it must be a sequence of texts or whole numbers")
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        found = [_text(value, i, name) for i, value in enumerate(values)]
    except TypeError:
        raise InputError(
            f"{name}: got {ids!r}, it must be a sequence of texts or whole numbers"
        ) from None
    if unique and len(set(found)) < len(found):
        twice = [value for value, count in Counter(found).items() if count > 1]
        stand = "stands" if len(twice) == 1 else "stand"
        raise InputError(
            f"{name}: {', '.join(map(repr, twice[:SHOWN]))}{', ...' * (len(twice) > SHOWN)} "
            f"{stand} for more than one item; each must have an id of its own"
        )
    return found


def _text(value: Any, place: int, name: str) -> str:
    if isinstance(value, str):
        check_unicode(name, value)
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a tensor of one number
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise InputError(f"{name}: got {value!r} at {place}, it must be a text or a whole number")


def number_of_classes(name: str, num_classes: Any, least: int = 2) -> int:
    """Return how many classes there are.

    Raises
    ------
    InputError
        It is not a whole number, or too low.
    """
    whole = isinstance(num_classes, int | np.integer) and not isinstance(num_classes, bool)
    if not whole or num_classes < least:
        raise InputError(f"{name}: got {num_classes!r}, it must be an integer of {least} or more")
    return int(num_classes)


def names_of_classes(
    class_names: Sequence[str] | Mapping[int, str] | None, num_classes: int
) -> dict[int, str]:
    """Return the names that classes have.

    Raises
    ------
    InputError
        They are not as many as there are classes, or of others.

    Examples
    --------
    >>> names_of_classes(["road", "house"], 2)
    {0: 'road', 1: 'house'}
    """
    if class_names is None:
        return {}
    if not isinstance(class_names, Mapping):
        named = list(class_names)
        if isinstance(class_names, str) or len(named) != num_classes:
            raise InputError(
                f"class_names: got {class_names!r}, it must be {num_classes} names, one for each "
                "class"
            )
        class_names = dict(enumerate(named))
    for k, named_as in class_names.items():
        if k not in range(num_classes) or not isinstance(named_as, str):
            raise InputError(
                f"class_names: got {k!r}: {named_as!r}, it must be a class of 0..{num_classes - 1} "
                "and its name"
            )
    twice = [named_as for named_as, count in Counter(class_names.values()).items() if count > 1]
    if twice:
        raise InputError(
            f"class_names: {twice[0]!r} is the name of several classes, of one it must be"
        )
    return {int(k): class_names[k] for k in sorted(class_names)}
