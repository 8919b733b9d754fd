from __future__ import annotations

from functools import reduce
from itertools import permutations
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.extent import Extent
from tests import reference
from tests.method.summaries import summarized
from tests.strategies import cases, make_case


@st.composite
def cut_cases(draw: st.DrawFn) -> Any:
    case = draw(cases())
    return case, tuple(draw(st.integers(1, n)) for n in case.labels.shape)


@given(cut_cases())
def test_the_blocks_of_a_region_do_not_show(drawn: Any) -> None:
    case, chunk = drawn
    region = Extent((0,) * case.labels.ndim, case.labels.shape)
    cut, whole = (summarized(case, region, c) for c in (chunk, case.labels.shape))
    a, b = cut.statistics, whole.statistics
    assert a.class_sum.tolist() == b.class_sum.tolist()
    assert a.histogram.counts.tolist() == b.histogram.counts.tolist()
    assert (a.below_bound, a.highest_disagreeing) == (b.below_bound, b.highest_disagreeing)
    assert {*cut.dense} == {"pixel_scores", "predicted_label"}
    for name, values in cut.dense.items():
        np.testing.assert_array_equal(values, whole.dense[name])
    np.testing.assert_array_equal(cut.images["count"], whole.images["count"])
    order = np.argsort(cut.candidates.position)
    for name in ("position", "score", "confidence", "given", "predicted"):
        found = getattr(cut.candidates, name)[order]
        np.testing.assert_array_equal(found, getattr(whole.candidates, name))
    agreeing = (np.sort(it.candidates.agreeing) for it in (cut, whole))
    np.testing.assert_array_equal(*agreeing)
    pixels = cut.candidates
    np.testing.assert_array_equal(
        sorted(zip(pixels.pixel_position, pixels.position[pixels.pixel_cell], strict=True)),
        sorted(
            zip(
                whole.candidates.pixel_position,
                whole.candidates.position[whole.candidates.pixel_cell],
                strict=True,
            )
        ),
    )


def test_statistics_add_up_in_any_order() -> None:
    case = make_case(shape=(4, 3, 5), dtype="f8")
    case.pred_probs[1, :, 1, 1] *= 0.5
    case.pred_probs[2, :, 2, 0] *= 0.5
    regions = [Extent((i, 0, 0), (i + 1, 3, 5)) for i in range(4)]
    parts = [summarized(case, region, (1, 3, 5)).statistics for region in regions]
    codes = reference.encode(case.labels, 4)
    sums, counts = reference.class_sums(reference.at_class(case.pred_probs, codes), codes, 4)
    for order in permutations(parts):
        total = reduce(add, order)
        assert total.class_sum.tolist() == sums
        assert total.class_count.tolist() == counts
        assert total.worst_sum.place == (1, 1, 1)
        assert total.histogram.counts.sum() == sum(p.histogram.counts.sum() for p in parts)


@pytest.mark.parametrize("bound", [None, 0.75, 1.0])
def test_below_bound_and_highest_disagreeing(bound: float) -> None:
    case = make_case(resolution=8, mistakes=0.8)
    region = Extent((0, 0, 0), case.labels.shape)
    statistics = summarized(case, region, (1, 6, 8), bound).statistics
    scores = reference.at_class(case.pred_probs, case.labels)
    disagree = reference.predicted(case.pred_probs) != case.labels
    assert statistics.highest_disagreeing == scores[disagree].max()
    # Below the usual bound, whatever bound the candidates were collected by.
    assert statistics.below_bound == (scores[scores <= 0.505]).size
