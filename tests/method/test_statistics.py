from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from dask_labelqc.method.statistics import NO_SUM, ClassStatistics, WorstSum
from dask_labelqc.method.validity import wrong_sum


def statistics(worst: WorstSum, total: int = 1) -> ClassStatistics:
    return ClassStatistics(np.array([total, 2**70], object), np.array([1, 2]), worst)


def test_sums_are_exact_whatever_their_size() -> None:
    total = statistics(NO_SUM) + statistics(NO_SUM, 3)
    assert total.class_sum.tolist() == [4, 2**71]
    assert total.class_count.tolist() == [2, 4]


def test_the_worst_sum_is_the_first_of_the_farthest() -> None:
    parts = [
        WorstSum(0.25, (2, 0, 1), 0.75),
        WorstSum(0.25, (1, 5, 0), 1.25),
        WorstSum(0.25, (1, 4, 7), 0.75),
        WorstSum(0.125, (0, 0, 0), 1.125),
        NO_SUM,
    ]
    for order in permutations(parts):
        total = statistics(order[0])
        for worst in order[1:]:
            total = total + statistics(worst)
        assert total.worst_sum.place == (1, 4, 7)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            (3, 4, 5),
            "of a pixel should sum to 1 (within 0.01); the worst sum is 1.25 at image 3, "
            "pixel (4, 5)",
        ),
        ((3,), "of an example should sum to 1 (within 0.01); the worst sum is 1.25 at example 3"),
    ],
)
def test_a_wrong_sum_is_said_with_its_place(place: Any, said: str) -> None:
    message = wrong_sum(WorstSum(0.25, place, 1.25), 0.01)
    assert message == f"pred_probs: the probabilities {said}"


def test_a_sum_within_the_tolerance_is_not_wrong() -> None:
    assert wrong_sum(WorstSum(0.01, (3,), 1.01), 0.01) is None
