"""Predictions as a good segmentation network would make them: soft, sure of itself, and fallible.

The model looks at the scene at half the resolution, as networks do, and has an opinion on each
thing as a whole: how sure it is, and for some the wrong class. Its logits waver smoothly over the
image, and a blurring interpolation brings the softmax to full resolution: across a boundary the
probabilities pass from one class to the other within some six pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.demo.raster import render, resample
from dask_labelqc.demo.scenes import CLASS_NAMES, NEAR_CLASSES, Scene
from dask_labelqc.demo.shapes import blob

__all__ = ["predict"]

MISTAKEN = 0.05
"""Share of things that are taken for a near class."""


def predict(scene: Scene, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the class probabilities that a model gives to the true scene.

    Parameters
    ----------
    scene : tuple of SceneObject
        What there is, back to front.
    size : int
        Height and width in pixels.
    rng : numpy.random.Generator
        The model's stream; see `dask_labelqc.demo.scenes.image_streams`.

    Returns
    -------
    (12, size, size) float32 array
        Softmax probabilities; each pixel's sum to one.
    """
    grid = (size + 1) // 2
    view = render([thing.parts for thing in scene], grid)
    beliefs = [_belief(thing.class_id, rng, fixed=thing.fixed) for thing in scene]
    beliefs += _misread_patches(view, beliefs, rng)
    logits = np.stack(beliefs).T[:, view]
    logits *= 1 + _noise(1, grid, 5, 0.15, rng)
    logits += _noise(len(CLASS_NAMES), grid, 6, 0.6, rng)
    logits += _noise(len(CLASS_NAMES), grid, 24, 0.4, rng)
    pred_probs = resample(_softmax(logits), size)
    pred_probs /= pred_probs.sum(axis=0)
    return pred_probs


def _belief(class_id: int, rng: np.random.Generator, *, fixed: bool) -> NDArray[np.float32]:
    """Draw the logits of a thing: high for its class, or for a near one where it is mistaken."""
    near = NEAR_CLASSES[class_id][rng.integers(len(NEAR_CLASSES[class_id]))]
    sure = np.clip(rng.normal(8.0, 1.0), 5.0, 10.0)
    logits = np.zeros(len(CLASS_NAMES), np.float32)
    logits[list(NEAR_CLASSES[class_id])] = 0.3 * sure
    logits[class_id] = sure
    if rng.random() < MISTAKEN and not fixed:
        logits[near] = 0.8 * sure
        logits[class_id] = logits[near] - rng.uniform(0.0, 0.8)
    return logits


def _misread_patches(
    view: NDArray[np.int16], beliefs: list[NDArray[np.float32]], rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Mark up to three patches of `view` as things of their own, and return their doubtful logits.

    A patch stays within the thing at its centre.
    """
    doubts: list[NDArray[np.float32]] = []
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0.0, 1.0, 2)
        patch = render([[blob(rng, x, y, *rng.uniform(0.02, 0.06, 2))]], len(view)) == 0
        owner = view[int(y * len(view)), int(x * len(view))]
        if owner < len(beliefs):
            view[patch & (view == owner)] = len(beliefs) + len(doubts)
            doubts.append(_doubt(beliefs[owner], rng))
    return doubts


def _doubt(belief: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Raise the second best class to about the best."""
    best, second = np.argsort(-belief, kind="stable")[:2]
    doubt = belief.copy()
    doubt[second] = doubt[best] + rng.uniform(-0.5, 0.8)
    return doubt


def _noise(
    count: int, size: int, cells: int, amplitude: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw smooth random fields that vary over about 1 / `cells` of the image."""
    coarse = rng.standard_normal((count, cells, cells), np.float32)
    # The spline averages neighbours and so halves the standard deviation.
    return resample(coarse * np.float32(2 * amplitude), size)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace logits by probabilities over the first axis, in place."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
