"""What is wrong with the data of a block, in words that say where."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dask_labelqc.errors import Advice, InputError, advise
from dask_labelqc.extent import Extent, name_images
from dask_labelqc.kernels.labels import EncodedLabels
from dask_labelqc.kernels.tiles import ABOVE_ONE, NEGATIVE, NOT_FINITE, PROBABILITY_TOLERANCE
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.statistics import WorstSum
from dask_labelqc.typing import AnyArray

__all__ = [
    "check_labels",
    "check_predictions",
    "check_whole",
    "named",
    "prediction_error",
    "wrong_sum",
]

SCALED = ", and the scale_factor in the attributes says what an integer of 1 means"


def _at(extent: Extent, position: int) -> str:
    image, pixel = extent.place(position)
    return f"image {image}, pixel {pixel}"


def named(k: int, class_names: Mapping[int, str]) -> str:
    """Return a label, with its name if it has one.

    Examples
    --------
    >>> named(3, {3: "road"}), named(4, {3: "road"})
    ("3 ('road')", '4')
    """
    return f"{k} ({class_names[k]!r})" if k in class_names else str(k)


def check_labels(
    encoded: EncodedLabels, labels: AnyArray, extent: Extent, params: Parameters
) -> None:
    """Raise InputError if a label of the block is neither a class nor ignored."""
    if encoded.invalid_count == 0 or params.validate == "none":
        return
    check_whole(encoded, labels, extent)
    value = int(labels.reshape(-1)[encoded.first_invalid])
    images = name_images(extent.start[0], extent.stop[0] - 1)
    ignored = sorted({value, *params.ignore_index})
    raise InputError(
        f"labels: {encoded.invalid_count} of {labels.size} pixels in {images} are outside "
        f"0..{params.num_classes - 1} and not ignored, the first is "
        f"{named(value, params.class_names)} at "
        f"{_at(extent, encoded.first_invalid)}",
        advise(
            "{ignore_index} leaves such pixels out",
            ignore_index=value if ignored == [value] else tuple(ignored),
        ),
    )


def check_whole(encoded: EncodedLabels, labels: AnyArray, extent: Extent) -> None:
    """Raise InputError if labels of a floating dtype are not whole numbers."""
    if encoded.first_fraction >= 0:
        raise InputError(
            f"labels: got {labels.reshape(-1)[encoded.first_fraction]} at "
            f"{_at(extent, encoded.first_fraction)}; labels of dtype {labels.dtype} must be whole "
            "numbers, the classes, or NaN where a pixel takes part in nothing"
        )


def check_predictions(
    position: int, reason: int, stored: AnyArray, extent: Extent, params: Parameters
) -> None:
    """Raise InputError for the first pixel whose probabilities cannot be used.

    Parameters
    ----------
    position, reason
        From `BlockScan.facts`.
    stored
        The block (n, K, *spatial) as it was read.
    extent, params
        Its place, and the parameters of the audit.
    """
    if reason == 0:
        return
    image, *pixel = np.unravel_index(position, extent.shape)
    values = np.moveaxis(stored, 1, -1)[(int(image), *map(int, pixel))]
    advice = advise("{from_logits} is for logits", from_logits=True)
    where = _at(extent, position)
    raise prediction_error(values, reason, params.scale, where, advice, params.class_names)


def prediction_error(
    values: AnyArray,
    reason: int,
    scale: float | None,
    where: str,
    advice: Advice,
    class_names: Mapping[int, str],
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
        The place, and what to do about floats outside [0, 1].
    class_names
        Of the dataset, as far as it has any.
    """
    if reason == NOT_FINITE:
        k = _first(~np.isfinite(values))
        return InputError(
            f"pred_probs: class {named(k, class_names)} is {values[k]} at {where}; it must be "
            "finite"
        )
    if reason in (NEGATIVE, ABOVE_ONE):
        numbers = values if scale is None else values * scale
        k = _first((numbers < 0) | (numbers > 1 + PROBABILITY_TOLERANCE))
        return InputError(
            f"pred_probs: class {named(k, class_names)} is {numbers[k]:.6g} at {where}; "
            f"probabilities must lie between 0 and 1{'' if values.dtype.kind == 'f' else SCALED}",
            advice if values.dtype.kind == "f" else None,
        )
    return InputError(
        f"pred_probs: all {values.size} probabilities are 0 at {where}; a chunk that is missing "
        "in the store reads so, check that the predictions are complete"
    )


def _first(condition: AnyArray) -> int:
    return int(np.argmax(condition))


def wrong_sum(worst: WorstSum, tolerance: float) -> str | None:
    """Say that some probabilities do not sum to one, None if the worst are within the tolerance.

    Examples
    --------
    >>> wrong_sum(WorstSum(0.5, (7,), 1.5), 0.01)
    'pred_probs: the probabilities of an example should sum to 1 (within 0.01); the worst sum is \
1.5 at example 7'
    """
    if worst.deviation <= tolerance:
        return None
    first, *pixel = worst.place
    where = f"image {first}, pixel {tuple(pixel)}" if pixel else f"example {first}"
    return (
        f"pred_probs: the probabilities of {'a pixel' if pixel else 'an example'} should sum to 1 "
        f"(within {tolerance:.3g}); the worst sum is {worst.total:.6g} at {where}"
    )
