"""Inputs that were changed between two runs, and outputs that something else writes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from dask_labelqc.errors import LabelQCWarning, OutputError
from dask_labelqc.pipeline import job
from dask_labelqc.pipeline.finish import check_written
from dask_labelqc.pipeline.stamps import group_stamps
from dask_labelqc.plan import Plan
from dask_labelqc.progress import NoProgress
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.pipeline.progress import Stop
from tests.pipeline.reading import Reading
from tests.strategies import Case, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")
CASE, OTHER = make_case(140, (10, 4, 6), 3), make_case(141, (10, 4, 6), 3)
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE)


@pytest.fixture
def half(stored: Stored, tmp_path: Path) -> Path:
    """An output with everything on record, and a part of the mask."""
    with pytest.raises(KeyboardInterrupt):
        audit(stored, tmp_path / "out", progress=Stop("paint", 4), n_jobs=1)
    return tmp_path / "out"


def replaced(stored: Stored, name: str, images: list[int]) -> Case:
    """Write other labels or predictions of some images, and return what is stored then."""
    labels, pred_probs = CASE.labels.copy(), CASE.pred_probs.copy()
    if name == "labels":
        labels[images] = OTHER.labels[images]
        array, values = stored.labels, labels
    else:
        pred_probs[images] = OTHER.pred_probs[images]
        array, values = stored.pred_probs, pred_probs
    opened = zarr.open_array(array, mode="r+")
    for image in images:
        opened[image] = values[image]
    return Case(labels, pred_probs)


@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_what_changed_is_audited_again(
    name: str, stored: Stored, half: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = replaced(stored, name, [2, 7, 8])
    report = audit(stored, half, resume=True)
    assert report.num_resumed == 7
    assert "3 of 10 groups are audited again: their labels or predictions changed" in caplog.text
    check(half, now)
    audit(stored, tmp_path / "whole")
    assert files(half) == files(tmp_path / "whole")


@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_a_complete_output_of_what_changed(
    name: str, stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit(stored, tmp_path / "out")
    assert audit(stored, tmp_path / "out", resume=True).num_resumed == 10
    assert caplog.text == ""
    now = replaced(stored, name, [2, 7])
    report = audit(stored, tmp_path / "out", resume=True)
    assert report.num_resumed == 0
    assert f"its {name} changed since: all 10 groups are audited again" in caplog.text
    check(tmp_path / "out", now)
    audit(stored, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("finished", [False, True])
def test_trusted_inputs_are_not_looked_at(
    finished: bool, stored: Stored, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if finished:
        audit(stored, half, resume=True)
    replaced(stored, "labels", [2])
    from dask_labelqc.pipeline import images

    def look(*args: Any) -> None:
        pytest.fail("looked")

    monkeypatch.setattr(images.ImageInputs, "stamps", look)
    assert audit(stored, half, resume=True, trust_inputs=True).num_resumed == 10
    check(half, CASE)


def test_what_was_trusted_is_looked_at_by_the_next(
    stored: Stored, half: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The stamps stay those of what the records were made of."""
    now = replaced(stored, "labels", [2, 3])
    with pytest.raises(KeyboardInterrupt):
        audit(stored, half, resume=True, trust_inputs=True, progress=Stop("paint", 1))
    assert audit(stored, half, resume=True).num_resumed == 8
    check(half, now)


def test_a_chunk_that_is_gone_or_new_is_a_change(stored: Stored, half: Path) -> None:
    (stored.labels / "c/3/0/0").unlink()
    labels = CASE.labels.copy()
    labels[3] = 0
    with pytest.warns(LabelQCWarning):
        assert audit(stored, half, resume=True).num_resumed == 9
    check(half, Case(labels, CASE.pred_probs))


def test_changed_while_the_first_run_read(stored: Stored, tmp_path: Path) -> None:
    """The stamps are of before anything was read: what it may have read is read again."""

    class Change(Stop):
        def stage(self, name: str, total: int, done: int = 0) -> None:
            super().stage(name, total, done)
            if name == "summarize":
                replaced(stored, "pred_probs", [4])

    with pytest.raises(KeyboardInterrupt):
        audit(stored, tmp_path / "out", progress=Change("paint", 1))
    assert audit(stored, tmp_path / "out", resume=True).num_resumed == 9


