"""What is wrong with the data of a block, in words that say where."""

from __future__ import annotations

import distributed
import numpy as np

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.graph.blocks import Box
from dask_labelqc.kernels.labels import EncodedLabels
from dask_labelqc.kernels.tiles import ABOVE_ONE, NEGATIVE, NOT_FINITE, PROBABILITY_TOLERANCE
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.region import name_images
from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "check_labels",
    "check_predictions",
    "check_whole",
    "prediction_error",
    "warn_of_sums",
]


def _at(box: Box, position: int) -> str:
    image, pixel = box.place(position)
    return f"image {image}, pixel {pixel}"


def check_labels(encoded: EncodedLabels, labels: AnyArray, box: Box, params: Parameters) -> None:
    """Raise InputError if a label of the block is neither a class nor ignored."""
    if encoded.invalid_count == 0 or params.validate == "none":
        return
    check_whole(encoded, labels, box)
    value = int(labels.reshape(-1)[encoded.first_invalid])
    images = name_images(box.start[0], box.stop[0] - 1)
    raise InputError(
        f"labels: {encoded.invalid_count} of {labels.size} pixels in {images} are outside "
        f"0..{params.num_classes - 1} and not ignored, the first is {value} at "
        f"{_at(box, encoded.first_invalid)}; "
        f"ignore_index={value} leaves such pixels out"
    )


def check_whole(encoded: EncodedLabels, labels: AnyArray, box: Box) -> None:
    """Raise InputError if labels of a floating dtype are not whole numbers."""
    if encoded.first_fraction >= 0:
        raise InputError(
            f"labels: got {labels.reshape(-1)[encoded.first_fraction]} at "
            f"{_at(box, encoded.first_fraction)}; labels of dtype {labels.dtype} must be whole "
            "numbers, the classes, or NaN where a pixel takes part in nothing"
        )


def check_predictions(
    position: int, reason: int, stored: AnyArray, box: Box, params: Parameters
) -> None:
    """Raise InputError for the first pixel whose probabilities cannot be used.

    Parameters
    ----------
    position, reason
        From `BlockScan.facts`.
    stored
        The block (n, K, *spatial) as it was read.
    box, params
        Its place, and the parameters of the audit.
    """
    if reason == 0:
        return
    image, *pixel = np.unravel_index(position, box.shape)
    values = np.moveaxis(stored, 1, -1)[(int(image), *map(int, pixel))]
    advice = "pass from_logits=True (--from-logits) if these are logits"
    raise prediction_error(values, reason, params.scale, _at(box, position), advice)


def prediction_error(
    values: AnyArray, reason: int, scale: float | None, where: str, advice: str
) -> InputError:
    """Return the error for one pixel or example whose probabilities cannot be used.

    Parameters
    ----------
    values
        (K,) as they are stored.
    reason
        One of those in `kernels.tiles`.
    scale
        What an integer of 1 means.
    where, advice
        The place, and what to do about values outside [0, 1].
    """
    if reason == NOT_FINITE:
        k = _first(~np.isfinite(values))
        return InputError(f"pred_probs: class {k} is {values[k]} at {where}; it must be finite")
    if reason in (NEGATIVE, ABOVE_ONE):
        numbers = values if scale is None else values * scale
        k = _first((numbers < 0) | (numbers > 1 + PROBABILITY_TOLERANCE))
        return InputError(
            f"pred_probs: class {k} is {numbers[k]:.6g} at {where}; probabilities must lie "
            f"between 0 and 1, {advice}"
        )
    return InputError(
        f"pred_probs: all {values.size} probabilities are 0 at {where}; a chunk that is missing "
        "in the store reads so, check that the predictions are complete"
    )


def _first(condition: AnyArray) -> int:
    return int(np.argmax(condition))


def warn_of_sums(worst: tuple[float, int, Shape, float], params: Parameters) -> None:
    """Warn, on the client of a cluster, if some probabilities do not sum to one.

    Parameters
    ----------
    worst
        `Statistics.worst_sum`.
    params
        Of the audit.
    """
    deviation, image, pixel, total = worst
    if params.validate == "full" and deviation > params.sum_tolerance:
        message = (
            "pred_probs: the probabilities of a pixel should sum to 1 (within "
            f"{params.sum_tolerance:.3g}); the worst sum is {total:.6g} at image {image}, "
            f"pixel {pixel}"
        )
        distributed.warn(message, LabelQCWarning)
