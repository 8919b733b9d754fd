"""The box of a COCO segmentation: polygons, or a mask in run lengths."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from math import isfinite
from typing import Any, TypeAlias

from dask_labelqc.errors import InputError

__all__ = ["box_of_segmentation", "finite_number", "finite_numbers"]

XYWH: TypeAlias = tuple[float, float, float, float]

# Digits of five bits from "0" on; 32 more where another follows. pycocotools trusts what it gets.
COMPRESSED_COUNTS = re.compile(r"(?:[P-o]{0,6}[0-O])*")
MAX_PIXELS = 2**31


def finite_number(value: Any) -> float | None:
    """Return a JSON number as a float, None for anything else."""
    if type(value) is float:  # by far the most
        return value if isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def finite_numbers(values: Any) -> list[float] | None:
    """Return the numbers of a JSON list, None for anything else."""
    if not isinstance(values, list | tuple):
        return None
    numbers = [number for number in map(finite_number, values) if number is not None]
    return numbers if len(numbers) == len(values) else None


def box_of_segmentation(segmentation: Any) -> XYWH | None:
    """Return x, y, width, height of what a segmentation covers, None if that is nothing.

    Parameters
    ----------
    segmentation
        Polygons, ``[[x1, y1, x2, y2, x3, y3, ...], ...]``; or a mask, ``{"size": [height, width],
        "counts": ...}``, the counts a list or compressed to a string.

    Raises
    ------
    ImportError
        It is a mask, and pycocotools is not installed.
    InputError
        It is neither.

    Examples
    --------
    >>> box_of_segmentation([[1, 1, 4, 1, 4, 3]])
    (1.0, 1.0, 3.0, 2.0)
    """
    if segmentation is None or segmentation == [] or segmentation == {}:
        return None
    if isinstance(segmentation, Mapping):
        return _box_of_mask(segmentation)
    if isinstance(segmentation, list):
        flat = not isinstance(segmentation[0], list)
        return _box_of_polygons([segmentation] if flat else segmentation)
    raise _unusable(segmentation)


def _box_of_polygons(polygons: list[Any]) -> XYWH:
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        numbers = finite_numbers(polygon)
        if numbers is None or len(numbers) < 6 or len(numbers) % 2:
            raise _unusable(polygon)
        xs += numbers[::2]
        ys += numbers[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _box_of_mask(mask: Mapping[str, Any]) -> XYWH | None:
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_count, size)):
        raise _unusable(mask)
    height, width = size
    pixels = height * width
    if not 0 < pixels < MAX_PIXELS:
        raise _unusable(mask)
    if isinstance(counts, list):
        usable = all(map(_is_count, counts)) and sum(counts) == pixels
    else:
        usable = isinstance(counts, str) and bool(COMPRESSED_COUNTS.fullmatch(counts))
    if not usable:
        raise _unusable(mask)
    x, y, box_width, box_height = _mask_bounds({"size": size, "counts": counts})
    if not 0 <= x <= x + box_width <= width or not 0 <= y <= y + box_height <= height:
        raise _unusable(mask)
    return (x, y, box_width, box_height) if box_width * box_height > 0 else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_PIXELS


def _mask_bounds(mask: dict[str, Any]) -> XYWH:
    try:
        from pycocotools import mask as masks  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "an annotation has a mask and no bbox; pycocotools reads it: "
            'pip install "dask-labelqc[coco]"'
        ) from error
    if isinstance(mask["counts"], list):
        mask = masks.frPyObjects(mask, *mask["size"])
    x, y, width, height = masks.toBbox(mask).tolist()
    return x, y, width, height


def _unusable(segmentation: Any) -> InputError:
    return InputError(
        "segmentation must be polygons of three points or more, or a mask with the size [height, "
        f"width] and counts that fit it, got {reprlib.repr(segmentation)}"
    )
