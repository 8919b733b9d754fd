"""Street scenes: which things stand where, from far to near."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.demo import shapes
from dask_labelqc.demo.raster import Polygon, render

__all__ = [
    "CLASS_COLORS",
    "CLASS_NAMES",
    "NEAR_CLASSES",
    "Scene",
    "SceneObject",
    "compose_scene",
    "image_streams",
    "render_labels",
]

CLASS_NAMES = (
    "sky", "building", "road", "sidewalk", "tree", "grass",
    "car", "bus", "person", "bicycle", "pole", "sign",
)  # fmt: skip
SKY, BUILDING, ROAD, SIDEWALK, TREE, GRASS, CAR, BUS, PERSON, BICYCLE, POLE, SIGN = range(12)

CLASS_COLORS = (
    "#a9d4f5", "#b08968", "#6c6f7d", "#d9c7d8", "#2f7d4f", "#a6c95c",
    "#2b4fc7", "#f2a541", "#13a3a0", "#7b2d8b", "#23262e", "#ffe14d",
)  # fmt: skip

NEAR_CLASSES: dict[int, tuple[int, ...]] = {
    SKY: (BUILDING,),
    BUILDING: (BUS, TREE),
    ROAD: (SIDEWALK,),
    SIDEWALK: (ROAD, GRASS),
    TREE: (GRASS, BUILDING),
    GRASS: (TREE, SIDEWALK),
    CAR: (BUS,),
    BUS: (CAR, BUILDING),
    PERSON: (BICYCLE, POLE),
    BICYCLE: (PERSON, CAR),
    POLE: (SIGN, TREE),
    SIGN: (POLE, BUILDING),
}
"""What each class is mistaken for, by annotators and by models."""


@dataclass(frozen=True)
class SceneObject:
    """One thing of a scene.

    Attributes
    ----------
    class_id : int
        Position in `CLASS_NAMES`.
    parts : tuple of (V, 2) float64 arrays
        Polygons in units of the image.
    fixed : bool
        Whether it belongs to the backdrop, which nobody forgets to draw.
    """

    class_id: int
    parts: tuple[Polygon, ...]
    fixed: bool = False


Scene = tuple[SceneObject, ...]


def image_streams(
    seed: int, index: int
) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
    """Return the random numbers of one image: of its scene, its annotator and its model.

    They depend on `seed` and `index` alone, so images can be made anywhere and in any order.
    """
    scene, annotator, model = np.random.default_rng([seed, index]).spawn(3)
    return scene, annotator, model


def render_labels(scene: Scene, size: int) -> NDArray[np.uint8]:
    """Return the (size, size) map of class ids that a scene shows."""
    classes = np.array([item.class_id for item in scene], np.uint8)
    return classes[render([item.parts for item in scene], size)]


def compose_scene(rng: np.random.Generator) -> Scene:
    """Compose one street: a backdrop, and some sixty things from the horizon to the camera.

    Parameters
    ----------
    rng : numpy.random.Generator
        The scene's stream; see `image_streams`.

    Returns
    -------
    tuple of SceneObject
        Back to front; together they cover the image.
    """
    street = _Street(rng)
    things = sorted(street.things(), key=lambda thing: thing[0])
    return (*street.backdrop(), *(thing for _, thing in things))


@dataclass(frozen=True)
class _Crowd:
    """Things of one class.

    `across` is where they stand beside the road's middle, `height` how tall they are next to the
    camera, `nearest` how close to it they come (1: the bottom of the image).
    """

    class_id: int
    draw: shapes.Silhouette
    count: tuple[int, int]
    across: tuple[float, float]
    height: tuple[float, float]
    nearest: float


class _Street:
    """A straight road to a vanishing point, and the sizes that perspective gives to things."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.horizon = rng.uniform(0.34, 0.46)
        self.vanishing = rng.uniform(0.35, 0.65)
        self.road = rng.uniform(0.4, 0.75)
        self.walk = self.road + rng.uniform(0.2, 0.38)

    def point(self, across: float, near: float) -> tuple[float, float]:
        """Where the ground is, `across` to the right of the road's middle; near 1 is the bottom."""
        return self.vanishing + across * near, self.horizon + (1 - self.horizon) * near

    def strip(self, left: float, right: float) -> Polygon:
        far, close = 0.01, 1.05
        return shapes.polygon(
            self.point(left, far),
            self.point(right, far),
            self.point(right, close),
            self.point(left, close),
        )

    def backdrop(self) -> Iterator[SceneObject]:
        rng = self.rng
        yield SceneObject(SKY, (shapes.box(-0.1, -0.1, 1.1, 1.1),), fixed=True)
        forest = [
            shapes.blob(rng, x, self.horizon, 0.12, rng.uniform(0.03, 0.12))
            for x in np.arange(0.0, 1.01, 0.125)
        ]
        yield SceneObject(TREE, tuple(forest), fixed=True)
        yield from self.skyline()
        yield SceneObject(GRASS, (shapes.box(-0.1, self.horizon, 1.1, 1.1),), fixed=True)
        sides = (self.strip(-self.walk, -self.road), self.strip(self.road, self.walk))
        for side in sides:
            yield SceneObject(SIDEWALK, (side,), fixed=True)
        yield SceneObject(ROAD, (self.strip(-self.road, self.road),), fixed=True)

    def skyline(self) -> Iterator[SceneObject]:
        rng, x = self.rng, -0.1
        while x < 1.05:
            height, width = rng.uniform(0.1, self.horizon - 0.04), rng.uniform(0.08, 0.26)
            parts = shapes.house(rng, width / height)
            base = self.horizon + rng.uniform(0.0, 0.03)
            if rng.random() < 0.8:
                yield SceneObject(BUILDING, shapes.place(parts, x + width / 2, base, height))
            x += width * rng.uniform(0.95, 1.3)

    def things(self) -> Iterator[tuple[float, SceneObject]]:
        for crowd in (
            _Crowd(TREE, shapes.tree, (7, 12), (self.walk, self.walk + 1.2), (0.9, 1.6), 0.5),
            _Crowd(CAR, shapes.car, (5, 9), (0.1, self.road), (0.3, 0.4), 0.6),
            _Crowd(BUS, shapes.bus, (1, 3), (0.25, self.road), (0.7, 0.95), 0.32),
            _Crowd(PERSON, shapes.person, (8, 16), (0.1, self.walk + 0.2), (0.48, 0.6), 0.75),
            _Crowd(BICYCLE, shapes.bicycle, (3, 7), (self.road, self.walk), (0.32, 0.4), 0.7),
            _Crowd(POLE, shapes.pole, (3, 7), (self.road, self.walk + 0.1), (1.1, 1.7), 0.45),
        ):
            yield from self.scatter(crowd)
        for _ in range(self.rng.integers(3, 7)):
            yield from self.signpost()

    def spot(self, across: tuple[float, float], nearest: float) -> tuple[float, float, float]:
        """Pick a distance, far ones more often, and a place at it on either side of the road."""
        near = nearest * self.rng.uniform(0.2, 1.0) ** 2
        side = self.rng.choice([-1.0, 1.0])
        return near, *self.point(side * self.rng.uniform(*across), near)

    def scatter(self, crowd: _Crowd) -> Iterator[tuple[float, SceneObject]]:
        for _ in range(self.rng.integers(*crowd.count)):
            near, x, y = self.spot(crowd.across, crowd.nearest)
            height = near * self.rng.uniform(*crowd.height)
            yield (
                near,
                SceneObject(crowd.class_id, shapes.place(crowd.draw(self.rng), x, y, height)),
            )

    def signpost(self) -> Iterator[tuple[float, SceneObject]]:
        near, x, y = self.spot((self.road, self.walk), 0.6)
        height = near * self.rng.uniform(0.6, 0.95)
        mast = shapes.box(-0.015, -1, 0.015, 0)
        yield near, SceneObject(POLE, shapes.place([mast], x, y, height))
        board = shapes.road_sign(self.rng, self.rng.uniform(0.1, 0.16))
        yield near, SceneObject(SIGN, shapes.place(board, x, y - height * 0.92, height))
