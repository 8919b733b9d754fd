"""What the stages do with pixels, between those that read and paint them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import LabelQCWarning
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.gaps import Missing
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.statistics import NO_SUM, WorstSum
from dask_labelqc.method.summarize import Statistics


def method(validate: str = "full") -> PixelMethod:
    options = Options.of(validate=validate)
    facts = (2, 3), np.dtype("u1"), (2, 4, 3), np.dtype("f4")
    return PixelMethod(Parameters.of_images(options, *facts))


def statistics(below_bound: int = 4, worst: WorstSum = NO_SUM) -> Statistics:
    bits = int(np.float32(0.25).view(np.uint32)) >> 16
    return Statistics(
        class_sum=np.array([2**32, 0, 2**31, 0], object),
        class_count=np.array([2, 0, 1, 0]),
        worst_sum=worst,
        sums={},
        histogram=Histogram(np.array([bits]), np.array([4])),
        below_bound=below_bound,
        highest_disagreeing=0.75,
        missing=Missing(),
    )


def test_thresholds() -> None:
    assert method().thresholds(statistics()).tolist() == [0.5, 2e-6, 0.5, 2e-6]


@pytest.mark.parametrize(("number", "bound"), [(0, None), (4, None), (5, 0.75)])
def test_read_again_if_more_are_wanted_than_lie_below_the_bound(number: int, bound: Any) -> None:
    known = statistics()
    assert method().again(known, method().thresholds(known), number) == bound


def test_the_first_digit_is_known_when_the_search_starts() -> None:
    one = method()
    search = one.start(statistics(), 1)
    assert len(search.prefix) == 1
    assert one.most_rounds == one.params.key_space.levels - 1
    assert one.start(statistics(), 4).done
    assert one.start(statistics(), 0).done


@pytest.mark.parametrize(("validate", "number"), [("full", 1), ("labels", 0), ("none", 0)])
def test_sums_are_warned_of_where_they_are_looked_at(
    validate: Any, number: Any, recwarn: Any
) -> None:
    worst = WorstSum(0.5, (1, 2), 1.5)
    known = statistics(worst=worst)
    assert method(validate).warn(known) is known
    assert [w.category for w in recwarn.list] == [LabelQCWarning] * number
