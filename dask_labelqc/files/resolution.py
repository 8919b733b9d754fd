"""Predictions at another resolution than the labels, or on another grid over the same scene.

What a pixel gets does not depend on which part of its image is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError, advise
from dask_labelqc.files.formats import needed
from dask_labelqc.files.geometry import Geometry, places_in, same_grid
from dask_labelqc.files.reader import Form, Reader, Window, name_shape
from dask_labelqc.kernels.predictions import largest
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["Interpolation", "Resolution", "sampled", "upsampled"]

Interpolation: TypeAlias = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Resolution:
    """How predictions come to the pixels of the labels.

    Attributes
    ----------
    upsample
        By how much the predictions are smaller along every axis.
    interpolation
        "bilinear" or "nearest".
    resample
        The predictions may be on another grid, which their files tell.
    """

    upsample: int = 1
    interpolation: Interpolation = "bilinear"
    resample: bool = False

    @classmethod
    def of(cls, upsample: int, interpolation: Interpolation, resample: bool) -> Resolution:
        """Check the arguments of a public function."""
        if interpolation not in get_args(Interpolation):
            allowed = " or ".join(get_args(Interpolation))
            raise InputError(f"interpolation: got {interpolation!r}, it must be {allowed}")
        positive_integer("upsample", upsample)
        if resample and upsample > 1:
            raise InputError(
                f"upsample: got {upsample} and resample; of predictions whose files say where they "
                "are one is enough, resample"
            )
        return cls(upsample, interpolation, bool(resample))

    @property
    def changes(self) -> bool:
        """Whether predictions are anything but what is stored."""
        return self.upsample > 1 or self.resample

    def dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the predictions of the labels' pixels."""
        if not self.changes or self.interpolation == "nearest":
            return stored
        return np.dtype(np.float64 if stored == np.float64 else np.float32)

    def read(self, reader: Reader, id: str, form: Form, window: Window, labels: Form) -> AnyArray:
        """Read the predictions of a part of an image.

        Parameters
        ----------
        reader
            Of the predictions.
        id
            Of the image.
        form
            Of its predictions.
        window
            The part, of the labels' pixels.
        labels
            The form of the labels.

        Raises
        ------
        InputError
            The predictions do not fit the labels; the message says how they lie.
        """
        self.check(reader, id, form, labels)
        coarse = form.shape[1:]
        if self.upsample > 1:
            part = _coarse(window, self.upsample, coarse)
            values = self._floats(_part(reader, id, part, coarse), form.scale)
            return upsampled(values, part, window, self.upsample, coarse, self.interpolation)
        if not self.resample or same_grid(form.geometry, labels.geometry, labels.shape):
            return self._floats(_part(reader, id, window, coarse), form.scale)
        places = self._places(reader, id, form, window, labels)
        part = tuple(
            slice(max(int(np.floor(along.min())), 0), min(int(np.floor(along.max())) + 2, n))
            for along, n in zip(places, coarse, strict=True)
        )
        values = self._floats(_part(reader, id, part, coarse), form.scale)
        start = [along.start for along in part]
        return sampled(values, places, start, self.interpolation)

    def _floats(self, values: AnyArray, scale: float | None) -> AnyArray:
        """Return stored predictions as what they stand for, where they are interpolated."""
        if not self.changes or self.interpolation == "nearest":
            return values
        dtype = self.dtype(values.dtype)
        floats = values.astype(dtype, copy=False)
        if values.dtype.kind not in "ui":
            return floats
        one = largest(values.dtype) if scale is None else 1 / scale
        return floats / dtype.type(one)

    def check(self, reader: Reader, id: str, form: Form, labels: Form) -> None:
        """Raise InputError if predictions do not fit the labels of an image."""
        name, shape, own = reader.name(id), form.shape, labels.shape
        if len(shape) != len(own) + 1:
            raise InputError(
                f"pred_probs: {name} has shape {shape}, it must be (K, *spatial) with the labels' "
                f"{name_shape(own)}"
            )
        if self.resample:
            if form.geometry is None or labels.geometry is None:
                which = "pred_probs" if form.geometry is None else "labels"
                raise InputError(
                    f"resample: the files of {which} do not say where they are, such as that of "
                    f"{id!r}"
                )
            return
        if tuple(n * self.upsample for n in shape[1:]) != own:
            raise _does_not_fit(name, shape, own, self.upsample)
        finer = form.geometry and form.geometry.refined(self.upsample)
        if not same_grid(finer, labels.geometry, own):
            raise InputError(
                f"pred_probs: {name} is on another grid than its labels: {_grid(form.geometry)}, "
                f"and they {_grid(labels.geometry)}",
                advise("{resample} takes the predictions where the labels are", resample=True),
            )

    def _places(
        self, reader: Reader, id: str, form: Form, window: Window, labels: Form
    ) -> NDArray[np.float64]:
        assert form.geometry is not None
        assert labels.geometry is not None
        start = tuple(part.start for part in window)
        shape = tuple(part.stop - part.start for part in window)
        places = places_in(form.geometry, labels.geometry, start, shape)
        for along, n in zip(places, form.shape[1:], strict=True):
            if not (along.min() >= -0.5 and along.max() <= n - 0.5):
                raise InputError(
                    f"pred_probs: {reader.name(id)} does not cover its labels: these lie at "
                    f"{along.min():.1f} to {along.max():.1f} of its {n} pixels along an axis"
                )
        return places


