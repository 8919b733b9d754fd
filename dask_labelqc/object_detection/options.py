"""The parameters of the scores, checked once, with cleanlab's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from dask_labelqc.errors import InputError

__all__ = [
    "CLEANLAB_KINDS",
    "ISSUE_FACTOR",
    "KINDS",
    "PRECISION_FACTOR",
    "BoxScoreOptions",
    "check_fraction",
]

CLEANLAB_KINDS = ("overlooked", "badloc", "swap")
KINDS = (*CLEANLAB_KINDS, "spurious")
"""The ways in which a box can be wrong, in the order of the kernels' results."""

PRECISION_FACTOR = 0.25
ISSUE_FACTOR = 0.8
"""A box is an issue when its score is at most 0.8 * 0.25 * average precision of its class."""


def check_fraction(name: str, value: Any) -> None:
    """Raise unless a probability, score or share is a number between 0 and 1."""
    array = np.asarray(value)  # a quantile of a DataArray is an array, too
    if array.ndim or array.dtype.kind not in "fiu" or not 0 <= array <= 1:
        raise InputError(f"{name}: got {value!r}, it must be between 0 and 1")


def _equal_weights() -> dict[str, float]:
    return dict.fromkeys(CLEANLAB_KINDS, 1 / 3)


@dataclass(frozen=True)
class BoxScoreOptions:
    """How boxes are scored and images summed up.

    Attributes
    ----------
    alpha
        Weight of the IoU in the similarity, 0..1; the rest goes to the distance of the centres.
    low_probability_threshold, high_probability_threshold
        From which probability on a prediction is considered for badloc, and for overlooked and
        swap.
    temperature
        Of the softmin over the boxes of an image; the lower, the nearer to the minimum.
    overlapping_label_check
        Whether a given box that nearly coincides with one of another class counts as swapped.
    weights
        Weight of each kind of error in the image score.
    """

    alpha: float = 0.9
    low_probability_threshold: float = 0.5
    high_probability_threshold: float = 0.95
    temperature: float = 0.1
    overlapping_label_check: bool = True
    weights: Mapping[str, float] = field(default_factory=_equal_weights)

    def __post_init__(self) -> None:
        for name in ("alpha", "low_probability_threshold", "high_probability_threshold"):
            check_fraction(name, getattr(self, name))
        if not isinstance(self.temperature, Real) or not 0 < self.temperature < np.inf:
            raise InputError(f"temperature: got {self.temperature!r}, it must be a number above 0")
        if not isinstance(self.weights, Mapping):
            raise InputError(
                f"aggregation_weights: got {self.weights!r}, it must be a mapping of the kinds of "
                "error to numbers"
            )
        missing = [kind for kind in CLEANLAB_KINDS if kind not in self.weights]
        unknown = [kind for kind in self.weights if kind not in KINDS]
        if missing or unknown:
            raise InputError(
                f"aggregation_weights: missing {missing}, unknown {unknown}; needed are "
                f"{list(CLEANLAB_KINDS)}, 'spurious' is optional"
            )
        values = list(self.weights.values())
        numbers = all(isinstance(value, Real) for value in values)
        if not numbers or min(values) < 0 or not np.isclose(sum(values), 1.0):
            raise InputError(
                f"aggregation_weights: got {dict(self.weights)}, they must not be negative and "
                "must sum to 1"
            )

    @classmethod
    def given(cls, **values: object) -> BoxScoreOptions:
        """Return the options with the values that are not None; the rest are the defaults."""
        return cls(**{k: v for k, v in values.items() if v is not None})  # type: ignore[arg-type]
