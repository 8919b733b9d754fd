"""What is asked of a search for label issues, checked, in the form that travels to the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dask_labelqc.arguments import check_flag
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.examples import (
    CONFIDENCE_WEIGHTED_ENTROPY,
    NORMALIZED_MARGIN,
    SELF_CONFIDENCE,
    ExampleScanOptions,
)
from dask_labelqc.kernels.keys import KeySpace
from dask_labelqc.method.format import Format, check_dtypes, check_scale, stored_as
from dask_labelqc.typing import Floats, Shape

__all__ = [
    "EstimationMethod",
    "ExampleFormat",
    "ScoreMethod",
    "ScoreOptions",
    "check_format",
]

ScoreMethod: TypeAlias = Literal[
    "self_confidence", "normalized_margin", "confidence_weighted_entropy"
]
EstimationMethod: TypeAlias = Literal["off_diagonal", "off_diagonal_calibrated"]

KERNEL_METHODS = {
    "self_confidence": SELF_CONFIDENCE,
    "normalized_margin": NORMALIZED_MARGIN,
    "confidence_weighted_entropy": CONFIDENCE_WEIGHTED_ENTROPY,
}


@dataclass(frozen=True)
class ScoreOptions:
    """How examples are scored and their issues counted.

    Attributes
    ----------
    method
        The label quality score.
    adjust_pred_probs
        Subtract the confident thresholds from the probabilities before scoring.
    estimation_method
        Of the number of issues.
    """

    method: ScoreMethod = "self_confidence"
    adjust_pred_probs: bool = False
    estimation_method: EstimationMethod = "off_diagonal"

    @classmethod
    def of(
        cls,
        quality_score_kwargs: Mapping[str, Any] | None,
        num_issue_kwargs: Mapping[str, Any] | None,
    ) -> ScoreOptions:
        """Check the two sets of keyword arguments.

        Raises
        ------
        InputError
            A keyword is unknown, or its value is not one of those allowed.

        Examples
        --------
        >>> ScoreOptions.of({"method": "normalized_margin"}, None).method
        'normalized_margin'
        """
        allowed_for_scores = ("method", "adjust_pred_probs")
        score = _keywords("quality_score_kwargs", quality_score_kwargs, allowed_for_scores)
        count = _keywords("num_issue_kwargs", num_issue_kwargs, ("estimation_method",))
        options = cls(**score, **count)
        check_flag("quality_score_kwargs: adjust_pred_probs", options.adjust_pred_probs)
        for name, value, allowed in (
            ("quality_score_kwargs: method", options.method, get_args(ScoreMethod)),
            (
                "num_issue_kwargs: estimation_method",
                options.estimation_method,
                get_args(EstimationMethod),
            ),
        ):
            if not isinstance(value, str) or value not in allowed:
                raise InputError(f"{name}: got {value!r}, it must be one of {', '.join(allowed)}")
        if options.adjust_pred_probs and options.method == "confidence_weighted_entropy":
            raise InputError(
                "quality_score_kwargs: adjust_pred_probs, method: both were given, and the entropy "
                "of 'confidence_weighted_entropy' needs plain probabilities"
            )
        return options

    @property
    def calibrated(self) -> bool:
        return self.estimation_method == "off_diagonal_calibrated"

    @property
    def rescored(self) -> bool:
        """Whether the thresholds must be known before a score can be."""
        return self.adjust_pred_probs

    @property
    def reads_twice(self) -> bool:
        """Whether the score needs all probabilities of an example and the thresholds."""
        return self.adjust_pred_probs and self.method == "normalized_margin"

    @property
    def scores_apart(self) -> bool:
        """Whether the score is another number than the self-confidence."""
        return self.method != "self_confidence"

    def bound(self, sum_tolerance: float) -> float:
        """Return the highest score of an issue when no sum exceeds one by more.

        An issue disagrees with its prediction: it has s <= m, so s <= sum / 2, and a margin of at
        most 0.5. Of the entropy nothing such is known, nor of scores that are still to be adjusted.
        """
        if self.rescored or self.method == "confidence_weighted_entropy":
            return float("inf")
        return 0.5 if self.method == "normalized_margin" else (1 + sum_tolerance) / 2

    def scan(self, bound: float, thresholds: Floats | None = None) -> ExampleScanOptions:
        method = KERNEL_METHODS[self.method]
        if self.reads_twice:
            return ExampleScanOptions(method, bound, thresholds)
        return ExampleScanOptions(method, bound, totals=self.rescored)


def _keywords(name: str, given: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, Mapping | None):
        raise InputError(f"{name}: got {given!r}, it must be a dictionary")
    for keyword in given or ():
        if keyword not in allowed:
            raise InputError(
                f"{name}: got the unknown keyword {keyword!r}, it may have {', '.join(allowed)}"
            )
    return dict(given or {})


@dataclass(frozen=True)
class ExampleFormat(Format):
    """How a dataset of examples is stored.

    Attributes
    ----------
    fill_labels
        Labels that stand for none where they are stored: these examples take part in nothing.
    """

    fill_labels: tuple[int, ...] = ()

    @property
    def num_examples(self) -> int:
        return self.shape[0]

    def key_space(self, options: ScoreOptions) -> KeySpace:
        plain = not options.rescored and options.method != "confidence_weighted_entropy"
        bits = 8 * self.probability_dtype.itemsize if plain else 64
        return KeySpace(bits, max((self.num_examples - 1).bit_length(), 1))


def check_format(
    labels_shape: Shape,
    labels_dtype: np.dtype[np.generic],
    probs_shape: Shape,
    probs_dtype: np.dtype[np.generic],
    scale: float | None = None,
) -> ExampleFormat:
    """Check labels (N,) and pred_probs (N, K) by their shapes and dtypes.

    Raises
    ------
    InputError
        Naming the argument, what it is, and what it may be.
    """
    if len(probs_shape) != 2:
        raise InputError(f"pred_probs: got shape {probs_shape}, it must be (N, K)")
    if len(labels_shape) != 1:
        raise InputError(f"labels: got shape {labels_shape}, it must be (N,)")
    if labels_shape[0] != probs_shape[0]:
        raise InputError(
            f"labels: there are {labels_shape[0]} of them, but pred_probs have shape "
            f"{probs_shape}, {probs_shape[0]} examples"
        )
    if labels_shape[0] == 0:
        raise InputError("labels: got shape (0,), the dataset is empty")
    if probs_shape[1] < 2:
        raise InputError(
            f"pred_probs: got shape {probs_shape}, K = {probs_shape[1]} classes; it must be 2 up"
        )
    whole_numbers = np.dtype(np.int64) if labels_dtype.kind == "f" else labels_dtype
    check_dtypes(whole_numbers, probs_dtype)
    check_scale(scale)
    return ExampleFormat(labels_shape, probs_shape[1], **stored_as(probs_dtype, scale))
