"""Mistakes of an annotator, made on purpose and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.demo.scenes import NEAR_CLASSES, Scene, SceneObject, render_labels

__all__ = ["ERROR_KINDS", "LabelError", "annotate", "assign_error_kinds"]

ERROR_KINDS = ("none", "drop", "swap", "shift")
SMALLEST_ERROR = 0.002
"""Wrong pixels that an error should leave at least, as a share of the image."""


@dataclass(frozen=True)
class LabelError:
    """What is wrong with the labels of one image.

    Attributes
    ----------
    kind : int
        Position in `ERROR_KINDS`.
    class_id : int
        True class of the thing that was dropped, swapped or shifted; -1 without an error.
    pixels : int
        Number of wrong pixels.
    """

    kind: int = 0
    class_id: int = -1
    pixels: int = 0


def assign_error_kinds(images: int, fraction: float, seed: int) -> NDArray[np.uint8]:
    """Choose the images whose labels get an error, and its kind.

    Parameters
    ----------
    images : int
        Number of images.
    fraction : float
        Share of the images that get one, rounded to whole images.
    seed : int
        Seed of the dataset.

    Returns
    -------
    (images,) uint8 array
        Positions in `ERROR_KINDS`; the three kinds are equally frequent, give or take one image.

    Examples
    --------
    >>> import numpy as np
    >>> np.bincount(assign_error_kinds(images=100, fraction=0.12, seed=0))
    array([88,  4,  4,  4])
    """
    bad = round(images * fraction)
    kinds = np.zeros(images, np.uint8)
    kinds[:bad] = 1 + np.arange(bad) % (len(ERROR_KINDS) - 1)
    return np.random.default_rng(seed).permutation(kinds)


def annotate(
    scene: Scene, kind: int, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], LabelError]:
    """Label a scene, with an error of the given kind.

    Parameters
    ----------
    scene : tuple of SceneObject
        What there is, back to front.
    kind : int
        Position in `ERROR_KINDS`.
    size : int
        Height and width in pixels.
    rng : numpy.random.Generator
        The annotator's stream.

    Returns
    -------
    given, true : (size, size) uint8 arrays
        The labels as annotated and as they should be.
    error : LabelError
        What was done.
    """
    true = render_labels(scene, size)
    if kind == 0:
        return true.copy(), true, LabelError()
    given, error = true, LabelError()
    for position in _candidates(scene, rng):
        attempt = render_labels(_spoil(scene, position, ERROR_KINDS[kind], rng), size)
        pixels = int(np.count_nonzero(attempt != true))
        if pixels > error.pixels:
            given, error = attempt, LabelError(kind, scene[position].class_id, pixels)
        if pixels >= SMALLEST_ERROR * size * size:
            break
    return given, true, error


def _candidates(scene: Scene, rng: np.random.Generator) -> Iterator[int]:
    """Yield the movable things in random order."""
    movable = [position for position, thing in enumerate(scene) if not thing.fixed]
    yield from rng.permutation(movable).tolist()


def _spoil(scene: Scene, position: int, kind: str, rng: np.random.Generator) -> Scene:
    thing = scene[position]
    changed: tuple[SceneObject, ...] = ()
    if kind == "swap":
        near = NEAR_CLASSES[thing.class_id]
        changed = (replace(thing, class_id=near[rng.integers(len(near))]),)
    elif kind == "shift":
        changed = (_shifted(thing, rng),)
    return (*scene[:position], *changed, *scene[position + 1 :])


def _shifted(thing: SceneObject, rng: np.random.Generator) -> SceneObject:
    """Move a thing by about half its extent."""
    extent = np.ptp(np.concatenate(thing.parts), axis=0)
    step = extent * rng.uniform((0.35, 0.05), (0.8, 0.25)) * rng.choice([-1.0, 1.0], 2)
    return replace(thing, parts=tuple(part + step for part in thing.parts))
