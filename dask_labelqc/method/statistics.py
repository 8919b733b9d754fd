"""What is added up over the pixels or the examples of a dataset, to know its thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from dask_labelqc.kernels.fixed_point import FIXED_POINT
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

__all__ = ["NO_SUM", "ClassStatistics", "WorstSum", "confident_thresholds"]

LOWEST_THRESHOLD = 2e-6


class WorstSum(NamedTuple):
    """The probabilities whose sum is farthest from one.

    Attributes
    ----------
    deviation
        How far.
    place
        (image, *pixel), or (example,).
    total
        The sum.
    """

    deviation: float
    place: Shape
    total: float


NO_SUM = WorstSum(0.0, (), 1.0)


@dataclass(frozen=True)
class ClassStatistics:
    """What is added up of each class; `+` is exact, so its order does not matter.

    Attributes
    ----------
    class_sum
        Python integers (K,): self-confidence of what is labelled k, times 2**32.
    class_count
        int64 (K,): how much is labelled k.
    worst_sum
        Of the probabilities; of equal ones that of the first place.
    """

    class_sum: AnyArray
    class_count: Ints
    worst_sum: WorstSum

    def thresholds(self) -> Floats:
        return confident_thresholds(self.class_sum, self.class_count)

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            class_sum=self.class_sum + other.class_sum,
            class_count=self.class_count + other.class_count,
            worst_sum=min(self.worst_sum, other.worst_sum, key=lambda w: (-w.deviation, w.place)),
        )


def confident_thresholds(class_sum: AnyArray, class_count: Ints) -> Floats:
    """Return the mean self-confidence of each class, float64 (K,), at least 2e-6.

    Agrees with `cleanlab.count.get_confident_thresholds` where every class occurs.

    Parameters
    ----------
    class_sum
        Integers (K,), in units of 2**-32.
    class_count
        (K,).

    Examples
    --------
    >>> confident_thresholds(np.array([2**32, 0], object), np.array([2, 0]))
    array([5.e-01, 2.e-06])
    """
    means = [
        int(total) / (int(count) * FIXED_POINT) if count else 0.0
        for total, count in zip(class_sum, class_count, strict=True)
    ]
    return np.maximum(means, LOWEST_THRESHOLD)
