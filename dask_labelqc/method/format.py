"""How a dataset's labels and predictions are stored, as far as the method needs to know."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.kernels.labels import smallest_unsigned
from dask_labelqc.kernels.predictions import decoding_table, largest, probability_dtype
from dask_labelqc.typing import Floats, Shape

__all__ = ["Format", "check_dtypes", "check_scale", "stored_as", "warn_of_fill"]

SUM_TOLERANCE = 1e-2
"""How far from one the probabilities of a pixel may sum before there is a warning."""


@dataclass(frozen=True)
class Format:
    """How predictions are stored.

    Attributes
    ----------
    shape
        (N, *spatial) of images, (N,) of examples.
    num_classes
        K.
    dtype
        Of the stored predictions, in native byte order.
    scale
        What an integer prediction of 1 means; None: the largest integer means 1.
    class_names
        Names of labels, as far as there are any; for people, no part of the answers.
    """

    shape: Shape
    num_classes: int
    dtype: np.dtype[np.generic]
    scale: float | None = None
    class_names: Mapping[int, str] = field(default_factory=dict, compare=False)

    @property
    def item_bytes(self) -> int:
        """Bytes of the predictions of one pixel, or example."""
        return self.num_classes * self.dtype.itemsize

    @property
    def probability_dtype(self) -> np.dtype[np.floating]:
        return probability_dtype(self.dtype)

    @property
    def class_dtype(self) -> np.dtype[np.unsignedinteger]:
        return smallest_unsigned(self.num_classes)

    @property
    def table(self) -> Floats | None:
        return decoding_table(self.dtype, self.scale)

    @property
    def sum_tolerance(self) -> float:
        """How far from one K probabilities may sum; integers are rounded besides.

        Examples
        --------
        >>> Format((5,), 10, np.dtype("float32")).sum_tolerance
        0.01
        """
        if self.dtype.kind == "f":
            return SUM_TOLERANCE
        step = 1 / largest(self.dtype) if self.scale is None else self.scale
        return SUM_TOLERANCE + self.num_classes * step / 2

    def naming(self) -> dict[str, Any]:
        """Return the names of the classes as an attribute, if they have any."""
        names = self.class_names
        if names.keys().isdisjoint(range(self.num_classes)):
            return {}
        return {"class_names": [names.get(k, str(k)) for k in range(self.num_classes)]}


def stored_as(dtype: np.dtype[np.generic], scale: float | None) -> dict[str, Any]:
    """Return a `Format`'s dtype and scale for a stored dtype; a scale means nothing for floats."""
    return {
        "dtype": dtype.newbyteorder("="),
        "scale": None if dtype.kind == "f" or scale is None else float(scale),
    }


def check_dtypes(
    labels: np.dtype[np.generic],
    probs: np.dtype[np.generic],
    from_logits: bool = False,
    label_kinds: str = "iub",
) -> None:
    """Raise InputError if labels or predictions have a dtype that cannot be used."""
    if labels.kind not in label_kinds or labels.itemsize > 8:
        raise InputError(f"labels: got dtype {labels}, it must be an integer dtype")
    floating = probs.kind == "f" and probs.itemsize in (2, 4, 8)
    scaled = probs.kind == "u" and probs.itemsize in (1, 2)
    if not (floating or scaled):
        raise InputError(
            f"pred_probs: got dtype {probs}, it must be float16, float32, float64, "
            "or uint8 or uint16 with a scale"
        )
    if scaled and from_logits:
        raise InputError(f"from_logits: pred_probs are {probs}; logits must be floating point")


def check_scale(scale: float | None) -> None:
    """Raise InputError if the scale factor of integer predictions cannot be used."""
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise InputError(f"pred_probs: scale_factor is {scale!r}, it must be a number above 0")


def warn_of_fill(fill_labels: Iterable[int], num_classes: int) -> None:
    """Warn of classes that stand for no label where the labels are stored."""
    for label in sorted(fill_labels):
        if 0 <= label < num_classes:
            warnings.warn(
                f"labels: {label} is their fill value and one of the classes 0..{num_classes - 1}: "
                "its pixels take part in nothing; if it is a class, open the labels with xarray's "
                "mask_and_scale=False, or without their attribute _FillValue (missing_value)",
                LabelQCWarning,
                stacklevel=4,
            )
