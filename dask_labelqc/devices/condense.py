"""A batch of predictions, condensed where it lies: few bytes a pixel leave the device."""

from __future__ import annotations

import math
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_jax_array

from dask_labelqc.devices.arrays import detached, pixel_values, to_host
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.condensed import Condensed
from dask_labelqc.kernels.labels import smallest_unsigned
from dask_labelqc.kernels.tiles import PROBABILITY_TOLERANCE, first_bad
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["condense", "probabilities"]


def condense(
    predictions: Any,
    codes: Ints,
    *,
    from_logits: bool = False,
    class_axis: int = 1,
    check: bool = True,
) -> Condensed:
    r"""Condense a batch of predictions on the device where it lies.

    What is brought from there are the highest probability, its lowest class and the probability of
    the label: 9 bytes a pixel with up to 256 classes; and some numbers an image. Beside the
    predictions the device needs memory for their softmax, three times where its framework has no
    function for that, and for some values a pixel.

    Parameters
    ----------
    predictions
        (n, K, \*spatial) of an array that speaks the array API: probabilities or logits, of a
        floating dtype. Those narrower than float32 become that before anything is computed.
    codes
        int32 (n, \*spatial) from `encode_labels`.
    from_logits
        Put the predictions through a softmax, see `probabilities`.
    class_axis
        Which axis has the classes.
    check
        Look for unusable pixels and for the worst sum.

    Raises
    ------
    InputError
        The dtype is not a floating one.

    See Also
    --------
    dask_labelqc.kernels.condensed.scan_condensed
    """
    xp = array_namespace(predictions)
    probs = probabilities(predictions, from_logits=from_logits, class_axis=class_axis)
    axis = class_axis % probs.ndim
    num_classes = probs.shape[axis]
    pick = partial(_pick, xp, probs, axis)
    lowest = xp.min(probs, axis=axis)
    arg = _first_highest(xp, probs, lowest, axis)
    confidence = pick(arg)
    given = xp.astype(_beside(xp, probs, codes.astype(np.min_scalar_type(-num_classes))), arg.dtype)
    void = given < 0
    nowhere = np.full(len(codes), -1)
    bad: tuple[Ints, Ints] = (nowhere, np.zeros(len(codes), np.int64))
    worst: tuple[Ints, Floats] = (nowhere, np.ones(len(codes)))
    if check:
        usable = (lowest >= 0) & (confidence <= 1 + PROBABILITY_TOLERANCE) & (confidence > 0)
        bad = _first_unusable(xp, probs, axis, usable | void)
        worst = _worst_sum(xp, xp.sum(probs, axis=axis), void)
    class_dtype = getattr(xp, smallest_unsigned(num_classes).name)
    return Condensed(
        num_classes,
        _pixels(confidence),
        _pixels(xp.astype(arg, class_dtype)),
        _pixels(pick(xp.where(void, xp.zeros_like(given), given))),
        *bad,
        *worst,
    )


def probabilities(predictions: Any, *, from_logits: bool, class_axis: int = 1) -> Any:
    """Return predictions as probabilities, float64 or else float32, on their device.

    The softmax of logits is that of their framework if it has one, as torch has; otherwise
    ``exp(x - max) / sum``.

    Raises
    ------
    InputError
        The dtype is not a floating one.

    Examples
    --------
    >>> probabilities(np.zeros((1, 4, 1), np.float16), from_logits=True).ravel()
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    xp, values = array_namespace(predictions), detached(predictions)
    if not xp.isdtype(values.dtype, "real floating"):
        raise InputError(
            f"pred_probs: got dtype {values.dtype} on {device(values)}; on a device it must be a "
            "floating one, or copy the predictions to a NumPy array"
        )
    if values.dtype != xp.float64:
        values = xp.astype(values, xp.float32, copy=False)
    if not from_logits:
        return values
    if hasattr(xp, "softmax"):
        return xp.softmax(values, class_axis)
    weights = xp.exp(values - xp.max(values, axis=class_axis, keepdims=True))
    return weights / xp.sum(weights, axis=class_axis, keepdims=True)


def _pick(xp: ModuleType, probs: Any, axis: int, classes: Any) -> Any:
    """Return the probability of one class of each pixel."""
    there = xp.take_along_axis(probs, xp.expand_dims(classes, axis=axis), axis=axis)
    return xp.squeeze(there, axis=axis)


def _first_highest(xp: ModuleType, probs: Any, lowest: Any, axis: int) -> Any:
    """Return the lowest class of the highest probability, as the tiles find it.

    The array API promises the lowest of several. It is silent about NaN: these never win, unless
    the first class is one.
    """
    if not bool(xp.any(xp.isnan(lowest))):  # a minimum that is NaN wherever one is
        return xp.argmax(probs, axis=axis)
    numbers = xp.where(xp.isnan(probs), xp.full_like(probs, -math.inf), probs)
    arg = xp.argmax(numbers, axis=axis)
    first = probs[(slice(None),) * axis + (0, ...)]
    return xp.where(xp.isnan(first), xp.zeros_like(arg), arg)


def _beside(xp: ModuleType, array: Any, values: AnyArray) -> Any:
    """Return NumPy values on the device of an array."""
    if is_jax_array(array):  # JAX takes them to the device, or the devices, of what they meet
        return xp.asarray(values)
    return xp.asarray(values, device=device(array))


def _pixels(values: Any) -> AnyArray:
    """Return values of pixels as (n, S), which kernels know as writable."""
    on_host = to_host(values)
    return np.require(on_host.reshape(len(on_host), -1), requirements=("C", "W"))


def _first_unusable(xp: ModuleType, probs: Any, axis: int, usable: Any) -> tuple[Ints, Ints]:
    """Return the first unusable pixel of each image, and why it is."""
    flags = xp.reshape(xp.astype(usable, xp.int32), (usable.shape[0], -1))
    there = to_host(xp.min(flags, axis=1)) == 0
    pixel = np.where(there, to_host(xp.argmin(flags, axis=1)), -1).astype(np.int64)
    reason = np.zeros(len(pixel), np.int64)
    for image in np.nonzero(there)[0].tolist():
        place = np.unravel_index(int(pixel[image]), usable.shape[1:])
        values = pixel_values(probs, image, tuple(map(int, place)), axis)
        reason[image] = first_bad(values[:, None], 0, 1, (0,))[1]
    return pixel, reason


def _worst_sum(xp: ModuleType, total: Any, void: Any) -> tuple[Ints, Floats]:
    """Return the pixel of each image whose sum is farthest from one, and that sum."""
    total = xp.where(void, xp.ones_like(total), total)
    flat = xp.reshape(total, (total.shape[0], -1))
    place = xp.argmax(xp.abs(flat - 1), axis=1)
    worst = xp.take_along_axis(flat, xp.expand_dims(place, axis=1), axis=1)
    return to_host(place), to_host(worst)[:, 0]
