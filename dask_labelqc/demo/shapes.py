"""Silhouettes of the things in a scene.

Each stands on the origin in a frame of its own, one unit high, with y growing downwards; `place`
brings it into the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from dask_labelqc.demo.raster import Polygon

__all__ = [
    "Silhouette",
    "bicycle",
    "blob",
    "box",
    "bus",
    "car",
    "ellipse",
    "house",
    "person",
    "place",
    "pole",
    "polygon",
    "ring",
    "road_sign",
    "tree",
]


Silhouette: TypeAlias = Callable[[np.random.Generator], tuple[Polygon, ...]]
"""Draws one thing of a kind, a little different each time."""


def place(parts: Sequence[Polygon], x: float, y: float, height: float) -> tuple[Polygon, ...]:
    """Scale a silhouette to `height` and stand it on the point (x, y) of the image."""
    return tuple(part * height + (x, y) for part in parts)


def polygon(*vertices: tuple[float, float]) -> Polygon:
    """Join points (x, y) in the order given."""
    return np.array(vertices, np.float64)


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Draw an upright rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, rx: float, ry: float, vertices: int = 28) -> Polygon:
    """Draw an ellipse around (x, y), as a polygon with that many vertices."""
    angle = np.arange(vertices) * (2 * np.pi / vertices)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def ring(x: float, y: float, radius: float, thickness: float) -> Polygon:
    """Join a circle and a smaller one; the even-odd rule leaves the hole open."""
    hole = radius - thickness
    outer, inner = ellipse(x, y, radius, radius), ellipse(x, y, hole, hole)
    return np.concatenate([outer, outer[:1], inner, inner[:1]])


def blob(rng: np.random.Generator, x: float, y: float, rx: float, ry: float) -> Polygon:
    """Draw an ellipse whose radius wobbles."""
    around = np.arange(40) * (2 * np.pi / 40)
    wobble = np.ones(40)
    for lobes in (2, 3, 5, 8):
        wobble += rng.normal(0, 0.16 / lobes**0.5) * np.cos(lobes * around + rng.uniform(0, 6.28))
    return np.stack([x + rx * wobble * np.cos(around), y + ry * wobble * np.sin(around)], axis=1)


def house(rng: np.random.Generator, width: float) -> tuple[Polygon, ...]:
    """Draw a building with a flat, a pitched, a hipped or a stepped roof, and perhaps a chimney."""
    left, right = -width / 2, width / 2
    eaves = -rng.uniform(0.68, 0.85)
    roofs = (
        box(left, -1, right, eaves),
        polygon((left, eaves), (rng.uniform(left, right) / 2, -1), (right, eaves)),
        polygon((left, eaves), (left * 0.55, -1), (right * 0.55, -1), (right, eaves)),
        box(left * rng.uniform(0.3, 0.8), -1, right * rng.uniform(0.3, 0.8), eaves),
    )
    parts = [box(left, eaves, right, 0), roofs[rng.integers(len(roofs))]]
    if rng.random() < 0.4:
        x = rng.uniform(left, right) * 0.6
        parts.append(box(x - 0.04 * width, -1.04, x + 0.04 * width, eaves))
    return tuple(parts)


def tree(rng: np.random.Generator) -> tuple[Polygon, ...]:
    """Draw a trunk with a round crown of several lobes, or a conifer."""
    trunk = box(-0.035, -0.45, 0.035, 0)
    if rng.random() < 0.3:
        return trunk, polygon((-0.24, -0.16), (0, -1), (0.24, -0.16))
    lobes = [
        blob(rng, *rng.uniform((-0.16, -0.76), (0.16, -0.52)), *rng.uniform(0.15, 0.25, 2))
        for _ in range(rng.integers(2, 5))
    ]
    return trunk, blob(rng, 0, -0.66, 0.26, 0.3), *lobes


def car(rng: np.random.Generator) -> tuple[Polygon, ...]:
    """Draw a car from the side, in either direction, or from the front."""
    if rng.random() < 0.4:
        body = polygon(
            (-0.6, -0.1), (-0.6, -0.55), (-0.42, -1), (0.42, -1), (0.6, -0.55), (0.6, -0.1)
        )
        return body, box(-0.58, -0.12, -0.38, 0), box(0.38, -0.12, 0.58, 0)
    nose = rng.uniform(-0.66, -0.5)
    body = polygon(
        (-1.35, -0.16), (-1.35, nose), (-0.72, -0.64), (-0.42, -1), (0.5, -1), (0.92, -0.62),
        (1.3, -0.58), (1.35, -0.16),
    )  # fmt: skip
    wheels = [ellipse(x, -0.2, 0.2, 0.2) for x in (-0.82, 0.85)]
    facing = np.array([rng.choice([-1.0, 1.0]), 1.0])
    return tuple(part * facing for part in (body, *wheels))


def bus(rng: np.random.Generator) -> tuple[Polygon, ...]:
    """Draw a bus from the side or from the front."""
    half = 0.42 if rng.random() < 0.6 else rng.uniform(1.0, 1.4)
    body = polygon(
        (-half, -0.07), (-half, -0.93), (-half + 0.07, -1), (half - 0.07, -1), (half, -0.93),
        (half, -0.07),
    )  # fmt: skip
    return body, *(ellipse(x * half, -0.08, 0.08, 0.08) for x in (-0.7, 0.66))


def person(rng: np.random.Generator) -> tuple[Polygon, ...]:
    """Draw somebody who stands or walks."""
    stride, sway = rng.uniform(0.02, 0.13), rng.uniform(-0.03, 0.03)
    torso = polygon((-0.12, -0.83), (0.12, -0.83), (0.1, -0.42), (-0.1, -0.42))
    legs = [
        polygon((-0.09, -0.45), (0.02, -0.45), (0.03 - stride, 0), (-0.07 - stride, 0)),
        polygon((-0.02, -0.45), (0.09, -0.45), (0.07 + stride, 0), (-0.03 + stride, 0)),
    ]
    arms = [
        polygon((s * 0.1, -0.82), (s * 0.15, -0.8), (s * 0.18 + sway, -0.45), (s * 0.12, -0.45))
        for s in (-1, 1)
    ]
    return torso, *legs, *arms, ellipse(sway, -0.91, 0.075, 0.09)


def bicycle(rng: np.random.Generator) -> tuple[Polygon, ...]:
    """Draw two wheels and a frame, seen from the side or at an angle."""
    width = rng.uniform(0.55, 1.0)
    wheels = [ring(x, -0.33, 0.33, 0.11) for x in (-0.5, 0.5)]
    frame = [
        polygon((-0.5, -0.4), (-0.1, -0.33), (0.32, -0.78), (-0.2, -0.75)),
        polygon((0.45, -0.33), (0.55, -0.33), (0.4, -1), (0.28, -1)),
        box(-0.34, -0.93, -0.1, -0.83),
    ]
    return tuple(part * (width, 1.0) for part in (*wheels, *frame))


def pole(rng: np.random.Generator) -> tuple[Polygon, ...]:
    """Draw a mast, sometimes with an arm and a lamp."""
    half = rng.uniform(0.012, 0.022)
    mast = box(-half, -1, half, 0)
    if rng.random() < 0.5:
        return (mast,)
    reach = rng.choice([-1.0, 1.0]) * rng.uniform(0.12, 0.25)
    arm = polygon((0, -1), (reach, -1.01), (reach, -0.985), (0, -0.965))
    return mast, arm, ellipse(reach, -0.985, 0.05, 0.022)


def road_sign(rng: np.random.Generator, reach: float) -> tuple[Polygon, ...]:
    """Draw a disc, a triangle, an octagon or a board of size `reach`, centred on the origin."""
    corner = reach * 0.86
    kinds = (
        ellipse(0, 0, reach, reach),
        polygon((0, -reach), (corner, reach * 0.6), (-corner, reach * 0.6)),
        ellipse(0, 0, reach, reach, vertices=8),
        box(-reach * 1.3, -reach * 0.75, reach * 1.3, reach * 0.75),
    )
    return (kinds[rng.integers(len(kinds))],)
