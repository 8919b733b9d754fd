"""Where the output may go, and what becomes of one that is there, damaged, or cannot be written."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.errors import BlockError, LabelQCError, OutputError
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.pipeline.recorded import FORM
from dask_labelqc.storage import fence
from dask_labelqc.storage.fence import FencedStore
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.pipeline.progress import Stop
from tests.strategies import Case, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")
CASE = make_case(60, (6, 4, 6), 3)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE, chunks=(1, 2, 4, 6))


@pytest.fixture
def half(stored: Stored, tmp_path: Path) -> Path:
    """An output whose job stopped with everything on record and a part of the mask painted."""
    with pytest.raises(KeyboardInterrupt):
        audit(stored, tmp_path / "half", progress=Stop("paint", 2), n_jobs=1)
    return tmp_path / "half"


def test_an_output_that_exists(stored: Stored, tmp_path: Path) -> None:
    audit(stored, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(OutputError, match=r"out' exists already \(complete\); resume=True"):
        audit(stored, tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_an_unfinished_output_that_exists(stored: Stored, half: Path) -> None:
    before = files(half)
    with pytest.raises(OutputError, match=r"half' exists already \(unfinished\); resume=True"):
        audit(stored, half)
    assert files(half) == before


def test_overwrite(stored: Stored, half: Path, tmp_path: Path) -> None:
    other = make_case(61, (2, 4, 6), 4)
    write_case(tmp_path / "other", other)
    audit(Stored(tmp_path / "other/labels", tmp_path / "other/pred_probs"), tmp_path / "out")
    for output in (tmp_path / "out", half):
        report = audit(stored, output, overwrite=True)
        assert report.num_resumed == 0
        check(output, CASE)
    assert files(tmp_path / "out") == files(half)


def test_overwrite_where_nothing_is(stored: Stored, tmp_path: Path) -> None:
    audit(stored, tmp_path / "out", overwrite=True)
    check(tmp_path / "out", CASE)


def test_resume_where_nothing_is(stored: Stored, tmp_path: Path) -> None:
    assert audit(stored, tmp_path / "deep/down/out", resume=True).num_resumed == 0
    check(tmp_path / "deep/down/out", CASE)


def test_resume_in_an_empty_directory(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    audit(stored, tmp_path / "out")
    check(tmp_path / "out", CASE)


def test_both_flags(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="resume, overwrite: both were given"):
        audit(stored, tmp_path / "out", resume=True, overwrite=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"downsample": 2}, "downsample was 1 and is 2"),
        ({"ignore_index": 255}, r"ignore_index was \[\] and is \[255\]"),
        ({"temperature": 0.2}, "temperature was 0.1 and is 0.2"),
        ({"validate": "none"}, "validate was 'full' and is 'none'"),
        ({"from_logits": True}, "from_logits was False and is True"),
        ({"label_downsample": "majority"}, "label_downsample was 'mean' and is 'majority'"),
        ({"write_pixel_scores": True}, "pixel_scores was False and is True"),
        ({"write_predicted_label": True}, "predicted_label was False and is True"),
        ({"group_bytes": 10**6}, "group_bytes was 1 and is 1000000"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("finished", [False, True], ids=["unfinished", "complete"])
def test_resume_with_other_parameters(
    arguments: dict, message: str, finished: bool, stored: Stored, half: Path
) -> None:
    if finished:
        audit(stored, half, resume=True)
    before = files(half)
    with pytest.raises(OutputError, match=f"was made by other inputs or parameters: {message}; "):
        audit(stored, half, resume=True, **arguments)
    assert files(half) == before
    audit(stored, half, overwrite=True, **{"from_logits": False} | arguments)


@pytest.mark.parametrize(
    ("case", "layout", "message"),
    [
        (make_case(0, (7, 4, 6), 3), {}, r"labels.shape was \[6, 4, 6\] and is \[7, 4, 6\]"),
        (make_case(0, (6, 4, 6), 4), {}, r"pred_probs.shape was \[6, 3, 4, 6\]"),
        (make_case(0, (6, 4, 6), 3, dtype="f8"), {}, "pred_probs.dtype was 'float32'"),
        (
            make_case(0, (6, 4, 6), 3, label_dtype="u1"),
            {},
            "labels.dtype was 'int64' and is 'uint8",
        ),
        (CASE, {"chunks": (1, 3, 4, 6)}, r"pred_probs.chunks was \[1, 2, 4, 6\]"),
        (
            CASE,
            {"chunks": (1, 2, 4, 6), "label_chunks": (2, 2, 2)},
            r"labels.chunks was \[1, 4, 6\]",
        ),
    ],
    ids=["images", "classes", "dtype", "label_dtype", "chunks", "label_chunks"],
)
def test_resume_with_other_inputs(
    case: Case, layout: dict, message: str, stored: Stored, half: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "in")
    write_case(tmp_path / "in", case, **layout)
    with pytest.raises(OutputError, match=message):
        audit(stored, half, resume=True)


def test_resume_with_inputs_elsewhere(stored: Stored, half: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    other = Stored(tmp_path / "copy/labels", tmp_path / "copy/pred_probs")
    with pytest.raises(OutputError, match=r"labels.location was 'file://.*/in/labels' and is"):
        audit(other, half, resume=True)


def foreign(kind: str, path: Path) -> None:
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    elif kind == "array":
        zarr.create_array(path, data=np.arange(3))
    elif kind == "group":
        zarr.open_group(path, mode="w").create_array("a", data=np.arange(3))
    elif kind == "group of Zarr 2":
        zarr.open_group(path, mode="w", zarr_format=2).create_array("a", data=np.arange(3))
    elif kind == "damaged group":
        path.mkdir()
        (path / "zarr.json").write_text('{"zarr_for')


FOREIGN = ("file", "directory", "array", "group", "group of Zarr 2", "damaged group")


@pytest.mark.parametrize("arguments", [{}, {"resume": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_an_audit_is_left_alone(
    kind: str, prefix: str, arguments: dict, stored: Stored, tmp_path: Path
) -> None:
    path = tmp_path / "place"
    foreign(kind, path)
    before = files(path) if path.is_dir() else path.read_text()
    with pytest.raises(OutputError, match=r"output: '.*place'"):
        audit_zarr(*stored, f"{prefix}{path}", progress=False, **arguments)
    assert (files(path) if path.is_dir() else path.read_text()) == before


@pytest.mark.parametrize("arguments", [{"resume": True}, {"overwrite": True}], ids=str)
def test_an_output_that_holds_the_inputs(arguments: dict, stored: Stored, tmp_path: Path) -> None:
    audit(stored, tmp_path / "out", write_predicted_label=True)
    before = files(tmp_path / "out")
    inside = Stored(tmp_path / "out/predicted_label", stored.pred_probs)
    with pytest.raises(OutputError, match=r"out' holds the labels that are to be read"):
        audit(inside, tmp_path / "out", **arguments)
    assert files(tmp_path / "out") == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


RECORDS = "checkpoint/summaries"
RECORD = f"{RECORDS}/c/3"
DAMAGES = {
    "no_record": (Path.unlink, RECORD),
    "truncated_record": (truncate, RECORD),
    "empty_record": (empty, RECORD),
    "garbled_record": (garble, RECORD),
    "records_without_metadata": (Path.unlink, f"{RECORDS}/zarr.json"),
    "truncated_metadata": (truncate, f"{RECORDS}/zarr.json"),
    "empty_metadata": (empty, f"{RECORDS}/zarr.json"),
    "no_records": (shutil.rmtree, "checkpoint"),
    "no_mask": (shutil.rmtree, "label_issues"),
    "no_mask_chunks": (shutil.rmtree, "label_issues/c"),
    "truncated_mask_chunk": (truncate, "label_issues/c/0/0/0"),
    "empty_mask_chunk": (empty, "label_issues/c/0/0/0"),
}


@pytest.mark.parametrize(("damage", "place"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_before_resume(
    damage: Any, place: str, stored: Stored, half: Path, tmp_path: Path
) -> None:
    damage(half / place)
    report = audit(stored, half, resume=True)
    assert report.num_resumed == {RECORD: 5, "label": 6}.get(place.partition("_")[0], 0)
    audit(stored, tmp_path / "whole")
    assert files(half) == files(tmp_path / "whole")
    check(half, CASE)


@pytest.mark.parametrize("form", [None, FORM + 1])
def test_records_of_another_form_are_not_read(
    form: int | None, stored: Stored, half: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = zarr.open_group(half / "checkpoint", mode="r+")
    attributes = {k: v for k, v in checkpoint.attrs.items() if k != "form"}
    checkpoint.attrs.put(attributes | ({} if form is None else {"form": form}))
    assert audit(stored, half, resume=True).num_resumed == 0
    (message,) = (r.message for r in caplog.records if "form" in r.message)
    assert f"records (form {form or 1}) this one, with form {FORM}, does not read" in message
    assert message.endswith("all 6 groups are audited again")
    check(half, CASE)


def test_a_damaged_output_says_so(stored: Stored, half: Path) -> None:
    truncate(half / "label_issues/zarr.json")
    with pytest.raises(OutputError, match=r"half' is damaged .* overwrite=True"):
        audit(stored, half, resume=True)
    audit(stored, half, overwrite=True)
    check(half, CASE)


class Vanishing(Stop):
    """Damages a record between two stages."""

    def __init__(self, record: Path) -> None:
        super().__init__("", 0)
        self.record = record

    def stage(self, name: str, total: int, done: int = 0) -> None:
        if name == "paint":
            truncate(self.record)


def test_a_record_that_vanishes_while_the_job_runs(stored: Stored, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"the record of group 3 in .*out is gone or damaged"):
        audit(stored, out, progress=Vanishing(out / RECORD))
    audit(stored, out, resume=True)
    check(out, CASE)


def test_a_place_below_a_file(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"output: '.*/file/out' cannot be written: .*Not a dir"):
        audit(stored, tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_does_not_take_directories(stored: Stored) -> None:
    with pytest.raises(OutputError, match="output: '/proc/out' cannot be written"):
        audit(stored, Path("/proc/out"))


def test_no_permission(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, to whom nothing is forbidden: so the store refuses."""

    def refuse(self: Any, key: Any, data: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", key)

    monkeypatch.setattr(FencedStore, "put_file", refuse)
    with pytest.raises(OutputError, match=r"output: no permission to write '.*out': .*denied"):
        audit(stored, tmp_path / "out")
    monkeypatch.undo()
    audit(stored, tmp_path / "out", group_bytes=10**6)
    check(tmp_path / "out", CASE)


@pytest.mark.parametrize("room", [1, 12, 20, 31])
@pytest.mark.parametrize("client_uses_threads", [1, 2])
def test_no_space(
    room: int,
    client_uses_threads: int,
    stored: Stored,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is full after some writes; with room again the job finishes, with the same bytes."""
    audit(stored, tmp_path / "whole", write_pixel_scores=True)
    written = 0
    write_file = fence._write_file

    def limited(path: Path, data: Any) -> str:
        nonlocal written
        written += 1
        if written > room:
            write_file(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(fence, "_write_file", limited)
        with pytest.raises(LabelQCError, match="No space left on device") as raised:
            audit(stored, tmp_path / "out", write_pixel_scores=True, n_jobs=client_uses_threads)
    assert isinstance(raised.value, OutputError if room in (1, 31) else BlockError)
    if (tmp_path / "out/zarr.json").exists():
        attributes = zarr.open_group(tmp_path / "out", mode="r").attrs
        assert attributes["status"] == "unfinished"
    audit(stored, tmp_path / "out", write_pixel_scores=True, resume=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def mount(options: str, path: Path) -> bool:
    path.mkdir()
    return not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True
    ).returncode


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """64 kB where mounting is allowed, an ordinary directory otherwise."""
    path = tmp_path / "disk"
    mounted = mount("size=64k", path)
    yield path
    if mounted:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk(tiny_disk: Path, stored: Stored, tmp_path: Path) -> None:
    """For real, where the tests may mount one; elsewhere the job has room from the beginning."""
    full = tiny_disk.is_mount()
    try:
        audit(stored, tiny_disk / "out", write_pixel_scores=True)
    except LabelQCError as error:
        assert full
        assert "No space left on device" in str(error)  # noqa: PT017
    if full:
        subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    audit(stored, tiny_disk / "out", write_pixel_scores=True, resume=True)
    audit(stored, tmp_path / "whole", write_pixel_scores=True)
    assert files(tiny_disk / "out") == files(tmp_path / "whole")


def test_a_read_only_disk(stored: Stored, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    place = disk / "out" if mount("size=64k", disk) else Path("/proc/out")
    try:
        if disk.is_mount():
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OutputError, match=r"output: '.*/out' cannot be written"):
            audit(stored, place)
    finally:
        if disk.is_mount():
            subprocess.run(["umount", str(disk)], check=True)


def test_errors_are_of_the_package(stored: Stored, half: Path) -> None:
    with pytest.raises(LabelQCError):
        audit(stored, half)


def test_open_while_unfinished(half: Path) -> None:
    """Nothing half-written looks whole: the status says so, and most variables are missing."""
    found = xr.open_zarr(half, consolidated=False)
    assert found.attrs["status"] == "unfinished"
    assert "image_score" not in found


@pytest.mark.parametrize("lost", ["label_issues/c", "label_issues", "class_issue_count"])
def test_a_complete_output_of_which_something_was_deleted(
    lost: str, stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit(stored, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / lost)
    report = audit(stored, tmp_path / "out", resume=True)
    assert report.num_resumed == 0
    assert f"some of its {lost.partition('/')[0]} was deleted" in caplog.text
    check(tmp_path / "out", CASE)


def test_a_complete_output_that_was_moved(stored: Stored, tmp_path: Path) -> None:
    """What its files are is not compared, only that they are there."""
    report = audit(stored, tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "out")
    assert audit(stored, tmp_path / "out", resume=True).num_resumed == report.num_groups
