"""One colour for each class, the same in every figure."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_colors"]

TONES = ((0.65, 0.85), (0.85, 0.6), (0.4, 0.95), (0.75, 0.4))
"""Saturation and brightness, which take turns."""
GOLDEN_RATIO = 0.6180339887


def class_colors(count: int) -> NDArray[np.uint8]:
    """Return an RGB colour for each of `count` classes, no two alike.

    The hue advances by the golden ratio, so that neighbours differ at any count. The colour of a
    class does not depend on how many there are.

    Parameters
    ----------
    count
        K.

    Returns
    -------
    numpy.ndarray
        uint8 (K, 3).

    Examples
    --------
    >>> class_colors(2).tolist()
    [[217, 76, 76], [23, 61, 153]]
    >>> len(np.unique(class_colors(5000), axis=0))
    5000
    """
    taken: dict[int, None] = {}
    for k in range(count):
        hue, tone = k * GOLDEN_RATIO % 1.0, TONES[k % len(TONES)]
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, *tone))
        color = red << 16 | green << 8 | blue
        while color in taken:  # in the thousands hues are closer than colours can be
            color = (color + 1) % 2**24
        taken[color] = None
    packed = np.array(list(taken), np.int64)
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)
