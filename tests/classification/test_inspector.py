"""Inspectors: batches, merging, saving, and what they refuse."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import InputError, LabelQCWarning
from dask_labelqc.classification import LabelInspector, find_label_issues_batched
from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from tests.classification.examples import draw_examples
from tests.strategies import examples

SETTINGS = st.fixed_dictionaries(
    {
        "quality_score_kwargs": st.sampled_from(
            [
                {"method": "self_confidence"},
                {"method": "normalized_margin"},
                {"method": "normalized_margin", "adjust_pred_probs": True},
                {"adjust_pred_probs": True},
            ]
        ),
        "num_issue_kwargs": st.sampled_from(
            [
                {"estimation_method": "off_diagonal"},
                {"estimation_method": "off_diagonal_calibrated"},
            ]
        ),
    }
)


def batches(labels: Any, pred_probs: Any, ends: Any) -> Any:
    cuts = [0, *sorted(ends), len(labels)]
    return [(labels[a:b], pred_probs[a:b]) for a, b in pairwise(cuts)]


def state(inspector: Any) -> Any:
    return (
        inspector.get_confident_thresholds().tolist(),
        inspector.get_num_issues(),
        inspector.get_quality_scores().tolist(),
        inspector.get_label_issues().tolist(),
        inspector.examples_processed_thresh,
        inspector.examples_processed_quality,
    )


def inspect_at_once(labels: Any, pred_probs: Any, **kwargs: Any) -> Any:
    inspector = LabelInspector(num_class=pred_probs.shape[1], verbose=False, **kwargs)
    inspector.update_confident_thresholds(labels, pred_probs)
    inspector.score_label_quality(labels, pred_probs)
    return inspector


@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    ends=st.lists(st.integers(0, 300), max_size=4),
    dtype=st.sampled_from([np.float32, np.float64]),
    kwargs=SETTINGS,
    threads=st.sampled_from([1, 3]),
)
def test_batches_and_merging_change_nothing(
    seed: int, ends: Any, dtype: Any, kwargs: Any, threads: Any
) -> None:
    labels, pred_probs = draw_examples(seed, 300, 4, dtype)
    expected = state(inspect_at_once(labels, pred_probs, **kwargs))
    parts = batches(labels, pred_probs, ends)

    streaming = LabelInspector(num_class=4, verbose=False, n_jobs=threads, **kwargs)
    for part in parts:
        streaming.update_confident_thresholds(*part)
    scores = [streaming.score_label_quality(*part) for part in parts]
    assert state(streaming) == expected
    assert np.concatenate(scores).tolist() == expected[2]

    first = [LabelInspector(num_class=4, verbose=False, **kwargs) for _ in parts]
    for inspector, part in zip(first, parts, strict=True):
        inspector.update_confident_thresholds(*part)
    whole = reduce(operator.add, first)
    second = [pickle.loads(pickle.dumps(whole)) for _ in parts]
    for inspector, part in zip(second, parts, strict=True):
        inspector.score_label_quality(*part)
    assert state(reduce(operator.add, second))[:4] == expected[:4]
    if all(len(part[0]) for part in parts):
        assert state(reduce(operator.add, second)) == expected


def test_agrees_with_the_function(examples: Any) -> None:
    labels, pred_probs = examples
    ranked = inspect_at_once(labels, pred_probs).get_label_issues()
    issues = find_label_issues_batched(labels, pred_probs, verbose=False)
    assert issues.tolist() == [i for i in ranked if pred_probs[i].argmax() != labels[i]]


def test_the_state_has_a_fixed_size_without_results(examples: Any) -> None:
    labels, pred_probs = examples
    sizes = []
    inspector = LabelInspector(num_class=12, verbose=False, store_results=False)
    for _ in range(3):
        inspector.update_confident_thresholds(labels, pred_probs)
        inspector.score_label_quality(labels, pred_probs)
        sizes.append(len(pickle.dumps(inspector)))
    assert max(sizes) - min(sizes) < 100  # Python integers grow by a byte now and then
    assert inspector.get_num_issues() == 3 * inspect_at_once(*examples).get_num_issues()
    for method in (inspector.get_quality_scores, inspector.get_label_issues):
        with pytest.raises(InputError, match="store_results: it is False"):
            method()


def test_thresholds_can_come_from_a_subset(examples: Any) -> None:
    labels, pred_probs = examples
    inspector = LabelInspector(num_class=12, verbose=False)
    inspector.update_confident_thresholds(labels[:500], pred_probs[:500])
    inspector.score_label_quality(labels, pred_probs, update_num_issues=False)
    assert inspector.get_num_issues() == 0
    inspector.score_label_quality(labels, pred_probs)
    assert inspector.get_num_issues() > 0
    assert inspector.examples_processed_thresh == 500
    assert inspector.examples_processed_quality == 6000


def test_saved_and_loaded(examples: Any, tmp_path: Path) -> None:
    labels, pred_probs = examples
    whole = inspect_at_once(
        labels, pred_probs, num_issue_kwargs={"estimation_method": "off_diagonal_calibrated"}
    )
    half = LabelInspector(
        num_class=12,
        verbose=False,
        num_issue_kwargs={"estimation_method": "off_diagonal_calibrated"},
    )
    half.update_confident_thresholds(labels, pred_probs)
    half.score_label_quality(labels[:1000], pred_probs[:1000])
    half.save(tmp_path / "state")
    loaded = LabelInspector.load(tmp_path / "state", verbose=False)
    assert state(loaded) == state(half)
    loaded.score_label_quality(labels[1000:], pred_probs[1000:])
    assert state(loaded) == state(whole)
    assert loaded.get_quality_scores().dtype == np.float32


def test_sums_beyond_64_bits_survive(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 50, 3)
    inspector = fresh(labels, pred_probs)
    expected = inspector.get_confident_thresholds().tolist()
    for _ in range(39):
        doubled = inspector._statistics + inspector._statistics
        inspector = LabelInspector(num_class=3, verbose=False)
        inspector._learn("part", doubled)
    inspector.save(tmp_path / "state")
    loaded = LabelInspector.load(tmp_path / "state", verbose=False)
    assert loaded.get_confident_thresholds().tolist() == expected
    assert loaded.examples_processed_thresh == 50 * 2**39


def fresh(labels: Any, pred_probs: Any) -> Any:
    inspector = LabelInspector(num_class=3, verbose=False)
    inspector.update_confident_thresholds(labels, pred_probs)
    return inspector


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_count", np.zeros((1, 4), np.int64)),
        ("class_count", np.zeros(3, np.int64)),
        ("class_sum", np.array([["1", "2"]])),
        ("class_count", np.array([[50, 50, -1]])),
        ("parts", np.array(["a", "b"])),
        ("counts", np.zeros((3, 2), np.int64)),
        ("counts", np.full((3, 3), 0.5)),
        ("num_scored", np.array(7)),
        ("scores", np.zeros((2, 25))),
        ("settings", np.array('{"num_class": 3, "verbose": true}')),
        ("settings", np.array("[3]")),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "state"
    inspector = fresh(*draw_examples(0, 50, 3))
    inspector.score_label_quality(*draw_examples(0, 50, 3))
    inspector.save(path)
    with np.load(path) as stored:
        arrays = dict(stored)
    assert name in arrays
    with path.open("wb") as file:
        np.savez(file, **{**arrays, name: value})
    with pytest.raises(InputError, match="holds no LabelInspector"):
        LabelInspector.load(path)


def second_pass(total: Any, parts: Any, tmp_path: Path, how: Any) -> Any:
    """Return copies of a total, each of which has scored a part; None is a part of nobody."""
    copies = []
    for part in parts:
        if how == "saved":
            total.save(tmp_path / "state")
            one = LabelInspector.load(tmp_path / "state", verbose=False)
        else:
            one = copy.deepcopy(total) if how == "copied" else pickle.loads(pickle.dumps(total))
        if part is not None:
            one.score_label_quality(*part)
        copies.append(one)
    return copies


@pytest.mark.parametrize("how", ["copied", "pickled", "saved"])
def test_copies_count_their_first_pass_once_in_any_order(
    how: Any, examples: Any, tmp_path: Path
) -> None:
    labels, pred_probs = examples
    parts = batches(labels, pred_probs, [1000, 2000])
    first = [LabelInspector(num_class=12, verbose=False) for _ in parts]
    for inspector, part in zip(first, parts, strict=True):
        inspector.update_confident_thresholds(*part)
    total = reduce(operator.add, first)
    expected = total.get_confident_thresholds().tolist()
    copies = second_pass(total, [*parts, None], tmp_path, how)
    for order in permutations([*copies, first[1]]):
        found = reduce(operator.add, order)
        assert found.examples_processed_thresh == 3000
        assert found.examples_processed_quality == 3000
        assert found.get_confident_thresholds().tolist() == expected
    grouped = (copies[3] + copies[0]) + (copies[1] + (copies[2] + copies[3]))
    assert grouped.examples_processed_thresh == 3000


def test_what_copies_learn_after_they_were_made_counts() -> None:
    labels, pred_probs = draw_examples(0, 300, 3)
    parts = batches(labels, pred_probs, [100, 200])
    one = fresh(*parts[0])
    other, sent = copy.deepcopy(one), pickle.loads(pickle.dumps(one))
    one.update_confident_thresholds(*parts[1])
    other.update_confident_thresholds(*parts[2])
    expected = fresh(labels, pred_probs).get_confident_thresholds().tolist()
    for order in permutations([one, other, sent]):
        found = reduce(operator.add, order)
        assert found.examples_processed_thresh == 300
        assert found.get_confident_thresholds().tolist() == expected


def test_a_fork_that_learns_has_a_part_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, pred_probs = draw_examples(0, 300, 3)
    parts = batches(labels, pred_probs, [100, 200])
    one = fresh(*parts[0])
    fork = copy.copy(one)
    vars(fork)["_own_part"] = one._own_part  # all of the memory is copied
    one.update_confident_thresholds(*parts[1])
    monkeypatch.setattr("os.getpid", lambda: 1)
    fork.update_confident_thresholds(*parts[2])
    assert (one + fork).examples_processed_thresh == 300
    assert (fork + one).examples_processed_thresh == 300


def test_shards_of_equal_sums_both_count() -> None:
    labels, pred_probs = draw_examples(0, 500, 3)
    shards = [fresh(labels, pred_probs), fresh(labels[::-1], pred_probs[::-1])]
    for shard in shards:
        shard.score_label_quality(labels, pred_probs)
    assert (shards[0] + shards[1]).examples_processed_thresh == 1000


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_other_files_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "state"
    if content is None:
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="holds no LabelInspector"):
        LabelInspector.load(path)


@pytest.mark.parametrize("length", [-10, 500, 40, 3])
def test_a_file_that_is_cut_off_is_refused_and_closed(length: Any, tmp_path: Path) -> None:
    path = tmp_path / "state"
    fresh(*draw_examples(0, 50, 3)).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match="holds no LabelInspector"):
            LabelInspector.load(path)
        gc.collect()
    assert not caught


def test_a_file_of_one_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(3))
    message = r"path: '.*labels.npy' holds no LabelInspector: it is a file of one array"
    with pytest.raises(InputError, match=message):
        LabelInspector.load(tmp_path / "labels.npy")


def test_what_is_missing_is_said() -> None:
    inspector = LabelInspector(num_class=3, verbose=False)
    labels, pred_probs = draw_examples(0, 50, 3)
    for call in (
        inspector.get_confident_thresholds,
        lambda: inspector.score_label_quality(labels, pred_probs),
    ):
        with pytest.raises(InputError, match=r"call update_confident_thresholds\(\) first"):
            call()
    for call in (inspector.get_num_issues, inspector.get_label_issues):
        with pytest.raises(InputError, match=r"call score_label_quality\(\) first"):
            call()


def slowly(function: Any) -> Any:
    """Let other threads run between what a function reads and what is made of its answer."""

    def slow(*args: Any) -> Any:
        time.sleep(0.001)
        return function(*args)

    return slow


@pytest.fixture
def slow_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (ExampleStatistics, IssueCounts):
        monkeypatch.setattr(kind, "__add__", slowly(kind.__add__))


class SlowList(list):
    append = slowly(list.append)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("estimation", ["off_diagonal", "off_diagonal_calibrated"])
@pytest.mark.usefixtures("slow_sums")
def test_threads_that_share_one_lose_nothing(estimation: Any, n_jobs: Any) -> None:
    kwargs = {"num_issue_kwargs": {"estimation_method": estimation}}
    labels, pred_probs = draw_examples(0, 400, 3, np.float32)
    parts = batches(labels, pred_probs, range(4, 400, 4))
    expected = LabelInspector(num_class=3, verbose=False, **kwargs)
    for part in parts:
        expected.update_confident_thresholds(*part)
    for part in parts:
        expected.score_label_quality(*part)
    shared = LabelInspector(num_class=3, verbose=False, n_jobs=n_jobs, **kwargs)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: shared.update_confident_thresholds(*part), parts))
        scores = list(pool.map(lambda part: shared.score_label_quality(*part), parts))
    assert shared.examples_processed_thresh == 400
    assert shared.examples_processed_quality == 400
    assert shared.get_num_issues() == expected.get_num_issues()
    thresholds = shared.get_confident_thresholds().tolist()
    assert thresholds == expected.get_confident_thresholds().tolist()
    np.testing.assert_array_equal(np.concatenate(scores), expected.get_quality_scores())
    kept = np.sort(shared.get_quality_scores())
    np.testing.assert_array_equal(kept, np.sort(expected.get_quality_scores()))


def test_a_shared_one_is_copied_and_merged_as_it_is_at_one_moment(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 800, 3, np.float32)
    shared = LabelInspector(num_class=3, verbose=False)
    shared.update_confident_thresholds(labels, pred_probs)
    shared.score_label_quality(labels[:4], pred_probs[:4])
    shared._scores = SlowList(shared._scores)
    copies = []
    with ThreadPoolExecutor(4) as pool:
        parts = batches(labels[4:], pred_probs[4:], range(4, 796, 4))
        scored = [pool.submit(shared.score_label_quality, *part) for part in parts]
        while not all(future.done() for future in scored):
            copies += [copy.deepcopy(shared), pickle.loads(pickle.dumps(shared)), shared + shared]
            shared.save(tmp_path / "state")
            copies.append(LabelInspector.load(tmp_path / "state", verbose=False))
    assert copies
    for some in copies:
        assert some.get_quality_scores().size == some.examples_processed_quality
    copies[0].update_confident_thresholds(labels, pred_probs)
    assert shared.examples_processed_thresh == 800


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_class": 1}, "num_class: got 1, it must be an integer of 2 or more"),
        ({"num_class": 2.0}, "num_class: got 2.0, it must be an integer of 2 or more"),
        ({"num_class": 2, "n_jobs": -1}, "n_jobs: got -1, it must be an integer of 1 or more"),
        ({"num_class": 2, "n_jobs": 1.5}, "n_jobs: got 1.5, it must be an integer of 1 or more"),
        ({"num_class": 2, "n_jobs": "2"}, "n_jobs: got '2', it must be an integer of 1 or more"),
        ({"num_class": True}, "num_class: got True, it must be an integer of 2 or more"),
        ({"num_class": 2, "store_results": "no"}, "store_results: got 'no', it must be True or"),
        ({"num_class": 2, "verbose": None}, "verbose: got None, it must be True or False"),
        ({"num_class": 2, "num_issue_kwargs": {"a": 1}}, "num_issue_kwargs: got the unknown"),
    ],
)
def test_unusable_arguments(kwargs: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        LabelInspector(**kwargs)
    assert str(caught.value).startswith(message)


def test_unusable_batches() -> None:
    labels, pred_probs = draw_examples(0, 50, 3)
    inspector = LabelInspector(num_class=4, verbose=False)
    with pytest.raises(InputError, match=r"got shape \(50, 3\), it must be \(n, 4\) for num_class"):
        inspector.update_confident_thresholds(labels, pred_probs)
    inspector = fresh(labels, pred_probs)
    bad = pred_probs.copy()
    bad[7, 1] = np.nan
    with pytest.raises(InputError, match="class 1 is nan at example 57"):
        inspector.update_confident_thresholds(labels, bad)
    with pytest.raises(InputError, match="labels: there are 49 of them"):
        inspector.update_confident_thresholds(labels[1:], pred_probs)
    assert inspector.examples_processed_thresh == 50


def test_different_settings_do_not_add_up() -> None:
    one = LabelInspector(num_class=3)
    with pytest.raises(InputError, match=r"other: its settings are .*'num_class': 4"):
        one + LabelInspector(num_class=4)
    with pytest.raises(TypeError):
        one + 1


def test_examples_are_counted_aloud(capfd: pytest.CaptureFixture[str]) -> None:
    labels, pred_probs = draw_examples(0, 50, 3)
    inspector = LabelInspector(num_class=3)
    inspector.update_confident_thresholds(labels, pred_probs)
    inspector.score_label_quality(labels, pred_probs)
    assert capfd.readouterr().err == ""
    inspector.get_confident_thresholds()
    inspector.get_num_issues()
    assert capfd.readouterr().err.splitlines() == [
        "number of examples used for the confident thresholds: 50",
        "number of examples whose labels were scored: 50",
    ]


def test_sums_that_are_off_are_warned_of_once() -> None:
    labels, pred_probs = draw_examples(0, 50, 3)
    pred_probs[9] *= 0.5
    inspector = LabelInspector(num_class=3)
    with pytest.warns(LabelQCWarning, match=r"worst sum is 0.5 at example 9") as caught:
        inspector.update_confident_thresholds(labels, pred_probs)
    assert caught[0].filename == __file__
    inspector.score_label_quality(labels, pred_probs)
