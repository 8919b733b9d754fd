"""The record of a group says the same as its summary, and is small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from dask_labelqc.extent import Extent
from dask_labelqc.pipeline.recorded import candidates_of, statistics_of, to_arrays
from tests.method.summaries import parameters, summarized
from tests.strategies import Case, cases, make_case


@given(cases())
def test_what_is_on_record_comes_back(case: Case) -> None:
    region, params = Extent((0,) * case.labels.ndim, case.labels.shape), parameters(case)
    summary = summarized(case, region, (1, *case.labels.shape[1:]))
    record = to_arrays(summary)
    found = candidates_of(region, record, params)
    assert found.extent == summary.candidates.extent
    for name, values in summary.candidates.arrays().items():
        wanted = np.sort(values) if name == "agreeing" else values
        np.testing.assert_array_equal(getattr(found, name), wanted, err_msg=name)
        assert getattr(found, name).dtype == values.dtype
    again, statistics = statistics_of(record), summary.statistics
    assert again.class_sum.tolist() == statistics.class_sum.tolist()
    assert again.histogram.counts.tolist() == statistics.histogram.counts.tolist()
    assert again.worst_sum == statistics.worst_sum


@pytest.mark.parametrize(("dtype", "former", "most"), [("f4", 14, 0.15), ("f8", 22, 0.35)])
def test_a_record_of_hard_predictions_is_small(dtype: str, former: int, most: float) -> None:
    case = make_case(shape=(2, 128, 128), num_classes=21, dtype=dtype, mistakes=0.05)
    rng = np.random.default_rng(0)
    probs = rng.random(case.pred_probs.shape) ** 4
    probs /= probs.sum(axis=1, keepdims=True)
    mistaken = rng.random(case.labels.shape) < 0.05
    labels = np.where(mistaken, case.labels, probs.argmax(axis=1))
    hard = Case(labels, probs.astype(dtype))
    region = Extent((0, 0, 0), labels.shape)
    record = to_arrays(summarized(hard, region, (1, 128, 128)))
    size = sum(values.nbytes for name, values in record.items() if name.startswith("packed_"))
    assert size < most * former * labels.size
