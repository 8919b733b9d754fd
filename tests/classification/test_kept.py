"""What is remembered of examples: bounded, and enough for the same answer."""

from __future__ import annotations

import gc
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.classification import find_label_issues_batched, scan
from dask_labelqc.classification.facts import ExampleFacts
from dask_labelqc.classification.inputs import normalize
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import LEAST_KEPT, Keeping, scan_region
from dask_labelqc.engine.threads import Threads
from tests.classification import reference
from tests.classification.examples import SCORES, arguments, draw_examples


def hard_examples(seed: int, num_examples: int, num_classes: int, dtype: Any = np.float32) -> Any:
    """Classes one after the other, of very different difficulty, some of them always mistaken."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, num_classes, num_examples))
    strength = rng.uniform(0.2, 30, num_classes)[labels]
    pred_probs = rng.random((num_examples, num_classes))
    pred_probs[np.arange(num_examples), labels] += strength * rng.random(num_examples)
    pred_probs /= pred_probs.sum(axis=1, keepdims=True)
    return labels, pred_probs.astype(dtype)


@given(
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.integers(2, 12),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.uint16]),
    score=st.sampled_from(SCORES),
    calibrated=st.booleans(),
    drawn=st.sampled_from([draw_examples, hard_examples]),
    steps=st.sampled_from([None, 5]),
    chunk=st.sampled_from([17, 60, 200]),
)
@pytest.mark.filterwarnings("ignore:pred_probs.*should sum to 1")  # after rounding
def test_the_answer_is_that_of_the_reference(
    seed: int,
    num_classes: int,
    dtype: Any,
    score: Any,
    calibrated: Any,
    drawn: Any,
    steps: Any,
    chunk: Any,
) -> None:
    """In tiny regions of which hardly anything is kept, so that some are read again."""
    more = {"steps": steps} if drawn is draw_examples else {}
    labels, pred_probs = drawn(seed, 200, num_classes, np.float64, **more)
    largest = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    pred_probs = (pred_probs * largest).round(0 if largest > 1 else 9).astype(dtype)
    method, adjust = score
    expected = reference.find_label_issues(
        labels, pred_probs, method=method, adjust=adjust, calibrated=calibrated
    )
    kwargs = arguments(method, adjust, calibrated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "LEAST_KEPT", 1)
        patch.setattr(scan, "RUN", 13)
        lazy = da.from_array(pred_probs, chunks=(chunk, -1))
        found = find_label_issues_batched(labels, lazy, **kwargs)
    assert found.tolist() == find_label_issues_batched(labels, pred_probs, **kwargs).tolist()
    assert found.tolist() == expected.tolist()


def weighed(labels: Any, pred_probs: Any, kwargs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the bytes that were kept, and how often the predictions were read."""
    kept = []
    scan = Threads.scan

    def weighing(regions: Any, how: Any, then: Any = None) -> Any:
        total = scan(regions, how, then)
        kept.append(sum(region.__sizeof__() for region in regions.scanned))
        return total

    monkeypatch.setattr(Threads, "scan", weighing)
    find_label_issues_batched(labels, pred_probs, **kwargs)
    return max(kept), len(kept)


