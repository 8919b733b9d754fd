"""The lines of YOLO text files: found in folders, parsed, and checked all at once."""

from __future__ import annotations

import reprlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.typing import AnyArray, BoolArray, Floats, Ints

__all__ = ["BOX", "IGNORED", "PROBABILITY", "SLACK", "Lines", "find_files", "read_lines"]

BOX = ("class", "x", "y", "width", "height")
PROBABILITY = "probability"
IGNORED = "id"
"""What a column may be that is not read: of a tracked object."""

SLACK = 0.01
"""How far outside the image coordinates may be: they are rounded, and boxes not always cut."""
ROUNDING = 1e-9
FEWEST_POINTS = 3

Row: TypeAlias = list[float]


@dataclass(frozen=True)
class Lines:
    """The boxes of a folder, image by image.

    Attributes
    ----------
    rows
        float64 (B, 6): class, x, y, width, height, probability (1 in labels).
    counts
        int64 (N,): how many of them each image has.
    polygons
        How many lines were polygons rather than boxes.
    outside
        How many boxes reach out of their image by more than `SLACK`.
    first_outside
        File and line of the first of these.
    """

    rows: Floats
    counts: Ints
    polygons: int
    outside: int = 0
    first_outside: str = ""


def find_files(folder: Path, other: Path) -> dict[str, Path]:
    """Return the text files below a folder, but for those of the other one, by their names.

    A name is the path from the folder on, without suffix.
    """
    inside = other if folder in other.parents else None
    files: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() != ".txt" or not file.is_file():
            continue
        if inside is not None and inside in file.parents:
            continue
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise InputError(f"{files[name]} and {file} are both of the image {name!r}")
        files[name] = file
    return files


def read_lines(
    files: Sequence[Path | None], columns: Sequence[str], argument: str, max_classes: int
) -> Lines:
    """Read the boxes of all images.

    Parameters
    ----------
    files
        One an image; None for an image without boxes.
    columns
        What the numbers of a line are: `BOX` and for predictions `PROBABILITY`, in any order, and
        ``"id"`` for a number to leave out.
    argument
        The argument that names the columns, for the messages.
    max_classes
        Classes must be below.

    Raises
    ------
    InputError
        Naming the file, the line and the value that cannot be used.
    """
    values, numbers = array("d"), array("q")
    counts, polygons = np.zeros(len(files), np.int64), 0
    for image, file in enumerate(files):
        if file is None:
            continue
        for number, words in _lines_of(file):
            row = _numbers(words, f"{file}, line {number}")
            if len(row) != len(columns):
                row = _box_of_polygon(row, columns, f"{file}, line {number}", argument)
                polygons += 1
            else:
                row = _in_order(row, columns)
            values.extend(row)
            numbers.append(number)
            counts[image] += 1

    def place(box: int) -> str:
        file = files[int(np.searchsorted(np.cumsum(counts), box, side="right"))]
        return f"{file}, line {numbers[box]}"

    rows = np.asarray(values, np.float64).reshape(-1, len(BOX) + 1)
    wrong = _first_wrong(rows, max_classes)
    if wrong is not None:
        box, what = wrong
        raise InputError(f"{place(box)}: {what} (the order of the numbers: {argument})")
    outside = np.flatnonzero(_outside(rows))
    first = place(int(outside[0])) if outside.size else ""
    return Lines(rows, counts, polygons, outside.size, first)


def _lines_of(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(f"{file} cannot be read as text: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words:
            yield number, words


def _numbers(words: Sequence[str], place: str) -> Row:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise InputError(
            f"{place}: {reprlib.repr(' '.join(words))} must be numbers: {error}"
        ) from error


def _in_order(row: Row, columns: Sequence[str]) -> Row:
    values = dict(zip(columns, row, strict=True))
    return [*(values[name] for name in BOX), values.get(PROBABILITY, 1.0)]


def _box_of_polygon(row: Row, columns: Sequence[str], place: str, argument: str) -> Row:
    """Return the box of ``class x1 y1 x2 y2 x3 y3 ...``, and the probability at the end."""
    last = len(row) - (PROBABILITY in columns)
    plain = tuple(columns) in (BOX, (*BOX, PROBABILITY))
    if not plain or last < 1 + 2 * FEWEST_POINTS or last % 2 == 0:
        raise InputError(
            f"{place}: {len(row)} numbers, needed are {len(columns)}: {', '.join(columns)} "
            f"({argument}){', or a polygon' if plain else ''}"
        )
    points = np.array(row[1:last]).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    centre, size = (low + high) / 2, high - low
    return [row[0], *centre.tolist(), *size.tolist(), *(row[last:] or [1.0])]


def _outside(rows: Floats) -> BoolArray:
    """Return which boxes reach out of their image, as few do whose columns are in order."""
    low, high = rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2
    slack = SLACK + ROUNDING
    outside: BoolArray = np.any((low < -slack) | (high > 1 + slack), axis=1)
    return outside


def _first_wrong(rows: Floats, max_classes: int) -> tuple[int, str] | None:
    """Return the first box with a value that cannot be, and what is wrong with it."""
    classes, centre, size, probs = rows[:, 0], rows[:, 1:3], rows[:, 3:5], rows[:, 5]
    low, high = -SLACK, 1 + SLACK
    checks: list[tuple[AnyArray, slice, str]] = [
        (
            (classes >= 0) & (classes < max_classes) & (classes == np.floor(classes)),
            slice(0, 1),
            f"the class must be a whole number of 0..{max_classes - 1}",
        ),
        (
            np.all((centre >= low) & (centre <= high), axis=1),
            slice(1, 3),
            "x and y must be fractions of the image, 0..1, not pixels",
        ),
        (
            np.all((size > 0) & (size <= high), axis=1),
            slice(3, 5),
            "width and height must be fractions of the image, above 0 and up to 1, not pixels",
        ),
        ((probs >= 0) & (probs <= 1), slice(5, 6), "the probability must be between 0 and 1"),
    ]
    usable: AnyArray = np.logical_and.reduce([check for check, _, _ in checks])
    if usable.all():
        return None
    box = int(np.argmin(usable))
    part, needed = next((part, needed) for check, part, needed in checks if not check[box])
    values = ", ".join(f"{value:.10g}" for value in rows[box, part])
    return box, f"{needed}, got {values}"
