"""The jobs on examples and on boxes: the guarantees of the one on images, and equal answers."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import settings
from zarr.storage import LocalStore

from dask_labelqc import object_detection
from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.errors import BlockError, InputError, LabelQCWarning, OutputError
from dask_labelqc.pipeline import (
    BoxReport,
    ExampleReport,
    audit_boxes_zarr,
    audit_examples_zarr,
    plan_boxes_audit,
    plan_examples_audit,
)
from dask_labelqc.pipeline import fit as fitting
from tests.clusters import Processes, processes, wait_for
from tests.forks import Fork
from tests.pipeline.datasets import files
from tests.pipeline.killing import run_killed
from tests.pipeline.one_writer import FORK, REFUSALS
from tests.pipeline.others import (
    DENSE,
    KINDS,
    Dataset,
    check_boxes,
    check_examples,
    make,
    make_boxes,
    make_examples,
    of_kind,
    write_boxes,
    write_examples,
)
from tests.pipeline.progress import At, Stop
from tests.stores import CountingStore
from tests.strategies import USUAL_EXAMPLES, by_turns

pytestmark = [pytest.mark.usefixtures("smallest_groups"), pytest.mark.xdist_group("other_jobs")]
KILLED, FINISHED = -signal.SIGKILL, 0
STRIDES = {"examples": 37, "twice": 43, "boxes": 79}
"""How many writes lie between two of those to die at: of boxes there are most."""
METHODS = [
    {"method": method, "adjust_pred_probs": adjust, "estimation_method": count}
    for method, adjust, count in itertools.product(
        ("self_confidence", "normalized_margin", "confidence_weighted_entropy"),
        (False, True),
        ("off_diagonal", "off_diagonal_calibrated"),
    )
    if not (adjust and method == "confidence_weighted_entropy")
]


# The answers


@by_turns(
    method={"-".join(map(str, method.values())): method for method in METHODS},
    group_bytes={"smallest": 1, "one": 10**9},
)
def test_issues_of_examples(method: dict[str, Any], group_bytes: int, tmp_path: Path) -> None:
    labels, probs = make_examples(1)
    dataset = write_examples(tmp_path / "in", labels, probs, **method, **DENSE)
    report = dataset.audit(tmp_path / "out", group_bytes=group_bytes)
    found = dataset.check(tmp_path / "out")
    assert report.num_groups == (12 if group_bytes == 1 else 1)
    assert report.num_issues == found.sizes["issue"] > 20
    assert {name: found.attrs[name] for name in method} == method
    score = found.label_quality.values
    assert (np.diff(score[found.issue_index]) >= 0).all()
    if method["method"] == "self_confidence" and not method["adjust_pred_probs"]:
        np.testing.assert_array_equal(score, probs[np.arange(len(labels)), labels])


def test_predictions_that_are_read_again_for_the_last_issue(tmp_path: Path) -> None:
    """Probabilities that sum to far more than one; the scores of all are those of the last scan."""
    rng = np.random.default_rng(2)
    probs = rng.uniform(0.5, 1, (600, 4)).astype("f4")
    labels = rng.integers(0, 4, 600)
    dataset = write_examples(tmp_path / "in", labels, probs, **DENSE)
    with pytest.warns(LabelQCWarning, match="should sum to 1"):
        report = dataset.audit(tmp_path / "out")
    with pytest.warns(LabelQCWarning, match="should sum to 1"):
        found = dataset.check(tmp_path / "out")
    np.testing.assert_array_equal(found.label_quality, probs[np.arange(600), labels])
    assert report.bytes_read == 2 * probs.nbytes


@pytest.mark.parametrize("dtype", ["f2", "f8", "u1"])
def test_examples_of_any_dtype_the_other_way_round(dtype: str, tmp_path: Path) -> None:
    labels, probs = make_examples(3)
    stored = np.rint(probs * 255).astype("u1") if dtype == "u1" else probs.astype(dtype)
    names = ("row", "kind")
    group = zarr.open_group(tmp_path / "in", mode="w")
    given = group.create_array("labels", data=labels, dimension_names=names[:1])
    probabilities = group.create_array(
        "pred_probs", data=stored.T.copy(), chunks=(2, 60), dimension_names=names[::-1]
    )
    audit_examples_zarr(given, probabilities, tmp_path / "out", progress=False, **DENSE)
    found = xr.open_zarr(tmp_path / "out").load()
    expected = find_label_issues_batched(labels, stored, verbose=False)
    check_examples(found, expected, labels, stored)
    assert found.label_issues.dims == ("row",)
    assert found.label_quality.dtype == ("float64" if dtype == "f8" else "float32")


@pytest.mark.parametrize("block_boxes", [1, 40, 10**6])
def test_scores_of_boxes(block_boxes: int, tmp_path: Path) -> None:
    dataset = write_boxes(tmp_path / "in", make_boxes(4))
    report = dataset.audit(tmp_path / "out", block_boxes=block_boxes)
    found = dataset.check(tmp_path / "out")
    assert set(found.coords) == {"class", "class_name", "image_name"}
    assert report.num_issues > 0
    assert (report.num_groups == 1) == (block_boxes == 10**6)


def test_boxes_by_other_parameters_and_in_groups_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dask_labelqc.object_detection.passes.MATCHES_AT_ONCE", 40)
    weights = {"overlooked": 0.25, "badloc": 0.25, "swap": 0.25, "spurious": 0.25}
    options = {"aggregation_weights": weights, "alpha": 0.5, "overlapping_label_check": False}
    dataset = write_boxes(tmp_path / "in", make_boxes(5), **options)
    dataset.audit(tmp_path / "out")
    dataset.check(tmp_path / "out")


def test_images_without_boxes(tmp_path: Path) -> None:
    empty = [{"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}] * 3
    boxes = object_detection.from_lists(empty, [[np.zeros((0, 5))] * 2] * 3)
    boxes.to_zarr(tmp_path / "in", consolidated=False)
    audit_boxes_zarr(tmp_path / "in", tmp_path / "out", progress=False)
    check_boxes(xr.open_zarr(tmp_path / "out").load(), object_detection.audit(boxes))


# Killed, at any moment


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_write(kind: str, tmp_path: Path) -> None:
    """Half a file, a whole file, a deletion: wherever it dies, resume writes the same bytes."""
    dataset = of_kind(kind, tmp_path / "in")
    dataset.audit(tmp_path / "whole")
    dataset.check(tmp_path / "whole")
    runs = [
        {**dataset.run, "output": str(tmp_path / f"out{i}"), "kill_at": i}
        for i in range(3, 600, max(5, STRIDES[kind] * USUAL_EXAMPLES // settings().max_examples))
    ]
    statuses = run_killed(runs)
    assert len(statuses) > 4
    assert statuses == [KILLED] * (len(statuses) - 1) + [FINISHED]
    runs = runs[: len(statuses)]
    again = [{**dataset.run, "output": run["output"], "resume": True} for run in runs]
    assert set(run_killed(again)) == {FINISHED}
    for run in runs:
        assert files(Path(run["output"])) == files(tmp_path / "whole"), run["kill_at"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    with processes(tmp_path / "cluster") as started:
        yield started


def is_gone(group: int) -> bool:
    """Say if no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("kind", ["examples", "boxes"])