def promised(labels: Any, pred_probs: Any, method: Any, adjust: Any, calibrated: Any) -> Any:
    """The bytes that the docs say, for up to 256 classes."""
    f = pred_probs.itemsize
    own, top = pred_probs[np.arange(labels.size), labels], pred_probs.max(axis=1)
    disagree = pred_probs.argmax(axis=1) != labels
    assert disagree.sum() < 0.05 * labels.size
    others = max(2 * disagree.sum(), labels.size / 8)
    if (method, adjust) == ("self_confidence", False):
        each, other, others = 6 + 2 * f, 4 + f, (~disagree & (top <= 0.505)).sum()
    elif (method, adjust) == ("normalized_margin", False):
        each, other, others = (
            6 + 3 * f,
            4 + f,
            (~disagree & (np.sort(pred_probs)[:, -2] == top)).sum(),
        )
    elif method == "self_confidence":
        each, other = 14 + 2 * f, 13 + f
    else:
        each, other = 14 + 2 * f, 12
    assert (own[~disagree] == top[~disagree]).all()
    others += LEAST_KEPT  # of the last region, which is a short one
    return each * disagree.sum() + other * others + f * labels.size * calibrated


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize(("method", "adjust"), SCORES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_kept_of_an_example(
    dtype: Any, method: Any, adjust: Any, calibrated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, pred_probs = draw_examples(0, 400_000, 4, dtype, noise=0.05)
    kwargs = arguments(method, adjust, calibrated)
    kept, scans = weighed(labels, pred_probs, kwargs, monkeypatch)
    assert 0 < kept <= promised(labels, pred_probs, method, adjust, calibrated)
    assert scans == (2 if (method, adjust) == ("normalized_margin", True) else 1)


@pytest.mark.parametrize("method", ["self_confidence", "confidence_weighted_entropy"])
def test_regions_that_are_unlike_are_read_again(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region without errors holds examples that rank before the errors of another."""
    rng = np.random.default_rng(0)
    unsure = -np.sort(-rng.dirichlet([360, 330, 310], 2000))
    pred_probs = np.concatenate([np.full((2000, 3), [0.55, 0.44, 0.01]), unsure])
    labels = np.zeros(4000, int)
    labels[:2000:3] = 1
    kwargs = arguments(method, method == "self_confidence", False)
    monkeypatch.setattr(scan, "LEAST_KEPT", 1)
    monkeypatch.setattr("dask_labelqc.classification.in_memory.LEAST_BYTES", 2000 * 24)
    reads = []
    monkeypatch.setattr(
        "dask_labelqc.classification.in_memory.scan_region",
        lambda *args: reads.append(args[0]) or scan_region(*args),
    )
    found = find_label_issues_batched(labels, pred_probs, **kwargs)
    assert sorted(reads) == [0, 0, 2000, 2000]
    expected = reference.find_label_issues(
        labels,
        pred_probs,
        method=method,
        adjust=kwargs["quality_score_kwargs"]["adjust_pred_probs"],
    )
    assert set(found) ^ set(expected) == set()


def test_what_disagrees_above_the_last_issue_is_none_after_a_second_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some that agree ranked before it at first; they are not kept again."""
    labels, pred_probs = draw_examples(6126, 200, 9, np.float64)
    pred_probs = pred_probs.round(9).astype(np.float16)
    kwargs = arguments("confidence_weighted_entropy", False, True)
    expected = find_label_issues_batched(labels, pred_probs, **kwargs)
    monkeypatch.setattr(scan, "LEAST_KEPT", 1)
    monkeypatch.setattr(scan, "RUN", 13)
    lazy = da.from_array(pred_probs, chunks=(17, -1))
    found = find_label_issues_batched(labels, lazy, **kwargs)
    assert found.tolist() == expected.tolist()


def test_lists_of_a_long_region_are_short_while_it_is_scanned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the number of examples of a block nor that of a region counts."""
    labels, pred_probs = draw_examples(1, 60_000, 3, np.float32, noise=0.02)
    monkeypatch.setattr(scan, "RUN", 1000)
    most = 0
    joined = scan.ExampleCandidates.joined.__func__

    def watching(cls: Any, parts: Any) -> Any:
        nonlocal most
        most = max(most, sum(part.position.size for part in parts))
        return joined(cls, parts)

    monkeypatch.setattr(scan.ExampleCandidates, "joined", classmethod(watching))
    options = ScoreOptions.of({"adjust_pred_probs": True}, None)
    form = normalize(labels, pred_probs).form
    keeping = Keeping.at_first(form, options)
    region = scan_region(
        0, [slice(0, 60_000)], labels, pred_probs.__getitem__, form, options, keeping
    )
    gc.collect()
    assert isinstance(region.kept, ExampleFacts)
    assert region.total.left_out.kept < 60_000 / 4
    assert most < 60_000 / 4 + 5000
