"""How often the job reads each chunk of the predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.datasets import Stored, check, files, write, write_case
from tests.pipeline.progress import Stop
from tests.pipeline.reading import Reading
from tests.strategies import Case, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")


LAYOUTS = {
    "images": {},
    "cut_everywhere": {"chunks": (2, 2, 3, 4)},
    "classes_last": {"chunks": (1, 2, 5, 8), "order": (0, 2, 3, 1)},
    "small_labels": {"chunks": (2, 4, 6, 8), "label_chunks": (1, 1, 1)},
}


@pytest.mark.parametrize("group_bytes", [1, 1500, 10**9])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_each_chunk_is_read_once(layout: dict, group_bytes: int, tmp_path: Path) -> None:
    case = make_case(40, (5, 6, 8), 4)
    reading = Reading(write_case(tmp_path / "in", case, **layout))
    reading.audit(
        tmp_path / "out",
        group_bytes=group_bytes,
        write_pixel_scores=True,
        write_predicted_label=True,
    )
    assert len(reading.reads) == reading.num_chunks
    assert set(reading.reads.values()) == {1}
    check(tmp_path / "out", case)


def test_once_when_downsampled(tmp_path: Path) -> None:
    """Chunks of 5 and cells of 2: what is read together is a multiple of both."""
    case = make_case(41, (3, 20, 4), 3, downsample=2)
    reading = Reading(write_case(tmp_path / "in", case, chunks=(1, 3, 5, 4)))
    report = reading.audit(tmp_path / "out", **case.arguments)
    assert report.num_groups == 6
    assert len(reading.reads) == reading.num_chunks == 12
    assert set(reading.reads.values()) == {1}


def test_once_when_sums_are_off_but_the_cut_is_low(tmp_path: Path) -> None:
    case = make_case(42, (4, 6, 8), 4, mistakes=0.1)
    case = Case(case.labels, np.minimum(case.pred_probs * 1.2, 1).astype("f4"))
    reading = Reading(write_case(tmp_path / "in", case))
    with pytest.warns(UserWarning, match="should sum to 1"):
        reading.audit(tmp_path / "out")
    assert set(reading.reads.values()) == {1}
    check(tmp_path / "out", case)


def high_cut(path: Path) -> tuple[Stored, Case]:
    """Probabilities that sum to about 2, most labels wrong: the cut falls above one half."""
    rng = np.random.default_rng(0)
    case = Case(
        rng.integers(0, 4, (6, 8, 8)), rng.integers(1, 1024, (6, 4, 8, 8)) / np.float32(1024)
    )
    return write(path, case.labels, case.pred_probs), case


def test_twice_when_sums_are_off_and_the_cut_is_high(tmp_path: Path) -> None:
    stored, case = high_cut(tmp_path / "in")
    reading = Reading(stored)
    report = reading.audit(tmp_path / "out", validate="labels")
    assert len(reading.reads) == reading.num_chunks == 6
    assert set(reading.reads.values()) == {2}
    assert report.bytes_read == 2 * case.pred_probs.nbytes
    found = check(tmp_path / "out", case)
    assert found.label_issues.sum() > 200


@pytest.mark.parametrize("count", range(1, 13))
def test_resumed_in_either_read(count: int, tmp_path: Path) -> None:
    """Records of the first and the second read tell different candidates."""
    stored, case = high_cut(tmp_path / "in")
    reading = Reading(stored)
    stop = Stop("summarize", count)
    with pytest.raises(KeyboardInterrupt):
        reading.audit(tmp_path / "out", validate="labels", progress=stop)
    reading.audit(tmp_path / "out", validate="labels", resume=True)
    reading.audit(tmp_path / "whole", validate="labels")
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    check(tmp_path / "out", case)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_resume_reads_the_groups_without_a_record(count: int, tmp_path: Path) -> None:
    case = make_case(43, (10, 6, 8), 4)
    reading = Reading(write_case(tmp_path / "in", case, chunks=(1, 2, 6, 8)))
    with pytest.raises(KeyboardInterrupt):
        reading.audit(tmp_path / "out", progress=Stop("summarize", count), n_jobs=1)
    folder = tmp_path / "out" / "checkpoint" / "summaries" / "c"
    records = {p.name for p in folder.iterdir()}
    assert count <= len(records) < 10
    damaged = min(records)
    (folder / damaged).unlink()
    reading.clear()
    report = reading.audit(tmp_path / "out", resume=True)
    missing = {str(i) for i in range(10)} - records | {damaged}
    assert reading.reads == {f"pred_probs/c/{i}/{k}/0/0": 1 for i in missing for k in (0, 1)}
    assert report.num_resumed == 10 - len(missing)
    assert report.bytes_read == len(missing) * 4 * 6 * 8 * 4
    check(tmp_path / "out", case)


@pytest.mark.parametrize("stage", ["count", "paint"])
def test_nothing_is_read_once_all_is_on_record(stage: str, tmp_path: Path) -> None:
    case = make_case(44, (10, 6, 8), 4)
    reading = Reading(write_case(tmp_path / "in", case))
    with pytest.raises(KeyboardInterrupt):
        reading.audit(tmp_path / "out", progress=Stop(stage, 1))
    reading.clear()
    report = reading.audit(tmp_path / "out", resume=True)
    assert reading.reads == {}
    assert (report.num_resumed, report.bytes_read) == (10, 0)
    check(tmp_path / "out", case)


def test_resume_of_a_complete_output_does_nothing(tmp_path: Path) -> None:
    reading = Reading(write_case(tmp_path / "in", make_case(45, (3, 6, 8), 4)))
    first = reading.audit(tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    reading.store.reads.clear()
    report = reading.audit(tmp_path / "out", resume=True)
    assert not reading.store.reads
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before
    assert (report.num_issues, report.worst_images) == (first.num_issues, first.worst_images)
    assert (report.num_resumed, report.bytes_read, report.seconds) == (3, 0, {})


def test_planning_reads_no_chunk(tmp_path: Path) -> None:
    from dask_labelqc.pipeline import plan_audit

    reading = Reading(write_case(tmp_path / "in", make_case(46, (3, 6, 8), 4)))
    plan_audit(reading.labels, reading.pred_probs)
    assert not any("/c/" in key for key in reading.store.reads)
