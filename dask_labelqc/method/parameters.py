"""What is asked of an audit, in the form that travels to the workers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, get_args

import numpy as np

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.graph.blocks import spatial_factors
from dask_labelqc.kernels.keys import KeySpace
from dask_labelqc.kernels.labels import smallest_unsigned
from dask_labelqc.kernels.predictions import decoding_table, largest, probability_dtype
from dask_labelqc.kernels.summary import ScanOptions
from dask_labelqc.typing import Floats, LabelDownsample, Shape, Validate

__all__ = [
    "Parameters",
    "check_dtypes",
    "check_scale",
    "make_parameters",
    "sum_tolerance",
    "warn_of_fill",
]

SUM_TOLERANCE = 1e-2
"""How far from one the probabilities of a pixel may sum before there is a warning."""


@dataclass(frozen=True)
class Parameters:
    """The checked arguments of an audit and the facts about its inputs that the method needs.

    Attributes
    ----------
    shape
        (N, *spatial).
    num_classes
        K.
    dtype
        Of the stored predictions.
    scale
        What an integer prediction of 1 means; None: the largest integer means 1.
    ignore_index
        Labels that take part in nothing.
    temperature
        Of the softmin; infinity leaves the image scores out.
    from_logits
        The predictions are logits.
    downsample
        Factor along every spatial axis.
    label_downsample
        How the label of a cell is found.
    validate
        What is checked while computing.
    scores, predicted
        Whether dense scores and predicted classes are wanted.
    issues
        Whether label issues are; otherwise there are only scores.
    class_names
        Names of labels, as far as there are any; for people, no part of the answers.
    """

    shape: Shape
    num_classes: int
    dtype: np.dtype[np.generic]
    scale: float | None = None
    ignore_index: tuple[int, ...] = ()
    temperature: float = 0.1
    from_logits: bool = False
    downsample: int = 1
    label_downsample: LabelDownsample = "mean"
    validate: Validate = "full"
    scores: bool = False
    predicted: bool = False
    issues: bool = True
    class_names: Mapping[int, str] = field(default_factory=dict, compare=False)

    @property
    def factors(self) -> Shape:
        return (self.downsample,) * (len(self.shape) - 1)

    @property
    def cells_shape(self) -> Shape:
        """(N, *spatial) of the downsampled grid."""
        return (self.shape[0], *(n // self.downsample for n in self.shape[1:]))

    @property
    def pixel_bytes(self) -> int:
        return self.num_classes * self.dtype.itemsize

    @property
    def probability_dtype(self) -> np.dtype[np.floating]:
        return probability_dtype(self.dtype)

    @property
    def class_dtype(self) -> np.dtype[np.unsignedinteger]:
        return smallest_unsigned(self.num_classes)

    @property
    def sum_tolerance(self) -> float:
        return sum_tolerance(self.dtype, self.num_classes, self.scale)

    @property
    def bound(self) -> float:
        """The highest score that can be selected when all sums are within the tolerance.

        A pixel that disagrees has s <= m, so s <= (s + m) / 2 <= sum / 2, and at least as many
        pixels disagree as are selected.
        """
        return (1 + self.sum_tolerance) / 2

    @property
    def key_space(self) -> KeySpace:
        cells = math.prod(self.cells_shape)
        return KeySpace(8 * self.probability_dtype.itemsize, max((cells - 1).bit_length(), 1))

    @property
    def table(self) -> Floats | None:
        return decoding_table(self.dtype, self.scale)

    def attributes(self) -> dict[str, Any]:
        """Return the arguments of the audit as plain values."""
        return {
            "ignore_index": list(self.ignore_index),
            "temperature": self.temperature,
            "from_logits": self.from_logits,
            "probability_scale": self.scale,
            "downsample": self.downsample,
            "label_downsample": self.label_downsample,
            "validate": self.validate,
        }

    def naming(self) -> dict[str, Any]:
        """Return the names of the classes as an attribute, if they have any."""
        names = self.class_names
        if names.keys().isdisjoint(range(self.num_classes)):
            return {}
        return {"class_names": [names.get(k, str(k)) for k in range(self.num_classes)]}

    def scan_options(self, bound: float) -> ScanOptions:
        return ScanOptions(
            bound=bound,
            temperature=self.temperature,
            from_logits=self.from_logits,
            check=self.validate == "full",
            scores=self.scores,
            predicted=self.predicted,
            factors=self.factors,
            majority=self.label_downsample == "majority",
            candidates=self.issues,
        )


def sum_tolerance(dtype: np.dtype[np.generic], num_classes: int, scale: float | None) -> float:
    """Return `SUM_TOLERANCE`, and for integers the rounding of K probabilities besides.

    Examples
    --------
    >>> sum_tolerance(np.dtype("float32"), 10, None)
    0.01
    """
    if dtype.kind == "f":
        return SUM_TOLERANCE
    step = 1 / largest(dtype) if scale is None else scale
    return SUM_TOLERANCE + num_classes * step / 2


def make_parameters(
    labels_shape: Shape,
    labels_dtype: np.dtype[np.generic],
    probs_shape: Shape,
    probs_dtype: np.dtype[np.generic],
    *,
    ignore_index: int | Iterable[int] | None = None,
    temperature: float = 0.1,
    from_logits: bool = False,
    downsample: int = 1,
    label_downsample: LabelDownsample = "mean",
    validate: Validate = "full",
    scale: float | None = None,
    scores: bool = False,
    predicted: bool = False,
    image_scores: bool = True,
    issues: bool = True,
    class_names: Mapping[int, str] | None = None,
    fill_labels: tuple[int, ...] = (),
) -> Parameters:
    """Check the arguments of an audit of labels (N, *spatial) and pred_probs (N, K, *spatial).

    `fill_labels` are those that stand for no label where they are stored: they are ignored too.

    Raises
    ------
    InputError
        Naming the argument, what it is, and what it may be.
    """
    _check_shapes(labels_shape, probs_shape)
    # xarray decodes labels to floats where they have a fill value.
    check_dtypes(labels_dtype, probs_dtype, from_logits, label_kinds="iubf")
    check_scale(scale)
    factors = spatial_factors(downsample, labels_shape[1:])
    for name, value, allowed in (
        ("label_downsample", label_downsample, get_args(LabelDownsample)),
        ("validate", validate, get_args(Validate)),
    ):
        if value not in allowed:
            raise InputError(f"{name}: got {value!r}, it must be one of {', '.join(allowed)}")
    if not (isinstance(temperature, Real) and 0 < temperature < math.inf):
        raise InputError(f"temperature: got {temperature!r}, it must be a number above 0")
    ignored = _ignored(ignore_index)
    warn_of_fill(set(fill_labels) - set(ignored), probs_shape[1])
    return Parameters(
        shape=labels_shape,
        num_classes=probs_shape[1],
        dtype=probs_dtype.newbyteorder("="),
        scale=None if probs_dtype.kind == "f" or scale is None else float(scale),
        ignore_index=_ignored((*ignored, *fill_labels)),
        temperature=float(temperature) if image_scores else math.inf,
        from_logits=bool(from_logits),
        downsample=factors[0],
        label_downsample=label_downsample,
        validate=validate,
        scores=scores,
        predicted=predicted,
        issues=issues,
        class_names=class_names or {},
    )


def _check_shapes(labels: Shape, probs: Shape) -> None:
    if len(labels) < 2:
        raise InputError(
            f"labels: got shape {labels}, it must be (N, *spatial) with 1 to 3 spatial dimensions"
        )
    if len(labels) > 4:
        raise InputError(f"labels: got shape {labels}, at most 3 spatial dimensions are supported")
    if len(probs) != len(labels) + 1:
        raise InputError(
            f"pred_probs: got shape {probs}, it must be (N, K, *spatial) with one dimension more "
            f"than labels, which have shape {labels}"
        )
    if (probs[0], *probs[2:]) != labels:
        raise InputError(
            f"pred_probs: got shape {probs}, it must be (N, K, *spatial) with the N and spatial "
            f"shape of labels {labels}"
        )
    if 0 in labels:
        raise InputError(f"labels: got shape {labels}, the dataset is empty")
    if probs[1] < 2:
        raise InputError(f"pred_probs: got shape {probs}, K = {probs[1]} classes; it must be 2 up")


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


def _ignored(ignore_index: int | Iterable[int] | None) -> tuple[int, ...]:
    if ignore_index is None:
        return ()
    several = isinstance(ignore_index, Iterable) and not isinstance(ignore_index, str)
    values: tuple[Any, ...] = tuple(ignore_index) if several else (ignore_index,)  # type: ignore[arg-type]
    for value in values:
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise InputError(f"ignore_index: got {value!r}, it must be an integer or several")
    return tuple(sorted({int(value) for value in values}))
