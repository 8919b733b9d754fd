"""Labels that are colours: which class each colour stands for."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.typing import AnyArray

__all__ = ["ClassColors", "Colors", "classes_of_colors", "read_colors"]

Color: TypeAlias = "str | Sequence[int]"
ClassColors: TypeAlias = "str | Path | Mapping[Any, Color] | Sequence[Color]"
"""A file, or colours by class id or name, or in the order of the classes."""


@dataclass(frozen=True)
class Colors:
    """Colours of classes.

    Attributes
    ----------
    packed
        Each colour as one number, red first; sorted.
    classes
        The class of each.
    names
        Of the classes, as far as they have any.
    """

    packed: tuple[int, ...]
    classes: tuple[int, ...]
    names: tuple[tuple[int, str], ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of labels with these classes."""
        if min(self.classes) < 0:
            return np.dtype(np.int32)
        return np.min_scalar_type(max(self.classes))


def read_colors(colors: ClassColors) -> Colors:
    """Read which colour stands for which class.

    Parameters
    ----------
    colors
        A list of colours in the order of the classes; a mapping, whose keys are class ids, or names
        in the order of the classes; or a file that has one of these as JSON, or as CSV a line for
        each class: its name, red, green and blue. A colour is three numbers or "#rrggbb".

    Returns
    -------
    Colors
        Sorted.

    Raises
    ------
    InputError
        It is none of these, or two classes have the same colour.

    Examples
    --------
    >>> read_colors({"road": [128, 64, 128], "sky": "#4682b4"}).classes
    (1, 0)
    """
    pairs = _pairs(_of_file(colors) if isinstance(colors, str | Path) else colors)
    found: dict[int, int] = {}
    for number, _, color in pairs:
        packed = _packed(color)
        if packed in found and found[packed] != number:
            raise InputError(
                f"class_colors: the classes {found[packed]} and {number} have the same colour, "
                f"{color!r}"
            )
        found[packed] = number
    if not found:
        raise InputError("class_colors: there are none")
    ordered = sorted(found)
    names = tuple((number, name) for number, name, _ in pairs if name)
    return Colors(tuple(ordered), tuple(found[color] for color in ordered), names)


def classes_of_colors(picture: AnyArray, colors: Colors) -> AnyArray:
    """Return the classes of a picture (..., 3).

    Raises
    ------
    InputError
        A colour is that of no class; the message says which, how often, and where first.

    Examples
    --------
    >>> classes_of_colors(np.array([[[0, 0, 0], [255, 0, 0]]]), read_colors(["#000000", "#ff0000"]))
    array([[0, 1]], dtype=uint8)
    """
    red, green, blue = (picture[..., i].astype(np.uint32) for i in range(3))
    packed = red << 16 | green << 8 | blue
    known = np.array(colors.packed, np.uint32)
    place = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    unknown = known[place] != packed
    if unknown.any():
        first = np.unravel_index(int(unknown.argmax()), unknown.shape)
        raise InputError(
            f"has {int(unknown.sum())} pixels of colours that class_colors does not have, the "
            f"first #{int(packed[first]):06x} at {tuple(map(int, first))}"
        )
    return np.array(colors.classes, colors.dtype)[place]


def _of_file(path: str | Path) -> Any:
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeError) as error:
        raise InputError(f"class_colors: {str(path)!r} cannot be read: {error}") from error
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InputError(f"class_colors: {str(path)!r} is no whole JSON: {error}") from error
    rows = [[part.strip() for part in row] for row in csv.reader(text.splitlines()) if row]
    if rows and not any(part.isdigit() for part in rows[0]):
        rows = rows[1:]  # the names of the columns
    try:
        return {name: [int(part) for part in color[:3]] for name, *color in rows}
    except ValueError as error:
        raise InputError(
            f"class_colors: {str(path)!r} has a line that is not name, red, green, blue: {error}"
        ) from error


def _pairs(colors: Any) -> list[tuple[int, str, Color]]:
    if isinstance(colors, Mapping):
        ids = all(str(key).lstrip("-").isdecimal() for key in colors)
        named: Iterable[tuple[Any, Any]] = colors.items()
        if ids:
            return [(int(key), "", color) for key, color in named]
        return [(k, str(key), color) for k, (key, color) in enumerate(named)]
    if isinstance(colors, list | tuple | np.ndarray):
        return [(k, "", color) for k, color in enumerate(colors)]
    raise InputError(f"class_colors: got a {type(colors).__name__}, it must be a list or a mapping")


def _packed(color: Any) -> int:
    if isinstance(color, str):
        digits = color.removeprefix("#")
        if len(digits) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return int(digits, 16)
    elif isinstance(color, list | tuple | np.ndarray) and len(color) == 3:
        parts = [int(part) for part in color]
        if all(0 <= part < 256 for part in parts):
            return parts[0] << 16 | parts[1] << 8 | parts[2]
    raise InputError(f"class_colors: got {color!r}, it must be [red, green, blue] or '#rrggbb'")
