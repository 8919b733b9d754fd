"""What an audit needs of a pixel instead of its K probabilities, and its scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.compiled import compiled
from dask_labelqc.kernels.softmin import accumulate_softmin
from dask_labelqc.kernels.summary import (
    BAD_PIXEL,
    BAD_REASON,
    WORST_SUM_PIXEL,
    BlockScan,
    ScanOptions,
    empty_outputs,
    finish_pixels,
    tally,
    trimmed,
)
from dask_labelqc.kernels.tiles import TILE
from dask_labelqc.typing import Floats, Ints

__all__ = ["Condensed", "scan_condensed"]


@dataclass(frozen=True)
class Condensed:
    """Predictions of a batch of images of S pixels, condensed where they were made.

    Attributes
    ----------
    num_classes
        K.
    confidence, predicted
        (n, S): the highest probability and its lowest class; of the narrowest unsigned dtype.
    score
        (n, S): the probability of the label, anything at pixels that take part in nothing.
    bad_pixel, bad_reason
        int64 (n,): the first unusable pixel of each image, -1 if there is none, and why.
    worst_pixel, worst_sum
        (n,): the pixel whose probabilities' sum is farthest from one, and the sum.
    """

    num_classes: int
    confidence: Floats
    predicted: Ints
    score: Floats
    bad_pixel: Ints
    bad_reason: Ints
    worst_pixel: Ints
    worst_sum: Floats

    def images(self, some: slice) -> Condensed:
        """Return those of some of the images."""
        return Condensed(
            self.num_classes, *(v[some] for n, v in vars(self).items() if n != "num_classes")
        )


@compiled
def _scan(confidence, predicted, score, codes, bound, tallied, out):  # type: ignore[no-untyped-def]
    size = codes.shape[1]
    for image in range(codes.shape[0]):
        here, scores = codes[image], score[image]
        if out.dense_score.size:
            for i in range(size):
                out.dense_score[image, i] = scores[i] if here[i] >= 0 else np.nan
        best, arg = confidence[image], predicted[image]
        if tallied:
            tally(size, image * size, here, best, arg, scores, bound, out)
        finish_pixels(image, 0, size, here, arg, out)


def scan_condensed(condensed: Condensed, codes: Ints, options: ScanOptions) -> BlockScan:
    """Scan a block of condensed predictions.

    The result is that of `scan_block` over the probabilities, bit by bit, but for
    `BlockScan.worst_sum` and its pixel: these come from sums over the classes in an order that is
    not that of the tiles, and so agree to the rounding of a sum.

    Parameters
    ----------
    condensed
        Of n images.
    codes
        int32 (n, *spatial) from `encode_labels`.
    options
        What to compute; `from_logits` is of no account here.

    Raises
    ------
    InputError
        The block is to be downsampled, for which all probabilities are needed.

    See Also
    --------
    dask_labelqc.devices.condense.condense
    """
    if options.candidates and any(factor > 1 for factor in options.factors):
        raise InputError(
            f"downsample: got {max(options.factors)}, it must be 1 where predictions are condensed "
            "on the device that made them; copy them to NumPy arrays first"
        )
    num_images, size = condensed.score.shape
    shape = (num_images, condensed.num_classes, size)
    out = empty_outputs(*shape, condensed.score.dtype, options, False)
    arrays = (condensed.confidence, condensed.predicted, condensed.score)
    _scan(*arrays, codes.reshape(num_images, size), options.bound, options.candidates, out)
    if options.check:
        _note_facts(condensed, size, out)
    if options.temperature < math.inf:
        accumulate_softmin(out.dense_score, options.temperature, out.softmin, TILE)
    return trimmed(out, False)


def _note_facts(condensed: Condensed, size: int, out: BlockScan) -> None:
    """Note the first unusable pixel and the worst sum of all images."""
    (bad,) = np.nonzero(condensed.bad_reason)
    if bad.size:
        out.facts[BAD_PIXEL] = bad[0] * size + condensed.bad_pixel[bad[0]]
        out.facts[BAD_REASON] = condensed.bad_reason[bad[0]]
    deviation = np.abs(condensed.worst_sum.astype(np.float64) - 1)
    image = int(np.argmax(deviation))
    if deviation[image] > 0:
        out.facts[WORST_SUM_PIXEL] = image * size + condensed.worst_pixel[image]
        out.worst_sum[:] = deviation[image], condensed.worst_sum[image]
