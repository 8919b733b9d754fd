"""What the scan of a block found, told apart by images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.fixed_point import fixed_point
from dask_labelqc.typing import Floats, Ints

__all__ = ["PerImage", "tell_apart"]


class PerImage(NamedTuple):
    """What there is of each image of a block that is not downsampled.

    Attributes
    ----------
    class_sum, class_count
        int64 (n, K): as of `BlockScan`.
    below, kept
        int64 (n,): pixels whose score is not above the usual bound, and not above the one that the
        block was scanned with.
    disagreeing, disagreeing_kept
        int64 (n,): pixels that disagree, and those of them whose score is not above the latter.
    highest
        float64 (n,): the highest score of a pixel that disagrees, 0 if none does.
    """

    class_sum: Ints
    class_count: Ints
    below: Ints
    kept: Ints
    disagreeing: Ints
    disagreeing_kept: Ints
    highest: Floats


@compiled
def _sum_up(scores, codes, usual, bound, out):  # type: ignore[no-untyped-def]
    """Add up the classes of each image; labels come in runs, which are added at once."""
    for image in range(codes.shape[0]):
        label, total, count, below, kept = -1, np.int64(0), 0, 0, 0
        for i in range(codes.shape[1]):
            code = codes[image, i]
            if code != label:
                if label >= 0:
                    out.class_sum[image, label] += total
                    out.class_count[image, label] += count
                label, total, count = code, np.int64(0), 0
            if code >= 0:
                score = np.float64(scores[image, i])
                total += fixed_point(score)
                count += 1
                below += score <= usual
                kept += score <= bound
        if label >= 0:
            out.class_sum[image, label] += total
            out.class_count[image, label] += count
        out.below[image], out.kept[image] = below, kept


@compiled
def _look_at_disagreeing(position, score, size, bound, out):  # type: ignore[no-untyped-def]
    for i in range(position.size):
        image, value = position[i] // size, np.float64(score[i])
        out.disagreeing[image] += 1
        out.disagreeing_kept[image] += value <= bound
        if value > out.highest[image]:
            out.highest[image] = value


def tell_apart(
    scores: Floats,
    codes: Ints,
    position: Ints,
    score: Floats,
    num_classes: int,
    usual: float,
    bound: float,
) -> PerImage:
    """Tell apart what `scan_block` found of the images of a block.

    Parameters
    ----------
    scores, codes
        (n, S): the self-confidence, and the class codes.
    position, score
        Of the pixels that disagree.
    num_classes
        K.
    usual, bound
        The usual highest score of a candidate that agrees, and that of this scan.
    """
    num_images = codes.shape[0]
    below, kept, disagreeing, disagreeing_kept = np.zeros((4, num_images), np.int64)
    class_sum, class_count = np.zeros((2, num_images, num_classes), np.int64)
    highest = np.zeros(num_images)
    out = PerImage(class_sum, class_count, below, kept, disagreeing, disagreeing_kept, highest)
    _sum_up(scores, codes, usual, bound, out)
    _look_at_disagreeing(position, score, codes.shape[1], bound, out)
    return out
