"""Which records are finished, and what is said of those that cannot be."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from distributed import Client

from dask_labelqc import (
    InputError,
    OutputError,
    SegmentationInspector,
    finish_audit,
    open_audit,
)
from dask_labelqc.cli import labelqc
from tests.clusters import local_cluster
from tests.inspectors.recording import finish, inspector, names, put, record, same_answers
from tests.pipeline.datasets import audit, files, write_case
from tests.strategies import Case, make_case

CASE = make_case(30, (5, 3, 6), 4)
IDS = names(CASE)


def other_labels() -> Case:
    labels = CASE.labels.copy()
    labels[2, 1, 1] = (labels[2, 1, 1] + 1) % 4
    return Case(labels, CASE.pred_probs)


def test_one_image_with_two_records(tmp_path: Path) -> None:
    record(tmp_path / "out", CASE, [0, 1, 2])
    record(tmp_path / "out", other_labels(), [2, 3, 4])
    writers = {
        file.name.rpartition("-")[0]
        for file in (tmp_path / "out" / "records").iterdir()
        if file.suffix != ".json"
    }
    with pytest.raises(InputError, match="the image 'tile_0002' is on record twice") as raised:
        finish(tmp_path / "out")
    assert all(writer in str(raised.value) for writer in writers)
    assert len(writers) == 2


def test_a_manifest_that_has_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path / "out", CASE, [0, 1, 2, 4])
    manifest = [IDS[2], IDS[3], "none", IDS[0]]
    said = (
        r"manifest: 2 images \('tile_0003', 'none'\) of it are not on record; 2 images "
        r"\('tile_0001', 'tile_0004'\) are on record and not in it; allow_missing=True audits the"
    )
    with pytest.raises(InputError, match=said):
        finish(tmp_path / "out", manifest=manifest)
    assert not (tmp_path / "out" / "zarr.json").exists()
    with caplog.at_level(logging.WARNING):
        report = finish(tmp_path / "out", manifest=manifest, allow_missing=True)
    assert "2 images on record are not in it, and left out" in caplog.text
    assert report.open().image_id.values.tolist() == [IDS[2], IDS[0]]
    chosen = Case(CASE.labels[[2, 0]], CASE.pred_probs[[2, 0]])
    audit(write_case(tmp_path / "in", chosen), tmp_path / "stored")
    same_answers(tmp_path / "out", tmp_path / "stored")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ([], "manifest: it names no image"),
        (["a", "a"], "manifest: 'a' stands for more than one item"),
        (["a", "b", "a", "b"], "manifest: 'a', 'b' stand for more than one item"),
        ("nowhere.txt", "manifest: 'nowhere.txt' cannot be read"),
    ],
)
def test_bad_manifests(manifest: Any, message: str, tmp_path: Path) -> None:
    record(tmp_path / "out", CASE)
    with pytest.raises(InputError, match=message):
        finish(tmp_path / "out", manifest=manifest)


def test_a_manifest_of_others_alone(tmp_path: Path) -> None:
    record(tmp_path / "out", CASE)
    with pytest.raises(InputError, match=r"manifest: 1 image \('x'\) of it are not") as raised:
        finish(tmp_path / "out", manifest=["x"], allow_missing=True)
    assert "allow_missing" not in str(raised.value)


def test_a_manifest_with_a_byte_order_mark(tmp_path: Path) -> None:
    record(tmp_path / "out", CASE)
    (tmp_path / "ids.txt").write_text("\n".join(IDS[::-1]), encoding="utf-8-sig")
    found = finish(tmp_path / "out", manifest=tmp_path / "ids.txt").open()
    assert found.image_id.values.tolist() == IDS[::-1]


def test_nothing_is_on_record(tmp_path: Path) -> None:
    for begun in (False, True):
        if begun:
            inspector(tmp_path / "out", CASE).close()
        with pytest.raises(InputError, match="has no records of an inspector"):
            finish(tmp_path / "out")
    audit(write_case(tmp_path / "in", CASE), tmp_path / "stored")
    with pytest.raises(OutputError, match="is no output of an inspector"):
        finish(tmp_path / "stored")


def test_records_that_cannot_be_of_one_dataset(tmp_path: Path) -> None:
    record(tmp_path / "dtypes", CASE, [0])
    wide = Case(CASE.labels, CASE.pred_probs.astype(np.float64))
    record(tmp_path / "dtypes", wide, [1])
    said = r"'tile_000[01]'\), are float(32|64), those of .* float(32|64); .* delete the records"
    with pytest.raises(InputError, match=said):
        finish(tmp_path / "dtypes")
    record(tmp_path / "dims", CASE, [0])
    flat = Case(CASE.labels.reshape(5, -1), CASE.pred_probs.reshape(5, 4, -1))
    record(tmp_path / "dims", flat, [1])
    with pytest.raises(InputError, match=r"'tile_000.'.* have [12] dimensions, those of .*delete"):
        finish(tmp_path / "dims")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "other"])
def test_a_damaged_record(damage: str, tmp_path: Path) -> None:
    """It is an error that names it, of whoever needs it."""
    record(tmp_path / "out", CASE, [0, 1], [2, 3, 4], flush_images=2)
    file = sorted((tmp_path / "out" / "records").glob("*-000001"))[0]
    data = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "changed":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(b"" if damage == "gone" else b"something else, and long enough for it")
    with pytest.raises(InputError, match=f"the record records/{file.name} is gone or damaged"):
        finish(tmp_path / "out")
    file.unlink()
    assert inspector(tmp_path / "out", CASE).missing(IDS) == IDS[2:]


def test_what_a_killed_writer_leaves_is_not_there(tmp_path: Path) -> None:
    record(tmp_path / "out", CASE)
    (tmp_path / "out/records/host-1-000009.abc.partial").write_bytes(b"half")
    assert finish(tmp_path / "out").num_images == 5


def test_class_names_and_void_images(tmp_path: Path) -> None:
    labels = CASE.labels.copy()
    labels[1] = 255
    case = Case(labels, CASE.pred_probs, (255,))
    record(tmp_path / "out", case, class_names=["road", "house", "tree", "water"])
    report = finish(tmp_path / "out")
    assert {name for name, _ in report.worst_classes} <= {"road", "house", "tree", "water"}
    assert report.worst_images[0][0] in IDS
    found = report.open()
    assert found.attrs["class_names"] == ["road", "house", "tree", "water"]
    assert np.isnan(found.image_score[1])
    assert "tile_" in report.summary()["worst images"]


@pytest.fixture(scope="module")
def client() -> Any:
    with local_cluster(2) as client:
        yield client


def test_on_workers(client: Client, tmp_path: Path) -> None:
    record(tmp_path / "out", CASE, [4, 0], [1, 3, 2], flush_images=1)
    shutil.copytree(tmp_path / "out", tmp_path / "same")
    finish(tmp_path / "out")
    finish_audit(tmp_path / "same", client=client, progress=False)
    assert files(tmp_path / "same") == files(tmp_path / "out")


def test_two_who_finish_at_once(tmp_path: Path) -> None:
    """One writes, and the other one is told."""
    from dask_labelqc.pipeline.lease import hold
    from dask_labelqc.storage.stores import open_store

    record(tmp_path / "out", CASE)
    store = open_store(tmp_path / "out", read_only=False)
    with hold(store, "out"), pytest.raises(OutputError, match="is being written by another job"):
        finish(tmp_path / "out")
    assert finish(tmp_path / "out").num_images == 5


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(labelqc, ["finish", *map(str, arguments), "--workers=0", "--quiet"])


def test_the_command(tmp_path: Path) -> None:
    record(tmp_path / "out", CASE, [0, 1, 2])
    result = invoke(tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "images 3" in " ".join(result.stdout.split())
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("\n".join(IDS[::-1]))
    refused = invoke(tmp_path / "out", "--manifest", manifest)
    assert refused.exit_code == 1
    assert "--manifest: 2 images ('tile_0004', 'tile_0003') of it are not" in refused.stderr
    assert "--allow-missing audits the images that are in both" in refused.stderr
    assert invoke(tmp_path / "out", "--manifest", manifest, "--allow-missing").exit_code == 0
    ids = xr.open_zarr(tmp_path / "out").image_id.values.tolist()
    assert ids == IDS[2::-1]
    nothing = invoke(tmp_path / "nothing")
    assert nothing.exit_code == 1
    assert "has no records of an inspector" in nothing.stderr


def test_what_is_asked_for_again_and_again(tmp_path: Path) -> None:
    """A loop that goes on where it was, in three runs that see what is missing."""
    for _ in range(3):
        with SegmentationInspector(tmp_path / "out", 4) as inspecting:
            for image in [IDS.index(name) for name in inspecting.missing(IDS)[:2]]:
                put(inspecting, CASE, [image])
    assert finish(tmp_path / "out").num_images == 5


def test_opened_by_its_ids(tmp_path: Path) -> None:
    case = make_case(3, (4, 6, 5), 3)
    record(tmp_path / "out", case)
    finish(tmp_path / "out")
    opened = open_audit(tmp_path / "out")
    assert opened.table.index.tolist() == names(case)
    worst = opened.worst(1).index[0]
    whole = xr.open_zarr(tmp_path / "out")
    number = int(whole.image_score.values.argmin())
    assert worst == names(case)[number]
    np.testing.assert_array_equal(
        opened.image(worst).label_issues.values, whole.label_issues[number].values
    )


@pytest.mark.parametrize("lost", ["label_issues/c", "label_issues", "image_score"])
def test_a_finished_output_of_which_something_was_deleted(lost: str, tmp_path: Path) -> None:
    """It is written again."""
    record(tmp_path / "out", CASE)
    assert finish(tmp_path / "out").num_issues > 0
    before = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / lost)
    assert finish(tmp_path / "out").num_resumed == 0
    assert files(tmp_path / "out") == before
    assert finish(tmp_path / "out").num_resumed > 0
