from __future__ import annotations

from functools import reduce
from itertools import permutations
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.graph.blocks import plan_blocks
from dask_labelqc.method.parameters import Parameters, make_parameters
from dask_labelqc.method.summary import RegionSummary, summarize
from dask_labelqc.region import Box
from tests import reference
from tests.strategies import Case, cases, make_case


def parameters(case: Case) -> Parameters:
    arrays = case.labels, case.pred_probs
    facts = [fact for array in arrays for fact in (array.shape, array.dtype)]
    return make_parameters(*facts, **case.arguments, scores=True, predicted=True)


def summarized(case: Case, region: Box, chunk: tuple[int, ...], bound=None) -> RegionSummary:
    """Summarize a region in blocks of about `chunk`, given in coordinates of the region."""
    params = parameters(case)
    plan = plan_blocks(region.shape, chunk, 2**30, params.factors)

    def read(block: Box):
        image, *pixels = block.slices
        return case.labels[block.slices], case.pred_probs[(image, slice(None), *pixels)]

    return summarize(region, plan.blocks(region), read, params, bound)


@st.composite
def cut_cases(draw: st.DrawFn):
    case = draw(cases())
    return case, tuple(draw(st.integers(1, n)) for n in case.labels.shape)


@given(cut_cases())
def test_the_blocks_of_a_region_do_not_show(drawn) -> None:
    case, chunk = drawn
    region = Box((0,) * case.labels.ndim, case.labels.shape)
    cut, whole = (summarized(case, region, c) for c in (chunk, case.labels.shape))
    a, b = cut.statistics, whole.statistics
    assert a.class_sum.tolist() == b.class_sum.tolist()
    assert a.histogram.counts.tolist() == b.histogram.counts.tolist()
    assert (a.below_bound, a.highest_disagreeing) == (b.below_bound, b.highest_disagreeing)
    for name in ("scores", "predicted"):
        np.testing.assert_array_equal(getattr(cut.dense, name), getattr(whole.dense, name))
    np.testing.assert_array_equal(cut.images.count, whole.images.count)
    order = np.argsort(cut.candidates.position)
    for name in ("position", "score", "confidence", "given", "predicted"):
        found = getattr(cut.candidates, name)[order]
        np.testing.assert_array_equal(found, getattr(whole.candidates, name))
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
    regions = [Box((i, 0, 0), (i + 1, 3, 5)) for i in range(4)]
    parts = [summarized(case, region, (1, 3, 5)).statistics for region in regions]
    codes = reference.encode(case.labels, 4)
    sums, counts = reference.class_sums(reference.at_class(case.pred_probs, codes), codes, 4)
    for order in permutations(parts):
        total = reduce(add, order)
        assert total.class_sum.tolist() == sums
        assert total.class_count.tolist() == counts
        assert total.worst_sum[1:3] == (1, (1, 1))
        assert total.histogram.counts.sum() == sum(p.histogram.counts.sum() for p in parts)


@pytest.mark.parametrize("bound", [None, 0.75, 1.0])
def test_below_bound_and_highest_disagreeing(bound: float) -> None:
    case = make_case(resolution=8, mistakes=0.8)
    region = Box((0, 0, 0), case.labels.shape)
    statistics = summarized(case, region, (1, 6, 8), bound).statistics
    scores = reference.at_class(case.pred_probs, case.labels)
    disagree = reference.predicted(case.pred_probs) != case.labels
    assert statistics.highest_disagreeing == scores[disagree].max()
    # Below the usual bound, whatever bound the candidates were collected by.
    assert statistics.below_bound == (scores[scores <= 0.505]).size