def test_every_worker_dies_and_then_all_do(kind: str, cluster: Processes, tmp_path: Path) -> None:
    """Workers are replaced in the middle; scheduler, client and workers are killed in another."""
    dataset = of_kind(kind, tmp_path / "in")
    dataset.audit(tmp_path / "whole")
    cluster.add_workers(2)

    def replace() -> None:
        cluster.signal_workers(signal.SIGKILL)
        cluster.add_workers(2)

    with cluster.client() as client:
        progress = At(4, replace, "summarize")
        dataset.audit(tmp_path / "out", client=client, progress=progress)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    output = tmp_path / "again"
    run = {**dataset.run, "output": str(output), "scheduler": cluster.address}
    command = [sys.executable, "-m", "tests.pipeline.killing", json.dumps([run])]
    with Fork(*command, session=True) as process:
        wait_for(lambda: any((output / "checkpoint/summaries").glob("c/*")))
        cluster.kill_scheduler()
        os.killpg(process.pid, signal.SIGKILL)
    cluster.signal_workers(signal.SIGKILL)
    wait_for(lambda: is_gone(process.pid))  # its fork, too, which nobody here waits for
    dataset.audit(output, resume=True)
    assert files(output) == files(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["summarize", "paint"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_on_record_is_not_read_again(kind: str, stage: str, tmp_path: Path) -> None:
    dataset, output = of_kind(kind, tmp_path / "in"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        dataset.audit(output, progress=Stop(stage, 3), n_jobs=1)
    with pytest.raises(OutputError, match="exists already"):
        dataset.audit(output)
    report = dataset.audit(output, resume=True)
    assert report.num_resumed == report.num_groups if stage == "paint" else report.num_resumed >= 3
    dataset.check(output)
    assert dataset.audit(output, resume=True).bytes_read == 0


def test_a_second_read_goes_on_from_what_it_had_read(tmp_path: Path) -> None:
    """What is on record of the first read stays, and what is of other thresholds does not count."""
    dataset, output = of_kind("twice", tmp_path / "in"), tmp_path / "out"
    nbytes = make_examples(0)[1].nbytes
    with pytest.raises(KeyboardInterrupt):
        dataset.audit(output, progress=Stop("select", 1), n_jobs=1)
    assert dataset.audit(output, resume=True).bytes_read == 0
    dataset.check(output)
    with pytest.raises(KeyboardInterrupt):
        dataset.audit(output, overwrite=True, progress=Stop("select", 1), n_jobs=1)
    labels = zarr.open_array(dataset.places[0], mode="r+")
    labels[:3] = (labels[:3] + 1) % 4
    report = dataset.audit(output, resume=True)
    assert nbytes < report.bytes_read < 2 * nbytes
    write_examples(tmp_path / "now", labels[:], make_examples(0)[1])
    expected = find_label_issues_batched(
        labels[:],
        make_examples(0)[1],
        verbose=False,
        quality_score_kwargs={"method": "normalized_margin", "adjust_pred_probs": True},
    )
    np.testing.assert_array_equal(report.open().issue_index, expected)


# One writer


@pytest.mark.parametrize("kind", ["examples", "boxes"])
def test_two_jobs_start_at_one_instant(kind: str, tmp_path: Path) -> None:
    dataset, output = of_kind(kind, tmp_path / "in"), tmp_path / "out"
    dataset.audit(tmp_path / "whole")
    instant, started = FORK.Barrier(2), []
    for _ in range(2):
        here, there = FORK.Pipe(duplex=False)

        def job(pipe: Any = there) -> None:
            instant.wait()
            try:
                dataset.audit(output, n_jobs=1)
                pipe.send(None)
            except OutputError as error:
                pipe.send(str(error))

        process = FORK.Process(target=job)
        process.start()
        started.append((process, here))
    ended = []
    for process, pipe in started:
        assert pipe.poll(120), "a job hangs"
        ended.append(pipe.recv())
        process.join()
    (refused,) = [error for error in ended if error is not None]
    assert any(refusal in refused for refusal in REFUSALS)
    assert files(output) == files(tmp_path / "whole")


# Inputs and outputs that change


@pytest.mark.parametrize(("kind", "name"), [("examples", "labels"), ("boxes", "predicted_scores")])
def test_what_changed_is_audited_again(
    kind: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, output = of_kind(kind, tmp_path / "in"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        dataset.audit(output, progress=Stop("paint", 2), n_jobs=1)
    array = zarr.open_array(tmp_path / "in" / name, mode="r+")
    array[:2] = [1, 2] if kind == "examples" else [0.5, 0.25]
    report = dataset.audit(output, resume=True)
    assert 0 < report.num_resumed < report.num_groups
    assert "are audited again: their labels or predictions changed" in caplog.text
    dataset.audit(tmp_path / "whole")
    assert files(output) == files(tmp_path / "whole")
    assert dataset.audit(output, resume=True).num_resumed == report.num_groups
    array[:2] = [0, 3] if kind == "examples" else [0.75, 0.5]
    assert dataset.audit(output, resume=True).num_resumed == 0
    assert f"its {name} changed since" in caplog.text


def test_other_offsets_are_other_boxes(tmp_path: Path) -> None:
    dataset, output = of_kind("boxes", tmp_path / "in"), tmp_path / "out"
    dataset.audit(output)
    offsets = zarr.open_array(tmp_path / "in/given_offsets", mode="r+")
    offsets[30] = offsets[31]
    with pytest.raises(OutputError, match="made by other inputs or parameters: offsets was"):
        dataset.audit(output, resume=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("examples", "label_issues"),
        ("examples", "label_quality"),
        ("boxes", "image_score"),
        ("boxes", "swap_box_score"),
    ],
)
def test_an_output_that_is_damaged_meanwhile(kind: str, name: str, tmp_path: Path) -> None:
    """It is verified before it is complete, and written again."""
    dataset, output = of_kind(kind, tmp_path / "in"), tmp_path / "out"
    dataset.audit(tmp_path / "whole")

    def damage() -> None:
        (output / name / "c/0").write_bytes(b"no chunk")

    count = dataset.audit(tmp_path / "other").num_groups
    dataset.audit(output, progress=At(count, damage, "paint"), n_jobs=1)
    assert files(output) == files(tmp_path / "whole")


# What cannot be audited


def test_examples_that_cannot_be_audited(tmp_path: Path) -> None:
    """Single ones of a chunk that can be read, and all of one that cannot."""
    labels, probs = make_examples(6)
    wrong, bad = labels.copy(), probs.copy()
    wrong[[7, 310]] = 9
    bad[111, 2] = np.nan
    dataset = write_examples(tmp_path / "in", wrong, bad, **DENSE)
    chunk = tmp_path / "in/pred_probs/c/4/0"
    kept = chunk.read_bytes()
    chunk.write_bytes(b"no chunk")
    with pytest.raises(InputError, match=r"example|cannot be decoded"):
        dataset.audit(tmp_path / "stopped")
    output = tmp_path / "out"
    report = dataset.audit(output, keep_going=True, group_bytes=5000)
    lost = [7, 111, *range(200, 250), 310]
    assert [f.images for f in report.failures] == [(7, 8), (111, 112), (200, 250), (310, 311)]
    assert report.summary()["not audited"] == "53 examples"
    found = report.open().load()
    assert (found.attrs["not_audited"], found.attrs["status"]) == (lost, "partial")
    others = np.delete(np.arange(len(labels)), lost)
    expected = find_label_issues_batched(labels[others], probs[others], verbose=False)
    np.testing.assert_array_equal(found.issue_index, others[expected])
    assert np.isnan(found.label_quality[lost]).all()
    assert not found.label_issues[lost].any()
    chunk.write_bytes(kept)
    whole = write_examples(tmp_path / "in", labels, probs, **DENSE)
    assert whole.audit(output, resume=True, group_bytes=5000).failures == ()
    whole.check(output)


def test_images_whose_boxes_cannot_be_audited(tmp_path: Path) -> None:
    boxes = make_boxes(7)
    dataset = write_boxes(tmp_path / "in", boxes)
    classes = zarr.open_array(tmp_path / "in/given_classes", mode="r+")
    lost = [20, 44]
    places = [int(boxes.given_offsets[image]) for image in lost]
    kept = classes[:]
    for place in places:
        classes[place] = 99
    with pytest.raises(InputError, match=r"image (20|44), given box 0: classes is 99"):
        dataset.audit(tmp_path / "stopped", n_jobs=1)
    output = tmp_path / "out"
    report = dataset.audit(output, keep_going=True)
    assert [f.images for f in report.failures] == [(20, 21), (44, 45)]
    found = report.open().load()
    assert found.attrs["not_audited"] == lost
    others = np.delete(np.arange(boxes.sizes["image"]), lost)
    expected = object_detection.audit(_without(boxes, lost))
    for name in ("image_score", "label_issues", "swap_score"):
        np.testing.assert_array_equal(found[name][others], expected[name])
    assert np.isnan(found.image_score[lost]).all()
    np.testing.assert_array_equal(found.average_precision, expected.average_precision)
    classes[:] = kept
    assert dataset.audit(output, resume=True).failures == ()
    dataset.check(output)


@pytest.mark.parametrize("name", ["given_boxes", "predicted_boxes", "predicted_scores"])
def test_images_whose_boxes_are_gone(name: str, tmp_path: Path) -> None:
    """Also where the fill value could be a box, as others write it."""
    boxes = make_boxes(7)
    dataset = write_boxes(tmp_path / "in", boxes)
    array = zarr.open_array(tmp_path / "in" / name)
    metadata = tmp_path / "in" / name / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"fill_value": "NaN"', '"fill_value": 0.0'))
    assert zarr.open_array(tmp_path / "in" / name).fill_value == 0
    chunk = tmp_path / "in" / name / ("c/2/0" if array.ndim == 2 else "c/2")
    kept = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(InputError, match=rf"{name}: 1 of \d+ chunks are not in the store"):
        dataset.audit(tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    report = dataset.audit(tmp_path / "out", keep_going=True)
    rows = 2 * array.chunks[0], 3 * array.chunks[0] - 1
    offsets = boxes[f"{name.partition('_')[0]}_offsets"].values
    first, last = (np.searchsorted(offsets, rows, side="right") - 1).tolist()
    lost = [i for i in range(first, last + 1) if offsets[i] < offsets[i + 1]]
    assert report.open().attrs["not_audited"] == lost
    assert {failure.cause.partition(" is")[0] for failure in report.failures} == {
        f"{name}: chunk {'2.0' if array.ndim == 2 else '2'}"
    }
    expected = object_detection.audit(_without(boxes, lost))
    others = np.delete(np.arange(boxes.sizes["image"]), lost)
    np.testing.assert_array_equal(report.open().image_score[others], expected.image_score)
    chunk.write_bytes(kept)
    assert dataset.audit(tmp_path / "out", resume=True).failures == ()
    dataset.check(tmp_path / "out")


def _without(boxes: xr.Dataset, lost: list[int]) -> xr.Dataset:
    labels, predictions = [], []
    for image in range(boxes.sizes["image"]):
        if image in lost:
            continue
        given, predicted = (
            slice(int(boxes[f"{side}_offsets"][image]), int(boxes[f"{side}_offsets"][image + 1]))
            for side in ("given", "predicted")
        )
        bboxes, classes = boxes.given_boxes.values[given], boxes.given_classes.values[given]
        labels.append({"bboxes": bboxes, "labels": classes})
        rows = np.column_stack([boxes.predicted_boxes.values, boxes.predicted_scores.values])
        found = boxes.predicted_classes.values[predicted]
        predictions.append([rows[predicted][found == k] for k in range(3)])
    return object_detection.from_lists(labels, predictions)


@pytest.mark.parametrize("kind", ["examples", "boxes"])
def test_a_job_that_fails_at_once_leaves_nothing(kind: str, tmp_path: Path) -> None:
    dataset = of_kind(kind, tmp_path / "in")
    name = "labels" if kind == "examples" else "given_classes"
    zarr.open_array(tmp_path / "in" / name, mode="r+")[:] = 99
    with pytest.raises(InputError, match="99"):
        dataset.audit(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    if kind == "examples":  # images without a given box can be audited
        with pytest.raises(BlockError, match="no example could be audited: labels: "):
            dataset.audit(tmp_path / "out", keep_going=True)


@pytest.mark.parametrize("kind", ["examples", "boxes"])
def test_memory_is_looked_at_before_any_work(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = of_kind(kind, tmp_path / "in")
    monkeypatch.setattr(fitting, "MEMORY_LIMIT", fitting.PROCESS_BYTES + 10)
    with pytest.raises(InputError, match=r"n_jobs: this process, 1 thread on a machine of .* need"):
        dataset.audit(tmp_path / "out", n_jobs=1)
    assert not (tmp_path / "out").exists()


def test_examples_in_smaller_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, output = of_kind("examples", tmp_path / "in"), tmp_path / "out"
    needed = plan_examples_audit(*dataset.places, group_bytes=10**6, **DENSE).worker_bytes
    monkeypatch.setattr(fitting, "MEMORY_LIMIT", fitting.PROCESS_BYTES + needed - 1)
    report = dataset.audit(output, group_bytes=10**6, n_jobs=1)
    assert report.num_groups > 1
    dataset.check(output)


# What is read, and told


def test_each_chunk_of_examples_is_read_once(tmp_path: Path) -> None:
    make("examples", tmp_path / "in")
    store = CountingStore(LocalStore(tmp_path / "in"))
    labels, probs = (zarr.open_array(store, path=n, mode="r+") for n in ("labels", "pred_probs"))
    audit_examples_zarr(labels, probs, tmp_path / "out", progress=False, group_bytes=1, **DENSE)
    reads = {key: count for key, count in store.reads.items() if "pred_probs/c/" in key}
    assert set(reads.values()) == {1}
    assert len(reads) == 12


def test_reports_and_plans(tmp_path: Path) -> None:
    examples, boxes = make("examples", tmp_path / "e"), make("boxes", tmp_path / "b")
    report: ExampleReport = examples.audit(tmp_path / "eo")
    assert report.worst_examples == tuple(report.open().issue_index.values[:5].tolist())
    assert report.summary()["examples"] == "600"
    assert pickle.loads(pickle.dumps(report)) == report
    scored: BoxReport = boxes.audit(tmp_path / "bo")
    scores = scored.open().image_score.values
    assert [i for i, _ in scored.worst_images] == np.argsort(scores, kind="stable")[:5].tolist()
    assert scored.summary()["images"] == "60"
    plan = plan_examples_audit(*examples.places, group_bytes=1)
    assert (plan.num_examples, plan.num_classes, plan.num_groups) == (600, 4, 12)
    assert plan.bytes_to_read == 600 * 4 * 4
    planned = plan_boxes_audit(*boxes.places, block_boxes=40)
    assert (planned.num_images, planned.num_groups) == (60, scored.num_groups)
    assert planned.class_names == ("car", "bus", "tram")


def test_inputs_that_no_job_takes(tmp_path: Path) -> None:
    dataset: Dataset = make("boxes", tmp_path / "in")
    with pytest.raises(InputError, match="boxes: got dict, it must be the path or URL"):
        audit_boxes_zarr({}, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no Zarr group at"):
        audit_boxes_zarr(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(OutputError, match="holds the given_boxes that are to be read"):
        dataset.audit(tmp_path / "in", overwrite=True)
    with pytest.raises(InputError, match="method: got 'margin', it must be one of self_"):
        audit_examples_zarr("a", "b", tmp_path / "out", method="margin")  # type: ignore[arg-type]


def test_predictions_in_another_order_than_the_labels(tmp_path: Path) -> None:
    """Of the dimensions, by name, it does not matter; of the examples it is an error."""
    labels, probs = make_examples(5)
    data = xr.Dataset(
        {"labels": ("row", labels), "pred_probs": (("class", "row"), probs.T)},
        {"row": np.arange(len(labels))[::-1] * 10},
    )
    data.chunk(row=70).to_zarr(tmp_path / "in", consolidated=False)
    places = tmp_path / "in/labels", tmp_path / "in/pred_probs"
    expected = find_label_issues_batched(labels, probs, verbose=False)
    report = audit_examples_zarr(*places, tmp_path / "out", progress=False)
    np.testing.assert_array_equal(report.open().issue_index, expected)
    turned = data[["pred_probs"]].isel(row=slice(None, None, -1)).drop_encoding()
    turned.chunk(row=70).to_zarr(tmp_path / "turned", consolidated=False)
    others = places[0], tmp_path / "turned/pred_probs"
    with pytest.raises(InputError, match=r"in another order .*reindex_like\(labels\)\), or give"):
        audit_examples_zarr(*others, tmp_path / "other", progress=False)
    opened = [xr.open_zarr(place.parent, consolidated=False)[place.name] for place in others]
    found = find_label_issues_batched(*opened, verbose=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_jobs", [0, -1])
def test_a_number_of_threads_that_cannot_be(n_jobs: int, tmp_path: Path) -> None:
    dataset = of_kind("boxes", tmp_path / "in")
    with pytest.raises(InputError, match=f"n_jobs: got {n_jobs}"):
        dataset.audit(tmp_path / "out", n_jobs=n_jobs)
    assert not (tmp_path / "out").exists()
