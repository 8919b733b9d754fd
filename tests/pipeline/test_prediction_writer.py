"""Predictions that are kept batch by batch, and audited as they would be from arrays."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import segmentation
from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.pipeline import PredictionWriter, audit_zarr
from dask_labelqc.pipeline import prediction_layout as module
from dask_labelqc.pipeline.prediction_layout import JoinedImages
from dask_labelqc.storage.ledger import Ledger
from tests.pipeline.datasets import files
from tests.ragged import RaggedCase, check_ragged, ragged_case, ragged_cases
from tests.strategies import Case, examples

SHAPES = [(3, 4), (7, 5), (1, 2), (6, 6)]
CASE = ragged_case(SHAPES, dtype="u1")
IDS = CASE.table.ids.tolist()


MASKED = np.ma.MaskedArray(np.zeros((1, 2, 2), "u1"), np.eye(2, dtype=bool)[None])


def write(writer: PredictionWriter, *names: str) -> None:
    """Some of the images, as a batch."""
    numbers = [IDS.index(name) for name in names]
    labels, probs = ([images[i] for i in numbers] for images in (CASE.labels, CASE.pred_probs))
    writer.write(names, labels, pred_probs=probs)


def in_a_fork(do: Callable[[], object]) -> None:
    child = os.fork()
    if not child:
        status = 1
        try:
            do()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def write_all(path: Path, case: RaggedCase, **how: Any) -> PredictionWriter:
    """Each image a batch of its own."""
    probs = case.pred_probs
    dtype = probs[0].dtype.newbyteorder("=").name
    with PredictionWriter(path, len(probs[0]), dtype, **how) as writer:
        for name, labels, image in zip(case.table.ids, case.labels, probs, strict=True):
            writer.write([name], labels[None], pred_probs=image[None].astype(dtype))
    return writer


@examples(6)
@given(ragged_cases(), st.sampled_from([1, 200, 10**6]))
def test_an_audit_of_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, case: RaggedCase, part_bytes: int
) -> None:
    if case.flat.pred_probs.dtype == np.float64:
        case = RaggedCase(
            Case(case.flat.labels, case.flat.pred_probs.astype("f4"), case.flat.ignore_index),
            case.shapes,
        )
    path = tmp_path_factory.mktemp("written")
    write_all(path / "in", case, part_bytes=part_bytes).finish()
    report = audit_zarr(
        path / "in/labels", path / "in/pred_probs", path / "out", progress=False,
        group_bytes=1, write_pixel_scores=True, ignore_index=case.flat.ignore_index,
    )  # fmt: skip
    check_ragged(report.open(), case)


def test_several_processes_and_images_written_twice(tmp_path: Path) -> None:
    writers = [PredictionWriter(tmp_path / "in", 4, part_bytes=100) for _ in range(2)]
    batches = [(0, [1]), (1, [3, 0]), (0, [2, 3]), (1, [1])]
    for writer, images in batches:
        writers[writer].write(
            [IDS[i] for i in images],
            [CASE.labels[i] for i in images],
            pred_probs=[CASE.pred_probs[i] for i in images],
        )
    assert writers[0].missing([*IDS, "other"])[-1] == "other"
    for writer in writers:
        writer.close()
    assert writers[1].missing(IDS) == []
    group = writers[1].finish()
    found = xr.open_zarr(group.store)
    assert sorted(found.image_id.values.tolist()) == IDS
    for i, name in enumerate(found.image_id.values.tolist()):
        number, first = IDS.index(name), int(found.offset[i])
        pixels = slice(first, first + int(found.pixel_count[i]))
        np.testing.assert_array_equal(group["labels"][pixels], CASE.labels[number].ravel())
        np.testing.assert_array_equal(
            group["pred_probs"][:, pixels], CASE.pred_probs[number].reshape(4, -1)
        )


def test_what_was_not_yet_written_is_missing(tmp_path: Path) -> None:
    killed = PredictionWriter(tmp_path / "in", 4, part_bytes=200)
    killed.write(IDS[:3], CASE.labels[:3], pred_probs=CASE.pred_probs[:3])
    again = PredictionWriter(tmp_path / "in", 4)
    missing = again.missing(IDS)
    assert missing == IDS[2:]
    numbers = [IDS.index(name) for name in missing]
    again.write(
        missing, [CASE.labels[i] for i in numbers], pred_probs=[CASE.pred_probs[i] for i in numbers]
    )
    again.finish()
    write_all(tmp_path / "whole", CASE).finish()
    assert files(tmp_path / "in") == files(tmp_path / "whole")


def test_a_record_that_was_deleted_is_missing(tmp_path: Path) -> None:
    write_all(tmp_path / "in", CASE, part_bytes=1)
    sorted((tmp_path / "in/records").glob("*-000001"))[0].unlink()
    writer = PredictionWriter(tmp_path / "in", 4)
    assert writer.missing(IDS) == [IDS[1]]
    assert zarr.open_array(writer.finish().store, path="image_id")[:].tolist() == [
        IDS[0],
        *IDS[2:],
    ]


def test_shards_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(tmp_path / "whole", CASE, part_bytes=1).finish()
    monkeypatch.setattr(module, "CHUNK_PIXELS", 8)
    monkeypatch.setattr(module, "SHARD_CHUNKS", 3)
    group = write_all(tmp_path / "in", CASE, part_bytes=1).finish()
    assert (group["pred_probs"].chunks, group["pred_probs"].shards) == ((4, 8), (4, 24))
    whole = zarr.open_group(tmp_path / "whole", mode="r")
    for name in ("labels", "pred_probs"):
        np.testing.assert_array_equal(group[name][:], whole[name][:])


def test_images_of_one_size_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_PIXELS", 24)
    monkeypatch.setattr(module, "SHARD_CHUNKS", 2)
    case = ragged_case([(3, 4)] * 7, dtype="u1")
    group = write_all(tmp_path / "in", case, part_bytes=1).finish(
        regular=True, class_names=["a", "b", "c", "d"]
    )
    np.testing.assert_array_equal(group["labels"][:], np.stack(case.labels))
    np.testing.assert_array_equal(group["pred_probs"][:], np.stack(case.pred_probs))
    assert group["pred_probs"].shards == (4, 4, 3, 4)
    found = xr.open_zarr(group.store)
    assert found.labels.dims == ("image", "y", "x")
    assert found.image_id.values.tolist() == case.table.ids.tolist()
    np.testing.assert_allclose(found.pred_probs, np.stack(case.pred_probs) / 255, rtol=1e-6)
    report = audit_zarr(
        tmp_path / "in/labels", tmp_path / "in/pred_probs", tmp_path / "out", progress=False
    )
    expected = segmentation.audit(np.stack(case.labels), np.stack(case.pred_probs))
    np.testing.assert_array_equal(report.open().label_issues, expected.label_issues)


@pytest.mark.parametrize("framework", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_logits_become_probabilities_in_float32(framework: Any, dtype: Any, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 5, 3, 4)).astype("f4")
    wide = np.exp(logits.astype("f8"))
    probs = wide / wide.sum(axis=1, keepdims=True)
    labels = np.zeros((2, 3, 4), "u1")
    with PredictionWriter(tmp_path / "in", 5, dtype) as writer:
        writer.write(["a", "b"], framework(labels), logits=framework(logits))
    stored = writer.finish()["pred_probs"]
    scale = stored.attrs.get("scale_factor", 1)
    found = stored[:].astype("f8") * scale
    step = {"uint8": 0.5 / 255, "uint16": 0.5 / 65535, "float16": 5e-4, "float32": 1e-7}[dtype]
    expected = np.moveaxis(probs.reshape(2, 5, -1), 1, 0).reshape(5, -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=step * 1.001 + 1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pred_probs": np.full((1, 4, 2, 2), np.nan)}, "'x' has values that are not between"),
        ({"pred_probs": np.full((1, 4, 2, 2), 1.5)}, "'x' has values that are not between"),
        ({"pred_probs": np.zeros((1, 4, 2, 2))}, "all 4 probabilities of a pixel of 'x' are 0"),
        ({"logits": np.ones((1, 3, 2, 2))}, r"'x' has shape \(3, 2, 2\), it must be \(4, 2, 2\)"),
        ({"logits": np.ones((2, 4, 2, 2))}, "got 1, 1 and 2 of them"),
        ({}, "give one of them"),
        ({"logits": np.ones((1, 4, 2, 2)), "labels": np.ones((1, 2, 2))}, "dtype float64"),
        ({"logits": np.ones((1, 4, 0, 9)), "labels": np.ones((1, 0, 9), "u1")}, "must have pixels"),
        ({"logits": np.ones((1, 4, 2, 2)), "labels": MASKED}, "labels: 'x' has masked pixels"),
        ({"logits": np.ones((1, 4, 2, 2)), "labels": [MASKED[0]]}, "'x' has masked pixels"),
        (
            {"pred_probs": np.ma.masked_less(np.full((1, 4, 2, 2), 0.25), 0.5)},
            "pred_probs: 'x' has masked pixels, and masks are not stored",
        ),
    ],
)
def test_what_does_not_fit(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "in", 4)
    with pytest.raises(InputError, match=message):
        writer.write(["x"], **({"labels": np.zeros((1, 2, 2), "u1")} | arguments))


def test_images_of_several_sizes_are_not_regular(tmp_path: Path) -> None:
    writer = write_all(tmp_path / "in", CASE)
    with pytest.raises(InputError, match=r"different sizes, such as \(1, 2\) and \(6, 6\)"):
        writer.finish(regular=True)
    assert writer.finish()["labels"].shape == (CASE.table.num_pixels,)


def test_a_store_that_is_not_to_be_written(tmp_path: Path) -> None:
    writer = write_all(tmp_path / "in", CASE)
    with pytest.raises(OutputError, match="num_classes was 4 and is 5"):
        PredictionWriter(tmp_path / "in", 5)
    with pytest.raises(OutputError, match="dtype was 'uint8' and is 'uint16'"):
        PredictionWriter(tmp_path / "in", 4, "uint16")
    writer.finish()
    with pytest.raises(OutputError, match="is finished, no more images can be written"):
        PredictionWriter(tmp_path / "in", 4)
    zarr.create_group(tmp_path / "other")
    with pytest.raises(OutputError, match=r"store: '.*other' is a Zarr group of something else"):
        PredictionWriter(tmp_path / "other", 4)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").touch()
    with pytest.raises(OutputError, match=r"store: '.*folder' exists and has other files"):
        PredictionWriter(tmp_path / "folder", 4)


def test_nothing_is_written_to_a_finished_store(tmp_path: Path) -> None:
    first, late, waiting = (PredictionWriter(tmp_path / "in", 4) for _ in range(3))
    write(first, *IDS[:2])
    write(waiting, IDS[2])
    first.finish()
    whole = files(tmp_path / "in")
    for writer in (first, late):
        for refused in (writer.finish, lambda w=writer: w.missing(IDS)):
            with pytest.raises(OutputError, match=r"^store: .* is finished, no more images can be"):
                refused()
    with pytest.raises(OutputError, match="is finished, no more images can be put on record"):
        waiting.close()
    with pytest.raises(OutputError, match="is finished, no more images can be finished"):
        waiting.finish()
    first.close()  # of nothing, as where the writer is a context
    small = PredictionWriter(tmp_path / "other", 4, part_bytes=1)
    write(small, IDS[0])
    small.finish()
    with pytest.raises(OutputError, match="is finished, no more images can be put on record"):
        write(small, IDS[1])
    assert files(tmp_path / "in") == whole


def test_an_image_that_comes_while_others_are_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, late = (PredictionWriter(tmp_path / "in", 4) for _ in range(2))
    write(writer, *IDS[:2])
    write(late, *IDS[2:])
    lay_out = JoinedImages.write

    def write_late(joined: JoinedImages, regular: bool) -> zarr.Group:
        with pytest.raises(OutputError, match="is being finished, no more images can be put on"):
            late.close()
        with pytest.raises(OutputError, match=r"store: .*job"):
            late_finish()
        return lay_out(joined, regular)

    def late_finish() -> None:
        PredictionWriter(tmp_path / "in", 4).finish()

    monkeypatch.setattr(JoinedImages, "write", write_late)
    assert writer.finish()["height"].shape == (2,)


def test_a_record_that_is_written_as_others_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, late = (PredictionWriter(tmp_path / "in", 4) for _ in range(2))
    write(writer, *IDS[:2])
    writer.close()
    write(late, *IDS[2:])
    put_down = Ledger.write

    def finish_first(*record: Any) -> None:
        writer.finish()
        put_down(*record)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", finish_first)
        with pytest.raises(OutputError, match=r"is finished, .* put on record for sure"):
            late.close()
    with pytest.raises(OutputError, match="is finished"):
        PredictionWriter(tmp_path / "in", 4)


def test_a_finish_that_was_killed_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(tmp_path / "whole", CASE).finish()
    writer = write_all(tmp_path / "in", CASE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "unpack", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.finish()
    with pytest.raises(OutputError, match=r"is being finished, .* call finish\(\) again"):
        write(again := PredictionWriter(tmp_path / "in", 4, part_bytes=1), IDS[0])
    again.finish()  # with what was refused
    assert files(tmp_path / "in") == files(tmp_path / "whole")


@pytest.mark.parametrize("how", ["fork", "pickle"])
def test_a_copy_is_a_writer_of_its_own(how: str, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "in", 4)
    write(writer, IDS[0])

    def write_other() -> None:
        copy = pickle.loads(pickle.dumps(writer)) if how == "pickle" else writer
        write(copy, IDS[1])
        copy.close()

    if how == "pickle":
        write_other()
    else:
        in_a_fork(write_other)
    writer.close()
    assert writer.missing(IDS) == IDS[2:]
    assert len({name.rpartition("-")[0] for name in files(tmp_path / "in/records")}) == 3
    assert sorted(writer.finish()["image_id"][:].tolist()) == IDS[:2]


def test_an_image_twice_in_one_writer_or_batch(tmp_path: Path) -> None:
    write_all(tmp_path / "whole", CASE).finish()
    with PredictionWriter(tmp_path / "in", 4) as writer:
        write(writer, *IDS, IDS[0])
        write(writer, IDS[1])
    assert writer.missing([*IDS, *IDS]) == []
    group, whole = writer.finish(), zarr.open_group(tmp_path / "whole", mode="r")
    for name in ("image_id", "labels", "pred_probs", "offset"):
        np.testing.assert_array_equal(group[name][:], whole[name][:])


@pytest.mark.parametrize("changed", ["labels", "pred_probs", "shape"])
def test_an_image_twice_and_not_the_same(changed: str, tmp_path: Path) -> None:
    labels, probs = CASE.labels[0].copy(), CASE.pred_probs[0].copy()
    if changed == "labels":
        labels[0, 0] = (labels[0, 0] + 1) % 4
    elif changed == "pred_probs":
        probs[0, 0, 0] = probs[0, 0, 0] // 2 + 1
    else:
        labels, probs = labels.reshape(4, 3), probs.reshape(4, 4, 3)
    writers = [PredictionWriter(tmp_path / "in", 4) for _ in range(2)]
    write(writers[0], *IDS)
    writers[1].write([IDS[0]], [labels], pred_probs=[probs])
    writers[0].close()
    with pytest.raises(InputError, match=f"ids: the image '{IDS[0]}' was written twice, and not"):
        writers[1].finish()
    (record,) = (tmp_path / "in/records").glob(f"{writers[1]._recorder._name}-*")
    record.unlink()
    assert writers[0].finish()["height"].shape == (len(IDS),)


def test_labels_of_another_dtype_are_the_same(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "in", 4) as writer:
        for dtype in ("u1", "i8"):
            writer.write(["a"], [CASE.labels[0].astype(dtype)], pred_probs=[CASE.pred_probs[0]])
    assert writer.finish()["labels"].shape == (CASE.labels[0].size,)


def test_images_of_several_dimensions(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "in", 2) as writer:
        writer.write(["flat"], [np.zeros((2, 3), "u1")], logits=[np.zeros((2, 2, 3))])
        writer.write(["deep"], [np.zeros((2, 3, 1), "u1")], logits=[np.zeros((2, 2, 3, 1))])
    with pytest.raises(InputError, match="'flat' has 2 dimensions and 'deep' has 3; write them to"):
        writer.finish()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5], "ids: got 1.5 at 0, it must be a text or a whole number"),
        ([None], "ids: got None at 0"),
        ("x", "ids: got 'x', it must be a sequence"),
        (
            [os.fsdecode(b"caf\xe9")],
            r"ids: 'caf\\udce9' is no Unicode text",
        ),
    ],
)
def test_ids_that_cannot_be_used(ids: Any, message: str, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "in", 4)
    with pytest.raises(InputError, match=message):
        writer.write(ids, CASE.labels[0][None], pred_probs=CASE.pred_probs[0][None])
    with pytest.raises(InputError, match=message):
        writer.missing(ids)


@pytest.mark.parametrize("names", [["a", "a", "b", "c"], ["a", "b"], "abcd", [1, 2, 3, 4]])
def test_names_that_are_not_those_of_the_classes(names: Any, tmp_path: Path) -> None:
    writer = write_all(tmp_path / "in", CASE)
    with pytest.raises(InputError, match="class_names: "):
        writer.finish(class_names=names)
    assert writer.missing(IDS) == []


def test_an_audit_of_what_is_not_finished(tmp_path: Path) -> None:
    write_all(tmp_path / "in", CASE)
    with pytest.raises(InputError, match=r"in/labels', a PredictionWriter has begun it; .*finish"):
        audit_zarr(tmp_path / "in/labels", tmp_path / "in/pred_probs", tmp_path / "out")


def test_arguments_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype: got 'int8', it must be one of uint8, uint16"):
        PredictionWriter(tmp_path / "in", 4, "int8")
    with pytest.raises(InputError, match="num_classes: got 1, it must be an integer of 2 or more"):
        PredictionWriter(tmp_path / "in", 1)
    with pytest.raises(InputError, match="images: none was written"):
        PredictionWriter(tmp_path / "in", 4).finish()