def _part(reader: Reader, id: str, window: Window, shape: Shape) -> AnyArray:
    whole = all((part.start, part.stop) == (0, n) for part, n in zip(window, shape, strict=True))
    if whole or reader.in_parts:
        return reader.read(id, None if whole else window)
    return reader.read(id)[(slice(None), *window)]


def _does_not_fit(name: str, shape: Shape, own: Shape, upsample: int) -> InputError:
    advice = None
    factors = {n // k for n, k in zip(own, shape[1:], strict=True) if k and n % k == 0}
    exact = all(k and n % k == 0 for n, k in zip(own, shape[1:], strict=True))
    if exact and len(factors) == 1:
        advice = advise("{upsample} makes them fit", upsample=factors.pop())
    elif shape[-1] != own[-1] and (*shape[:-1],) == own:
        advice = advise("{class_axis} says that the classes are last", class_axis=-1)
    by = f", and upsample is {upsample}" if upsample > 1 else ""
    return InputError(
        f"pred_probs: {name} has {shape[0]} classes of {name_shape(shape[1:])} pixels, its labels "
        f"have {name_shape(own)}{by}",
        advice,
    )


def _grid(geometry: Geometry | None) -> str:
    if geometry is None:
        return "is not said"
    first = [round(row[-1], 3) for row in geometry.affine]
    sizes = np.sqrt((geometry.matrix[:-1, :-1] ** 2).sum(axis=0)).round(3).tolist()
    return f"begins at {first} with pixels of {sizes}"


def _coarse(window: Window, factor: int, shape: Shape) -> Window:
    """Return the coarse pixels that a part is made of: one more on each side, if there is one."""
    return tuple(
        slice(max(part.start // factor - 1, 0), min((part.stop - 1) // factor + 2, n))
        for part, n in zip(window, shape, strict=True)
    )


def upsampled(
    values: AnyArray,
    part: Window,
    window: Window,
    factor: int,
    shape: Shape,
    interpolation: Interpolation = "bilinear",
) -> AnyArray:
    r"""Return coarse values at finer pixels, whose corners are those of the coarse ones.

    Parameters
    ----------
    values
        (K, \*spatial), the coarse pixels of `part`.
    part, window
        Which coarse pixels these are, and which fine ones are wanted.
    factor
        Fine pixels along the side of a coarse one.
    shape
        Of the whole coarse image, beyond which its last pixels go on.
    interpolation
        "bilinear" (between the centres of pixels, along every axis) or "nearest".

    Examples
    --------
    >>> upsampled(np.array([[0.0, 1.0]]), (slice(0, 2),), (slice(0, 4),), 2, (2,))
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    for axis, (have, want, n) in enumerate(zip(part, window, shape, strict=True), start=1):
        fine = np.arange(want.start, want.stop)
        if interpolation == "nearest":
            values = values.take(fine // factor - have.start, axis)
            continue
        # In whole numbers: place = (2 fine + 1 - factor) / (2 factor).
        lower, rest = np.divmod(2 * fine + 1 - factor, 2 * factor)
        share = (rest / (2 * factor)).astype(values.dtype)
        share = share.reshape(-1, *(1,) * (values.ndim - axis - 1))
        low, high = (np.clip(lower + i, 0, n - 1) - have.start for i in (0, 1))
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


def sampled(
    values: AnyArray,
    places: NDArray[np.float64],
    start: Sequence[int],
    interpolation: Interpolation = "bilinear",
) -> AnyArray:
    r"""Return values (K, \*spatial) of which the first pixel is at `start`, at places (d, ...)."""
    ndimage = needed("scipy.ndimage", "geo", "resample")
    inside = places - np.reshape(start, (-1, *(1,) * (places.ndim - 1)))
    if interpolation == "nearest":
        index = [
            np.clip(np.floor(along + 0.5).astype(np.intp), 0, n - 1)
            for along, n in zip(inside, values.shape[1:], strict=True)
        ]
        return values[(slice(None), *index)]
    planes = [
        ndimage.map_coordinates(plane, inside, order=1, mode="nearest", output=values.dtype)
        for plane in values
    ]
    return np.stack(planes)