LAYOUTS = {
    "classes last, cut": {"chunks": (2, 3, 2, 4), "order": (0, 2, 3, 1)},
    "shards": {"chunks": (1, 3, 4, 6), "shards": (2, 3, 4, 6)},
    "one chunk of labels": {"label_chunks": (10, 4, 6)},
    "small labels": {"label_chunks": (1, 2, 2), "chunks": (3, 3, 4, 6)},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_in_every_layout(name: str, layout: dict, tmp_path: Path) -> None:
    stored = write_case(tmp_path / "in", CASE, **layout)
    with pytest.raises(KeyboardInterrupt):
        audit(stored, tmp_path / "out", progress=Stop("paint", 1))
    array = zarr.open_array(getattr(stored, name), mode="r+")
    order = layout.get("order", (0, 1, 2, 3)) if name == "pred_probs" else (0, 1, 2)
    values = getattr(OTHER, name).transpose(order)
    before = group_count(tmp_path / "out")
    array[5] = values[5]
    report = audit(stored, tmp_path / "out", resume=True)
    assert before - report.num_resumed > 0
    assert report.num_resumed > 0 or "label_chunks" in layout
    now = Case(CASE.labels.copy(), CASE.pred_probs.copy())
    getattr(now, name)[5] = getattr(OTHER, name)[5]
    check(tmp_path / "out", now)


def group_count(output: Path) -> int:
    array = zarr.open_array(output / "checkpoint/summaries", mode="r")
    return int(array.shape[0])


def test_the_stamp_of_a_group_is_of_all_its_chunks(tmp_path: Path) -> None:
    """Every chunk that overlaps a group, and no other, changes its stamp."""
    array = zarr.create_array(tmp_path / "a", shape=(7, 9), chunks=(2, 4), dtype="i4")
    array[...] = 1
    plan = Plan((7, 9), (3, 3), (3, 3))
    before = group_stamps("a", array, (0, 1), plan)
    assert before is not None
    assert len(set(before.tolist())) == plan.num_groups == 9
    array[2:4, 4:8] = 2  # one chunk: rows 2 and 3, columns 4 to 7
    after = group_stamps("a", array, (0, 1), plan)
    changed = (before != after).reshape(3, 3)
    np.testing.assert_array_equal(changed, [[0, 1, 1], [0, 1, 1], [0, 0, 0]])
    turned = group_stamps("a", array, (1, 0), Plan((9, 7), (3, 3), (3, 3)))
    np.testing.assert_array_equal(turned.reshape(3, 3).T, after.reshape(3, 3))


def test_the_stamps_of_positions_in_another_order(tmp_path: Path) -> None:
    """Each group has the chunks that its positions lie in, wherever those are."""
    array = zarr.create_array(tmp_path / "a", shape=(6, 4), chunks=(1, 4), dtype="i4")
    array[...] = 1
    plan = Plan((1, 6, 4), (1, 2, 4), (1, 2, 4))
    before = group_stamps("a", array, (None, 0, 1), plan)
    shuffled = (None, np.array([3, 0, 5, 1, 2, 4]), range(3, -1, -1))
    others = group_stamps("a", array, (None, 0, 1), plan, shuffled)
    array[5] = 2
    changed = group_stamps("a", array, (None, 0, 1), plan) != before
    assert changed.tolist() == [False, False, True]
    changed = group_stamps("a", array, (None, 0, 1), plan, shuffled) != others
    assert changed.tolist() == [False, True, False]


def test_a_store_that_does_not_tell(
    stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The labels are read and held against the records; predictions are trusted, with a line."""
    reading = Reading(stored)  # in a store of its own kind
    with pytest.raises(KeyboardInterrupt):
        reading.audit(tmp_path / "out", progress=Stop("paint", 1))
    caplog.clear()
    replaced(stored, "labels", [1, 6])
    report = reading.audit(tmp_path / "out", resume=True)
    assert report.num_resumed == 8
    assert "pred_probs: whether " in caplog.text
    labels = CASE.labels.copy()
    labels[[1, 6]] = OTHER.labels[[1, 6]]
    check(tmp_path / "out", Case(labels, CASE.pred_probs))


def test_damaged_stamps_are_those_of_nothing(stored: Stored, half: Path) -> None:
    chunk = half / "checkpoint/stamps_of_labels/c/0"
    chunk.write_bytes(chunk.read_bytes()[:5])
    assert audit(stored, half, resume=True).num_resumed == 0
    check(half, CASE)


# What something else wrote


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def of_another_audit(path: Path) -> None:
    """As a job of other parameters would have written it."""
    name = path.parts[path.parts.index("c") - 1]
    root = Path(*path.parts[: path.parts.index("c")])
    array = zarr.open_array(root, mode="r+")
    image = int(path.parts[path.parts.index("c") + 1])
    array[image] = ~array[image] if name == "label_issues" else array[image] + 1


MEDDLING: dict[str, Callable[[Path], None]] = {
    "gone": lambda path: path.unlink(missing_ok=True),
    "flipped": flip,
    "another": of_another_audit,
}


class Meddle(NoProgress):
    """Meddles with what is written, after the last stage has written it all."""

    def __init__(self, place: Path, meddling: Callable[[Path], None]) -> None:
        self.place, self.meddling, self.stages, self.left = place, meddling, [], 0

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.stages.append(name)
        self.left = total - done

    def advance(self, num_bytes: int = 0) -> None:
        self.left -= 1
        if self.left == 0 and self.stages[-1] == "paint":
            self.meddling(self.place)


@pytest.mark.parametrize("meddling", MEDDLING.values(), ids=MEDDLING)
@pytest.mark.parametrize("name", ["label_issues", "pixel_scores", "predicted_label"])
def test_what_is_not_what_was_written_is_written_again(
    name: str,
    meddling: Callable[[Path], None],
    stored: Stored,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    audit(stored, tmp_path / "whole", **DENSE)
    out = tmp_path / "out"
    audit(stored, out, progress=Meddle(out / name / "c/3/0/0", meddling), n_jobs=1, **DENSE)
    assert "1 groups of the output were not what was written" in caplog.text
    assert files(out) == files(tmp_path / "whole")


def test_a_chunk_that_should_not_be_there(stored: Stored, tmp_path: Path) -> None:
    """A mask without an issue is not stored; one that is stored all the same is deleted."""
    case = Case(CASE.labels.copy(), CASE.pred_probs.copy())
    case.labels[3] = case.pred_probs[3].argmax(axis=0)
    stored = write_case(tmp_path / "in", case)
    audit(stored, tmp_path / "whole")
    place = "label_issues/c/3/0/0"
    assert not (tmp_path / "whole" / place).exists()

    def write_all_false(path: Path) -> None:
        with zarr.config.set({"array.write_empty_chunks": True}):
            zarr.open_array(path.parents[3], mode="r+")[3] = False
        assert path.exists()

    out = tmp_path / "out"
    audit(stored, out, progress=Meddle(out / place, write_all_false), n_jobs=1)
    assert files(out) == files(tmp_path / "whole")


def test_a_resumed_group_is_verified_too(stored: Stored, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        audit(stored, out, progress=Stop("paint", 4), n_jobs=1, **DENSE)
    meddle = Meddle(out / "pixel_scores/c/3/0/0", flip)
    audit(stored, out, progress=meddle, resume=True, n_jobs=1, **DENSE)
    audit(stored, tmp_path / "whole", **DENSE)
    assert files(out) == files(tmp_path / "whole")


def test_what_never_becomes_what_was_written(stored: Stored, tmp_path: Path) -> None:
    out = tmp_path / "out"
    place = out / "label_issues/c/3/0/0"

    class Again(Meddle):
        def stage(self, name: str, total: int, done: int = 0) -> None:
            super().stage(name, total, done)
            if name == "verify":
                self.meddling(self.place)

    with pytest.raises(OutputError, match="are not what was written, time and again"):
        audit(stored, out, progress=Again(place, MEDDLING["gone"]), n_jobs=1)
    audit(stored, out, resume=True)
    check(out, CASE)


def test_a_small_output_that_something_else_wrote(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def meddle(group: zarr.Group) -> None:
        (out / "class_count/c/0").write_bytes(b"x")
        check_written(group)

    with monkeypatch.context() as patch:
        patch.setattr(job, "check_written", meddle)
        with pytest.raises(OutputError, match="out/class_count/c/0 is not what was written"):
            audit(stored, out)
    audit(stored, out, resume=True)
    check(out, CASE)


def test_records_of_a_claim_that_does_not_count(stored: Stored, half: Path) -> None:
    """As a job of other parameters would write it that was frozen before its last look."""
    records = half / "checkpoint/summaries/c"
    checkpoint = zarr.open_group(half / "checkpoint", mode="r+")
    (claim,) = checkpoint.attrs["claims"]
    assert claim.encode() in (records / "3").read_bytes().replace(b"\0", b"")
    checkpoint.attrs["claims"] = ["another"]
    assert audit(stored, half, resume=True).num_resumed == 0
    check(half, CASE)
