from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.array.core import Array

from dask_labelqc.object_detection import audit, blocks, filter, from_lists, passes, rank
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.progress import NoProgress
from tests.clusters import forking


@pytest.mark.parametrize("block_boxes", [17, 10**6])
def test_every_form_and_block_gives_the_same(lists: Any, sources: Any, block_boxes: Any) -> None:
    labels, predictions = lists(0, 8)
    expected = audit(labels, predictions)
    for form, source in sources(labels, predictions).items():
        found = audit(source, block_boxes=block_boxes)
        lazy = {name for name in found.data_vars if isinstance(found[name].data, Array)}
        offsets = {"given_offsets", "predicted_offsets"}
        assert lazy == (set() if form == "numpy" else set(found.data_vars) - offsets)
        assert set(found.data_vars) == set(expected.data_vars)
        computed = found.compute()
        for name in expected.data_vars:
            assert computed[name].dtype == found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(computed[name].values, expected[name].values)
        assert found.attrs == expected.attrs


def test_none_is_the_default(lists: Any) -> None:
    labels, predictions = lists(0, 8)
    expected = audit(labels, predictions)
    for name in ("alpha", "low_probability_threshold", "high_probability_threshold", "temperature"):
        found = audit(labels, predictions, **{name: None})
        xr.testing.assert_identical(found, expected)


def test_agrees_with_the_functions(lists: Any) -> None:
    labels, predictions = lists(1)
    found = audit(labels, predictions)
    scores = rank.get_label_quality_scores(labels, predictions)
    np.testing.assert_array_equal(found["image_score"], scores)
    issues = filter.find_label_issues(labels, predictions)
    np.testing.assert_array_equal(found["label_issues"], issues)
    swap = rank.compute_swap_box_scores(labels=labels, predictions=predictions)
    np.testing.assert_array_equal(found["swap_box_score"], np.concatenate(swap))
    np.testing.assert_array_equal(found["swap_score"], rank.pool_box_scores_per_image(swap))
    spurious = rank.compute_spurious_box_scores(labels=labels, predictions=predictions)
    pooled = rank.pool_box_scores_per_image(
        found["spurious_box_score"], offsets=found["given_offsets"]
    )
    np.testing.assert_array_equal(found["spurious_box_score"], np.concatenate(spurious))
    np.testing.assert_array_equal(found["spurious_score"], pooled)


def test_spurious_counts_only_when_asked_for(lists: Any) -> None:
    labels, predictions = lists(2)
    weights = {"overlooked": 0.25, "badloc": 0.25, "swap": 0.25, "spurious": 0.25}
    plain = audit(labels, predictions)
    weighted = audit(labels, predictions, aggregation_weights=weights)
    expected = plain["image_score"] ** 0.75 * plain["spurious_score"] ** 0.25
    np.testing.assert_allclose(weighted["image_score"], expected, rtol=1e-12)


@pytest.mark.parametrize("block_boxes", [1, 50, 10**6])
def test_result_can_be_stored(lists: Any, tmp_path: Path, block_boxes: Any) -> None:
    dataset = from_lists(*lists(3), class_names=list("abcd"))
    dataset.to_zarr(tmp_path / "boxes.zarr", consolidated=False)
    found = audit(tmp_path / "boxes.zarr", block_boxes=block_boxes)
    found.to_zarr(tmp_path / "audit.zarr", consolidated=False)
    stored = zarr.open_group(tmp_path / "audit.zarr", mode="r")
    np.testing.assert_array_equal(stored["image_score"], audit(dataset)["image_score"])
    assert found["class_name"].values.tolist() == list("abcd")


def test_tasks_run_in_other_processes(lists: Any, sources: Any) -> None:
    labels, predictions = lists(4)
    source = sources(labels, predictions)["path"]
    with forking(), dask.config.set(scheduler="processes", num_workers=1):
        found = audit(source, block_boxes=60).compute()
    np.testing.assert_array_equal(found["image_score"], audit(labels, predictions)["image_score"])


def test_each_pass_reads_each_block_once(
    lists: Any, sources: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    inner = blocks.read_block

    def counting(columns: Any, span: Any, num_classes: int) -> Any:
        read.append(span.first_image)
        return inner(columns, span, num_classes)

    monkeypatch.setattr("dask_labelqc.object_detection.passes.read_block", counting)
    labels, predictions = lists(5)
    for form in ("path", "dask"):
        read.clear()
        source = sources(labels, predictions)[form]
        audit(source, block_boxes=60).compute(scheduler="sync")
        assert len(set(read)) > 2
        assert sorted(read) == sorted(2 * list(set(read)))


def test_blocks_hold_no_more_boxes_than_asked_for(lists: Any) -> None:
    boxes = blocks.open_boxes(*lists(6, 40))
    for block_boxes in (1, 30, 100):
        spans = boxes.spans(block_boxes)
        assert [s.images[0] for s in spans] == [0, *(s.images[1] for s in spans[:-1])]
        assert spans[-1].images[1] == boxes.num_images
        for span in spans:
            weight = sum(map(span.size, ("image", "given_box", "predicted_box")))
            assert weight <= block_boxes or span.num_images == 1


def test_memory_of_a_task_is_a_multiple_of_its_boxes(lists: Any, sources: Any) -> None:
    """The formula: 120 bytes a box; on top of it, the Zarr chunks being decoded."""
    labels, predictions = lists(7, 400, given=40, predicted=120)
    boxes = blocks.open_boxes(sources(labels, predictions)["numpy"])
    (span,) = boxes.spans(blocks.BLOCK_BOXES)
    total = passes.survey(boxes, 0.9, blocks.BLOCK_BOXES)[0]
    arguments = boxes.columns, span, boxes.num_classes
    precision = np.zeros(boxes.num_classes, np.float32)
    tasks = {
        "survey": lambda: passes._survey_block(*arguments, 0.9, 4),
        "score": lambda: passes._score_block(
            *arguments, tuple(passes.OUTPUTS), BoxScoreOptions(), total, precision
        ),
    }
    for name, task in tasks.items():
        task()
        tracemalloc.start()
        task()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 120 * (span.size("given_box") + span.size("predicted_box")), name


@pytest.mark.parametrize("function", [audit, rank.get_label_quality_scores])
def test_progress_of_what_is_computed_at_once(
    function: Any, lists: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Told(NoProgress):
        def stage(self, name: str, total: int, done: int = 0) -> None:
            told.append([name, total, done])

        def advance(self, num_bytes: int = 0) -> None:
            told[-1][2] += 1

    monkeypatch.setattr("dask_labelqc.method.calls.LateProgress", lambda make: Told())
    labels, predictions = lists(0, 6)
    function(labels, predictions, block_boxes=1, verbose=False)
    assert told == []
    function(labels, predictions, block_boxes=1, verbose=True)
    assert told == [["survey", 6, 6], ["score", 6, 6]]
