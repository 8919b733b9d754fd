"""Colours of classes can be told apart, by the distance that the CIE recommends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc.colors import class_colors
from dask_labelqc.segmentation.drawing import ISSUE_COLOR, NO_CLASS_COLOR, NO_ISSUE_COLOR

D65 = np.array([0.95047, 1.0, 1.08883])
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (n, 3) of 0..255 to CIELAB."""
    part = np.asarray(rgb, np.float64) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    ratio = linear @ RGB_TO_XYZ.T / D65
    bent = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = bent[:, 0], bent[:, 1], bent[:, 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Difference of each pair (n, m), in the steps of Sharma, Wu and Dalal (2005)."""
    l1, a1, b1 = (first[:, None, k] for k in range(3))
    l2, a2, b2 = (second[None, :, k] for k in range(3))
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7))) / 2
    c1, c2 = np.hypot((1 + g) * a1, b1), np.hypot((1 + g) * a2, b2)
    h1 = np.degrees(np.arctan2(b1, (1 + g) * a1)) % 360
    h2 = np.degrees(np.arctan2(b2, (1 + g) * a2)) % 360
    gray = c1 * c2 == 0
    turn = np.where(gray, 0, (h2 - h1 + 180) % 360 - 180)
    delta_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    hue = np.where(gray, h1 + h2, (h1 + turn / 2) % 360)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    s_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    rotation = rotation * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    dl, dc, dh = (l2 - l1) / s_l, (c2 - c1) / s_c, delta_h / s_h
    return np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh)


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_distance_is_that_of_the_paper(first: Any, second: Any, difference: Any) -> None:
    found = ciede2000(np.array([first], float), np.array([second], float))
    assert found.item() == pytest.approx(difference, abs=5e-5)


@pytest.mark.parametrize(("count", "least"), [(20, 20), (60, 12), (256, 7)])
def test_classes_are_apart(count: int, least: float) -> None:
    lab = to_lab(class_colors(count))
    apart = ciede2000(lab, lab)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= least


def test_no_class_is_near_what_means_something_else() -> None:
    others = np.array([ISSUE_COLOR, NO_ISSUE_COLOR, NO_CLASS_COLOR])
    assert ciede2000(to_lab(class_colors(256)), to_lab(others)).min() >= 25


def test_the_color_of_a_class_does_not_depend_on_how_many_there_are() -> None:
    most = class_colors(5000)
    assert most.dtype == np.uint8
    assert len(np.unique(most, axis=0)) == 5000
    for count in (0, 1, 2, 60, 255, 256, 257, 300):
        np.testing.assert_array_equal(class_colors(count), most[:count])
