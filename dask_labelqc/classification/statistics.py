"""What is added up over the examples of a dataset: sums and counts of the classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_labelqc.kernels.examples import ExampleScan
from dask_labelqc.method.issues import is_confident
from dask_labelqc.method.statistics import NO_SUM, ClassStatistics, WorstSum
from dask_labelqc.typing import Floats, Ints

__all__ = ["ExampleStatistics", "IssueCounts"]

LOWEST_DIVISOR = 1e-6
NO_CHUNK: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ExampleStatistics(ClassStatistics):
    """What is added up over the examples of a dataset.

    Attributes
    ----------
    class_sum, class_count, worst_sum
        As of all.
    absent_labels, absent_pred_probs
        Numbers of the storage chunks that are not in their stores.
    """

    worst_sum: WorstSum = NO_SUM
    absent_labels: frozenset[int] = NO_CHUNK
    absent_pred_probs: frozenset[int] = NO_CHUNK

    @classmethod
    def nothing(cls, num_classes: int) -> ExampleStatistics:
        return cls(np.zeros(num_classes, object), np.zeros(num_classes, np.int64))

    @classmethod
    def of(cls, scan: ExampleScan, start: int) -> ExampleStatistics:
        """Take what was found of a run of examples that begins at the place `start`."""
        deviation, total = scan.worst_sum.tolist()
        worst = WorstSum(deviation, (start + int(scan.facts[2]),), total)
        return cls(scan.class_sum.astype(object), scan.class_count, worst)

    @property
    def num_examples(self) -> int:
        return int(self.class_count.sum())

    def __add__(self, other: ExampleStatistics) -> ExampleStatistics:
        return replace(
            super().__add__(other),
            absent_labels=self.absent_labels | other.absent_labels,
            absent_pred_probs=self.absent_pred_probs | other.absent_pred_probs,
        )

    def beyond(self, known: ExampleStatistics) -> ExampleStatistics:
        """Return what is to be added to what was known before to get this."""
        return replace(
            self,
            class_sum=self.class_sum - known.class_sum,
            class_count=self.class_count - known.class_count,
        )


@dataclass(frozen=True)
class IssueCounts:
    """How many examples of each given class there are, and are confidently predicted.

    Attributes
    ----------
    total, confident, off_diagonal
        int64 (K,): all that were looked at, those whose prediction reaches its threshold, and
        those of them whose prediction is another class.
    """

    total: Ints
    confident: Ints
    off_diagonal: Ints

    @classmethod
    def nothing(cls, num_classes: int) -> IssueCounts:
        return cls(*np.zeros((3, num_classes), np.int64))

    @classmethod
    def of(
        cls, given: Ints, predicted: Ints, confidence: Floats, thresholds: Floats
    ) -> IssueCounts:
        """Count examples by their y, a and m."""
        confident = is_confident(confidence, predicted, thresholds)
        off_diagonal = confident & (given != predicted)
        return cls(
            *(
                np.bincount(classes, minlength=thresholds.size)
                for classes in (given, given[confident], given[off_diagonal])
            )
        )

    def __add__(self, other: IssueCounts) -> IssueCounts:
        return IssueCounts(
            self.total + other.total,
            self.confident + other.confident,
            self.off_diagonal + other.off_diagonal,
        )

    def num_issues(self, calibrated: bool) -> int:
        """Estimate the number of label issues.

        Agrees with `get_num_issues` of cleanlab's LabelInspector. The calibrated estimate takes
        the share of issues among the confident examples of a class for that among all of them.

        Examples
        --------
        >>> counts = IssueCounts(np.array([8, 2]), np.array([4, 2]), np.array([2, 0]))
        >>> counts.num_issues(calibrated=False), counts.num_issues(calibrated=True)
        (2, 4)
        """
        if not calibrated:
            return int(self.off_diagonal.sum())
        expected = self.off_diagonal * self.total / np.maximum(self.confident, LOWEST_DIVISOR)
        return int(np.rint(expected.sum()))
