"""What is given to an inspector, checked and in one form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError

__all__ = ["check_bound", "names_of_classes", "number_of_classes", "texts_of_ids"]

SHOWN = 3


def texts_of_ids(ids: Any, name: str = "ids") -> list[str]:
    """Return the ids of images as texts; whole numbers are written in decimal digits.

    Raises
    ------
    InputError
        One is neither a text nor a whole number, or one stands for two images.

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
    if len(set(found)) < len(found):
        twice = [value for value, count in Counter(found).items() if count > 1]
        raise InputError(
            f"{name}: {', '.join(map(repr, twice[:SHOWN]))}{', ...' * (len(twice) > SHOWN)} "
            "stands for more than one image; each must have an id of its own"
        )
    return found


def _text(value: Any, place: int, name: str) -> str:
    if isinstance(value, str):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # a tensor of one number
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise InputError(f"{name}: got {value!r} at {place}, it must be a text or a whole number")


def number_of_classes(num_classes: Any) -> int:
    """Return how many classes there are.

    Raises
    ------
    InputError
        It is not a whole number of 2 or more.
    """
    whole = isinstance(num_classes, int | np.integer) and not isinstance(num_classes, bool)
    if not whole or num_classes < 2:
        raise InputError(f"num_classes: got {num_classes!r}, it must be an integer of 2 or more")
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
    return {int(k): class_names[k] for k in sorted(class_names)}


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
