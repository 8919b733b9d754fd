"""Predictions that are kept batch by batch, and audited as they would be from arrays."""

from __future__ import annotations

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
from dask_labelqc.pipeline import prediction_writer as module
from tests.pipeline.datasets import files
from tests.ragged import RaggedCase, check_ragged, ragged_case, ragged_cases
from tests.strategies import Case, examples

SHAPES = [(3, 4), (7, 5), (1, 2), (6, 6)]
CASE = ragged_case(SHAPES, dtype="u1")
IDS = CASE.table.ids.tolist()


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


def test_a_part_without_its_head_is_not_there(tmp_path: Path) -> None:
    write_all(tmp_path / "in", CASE, part_bytes=1)
    heads = sorted((tmp_path / "in/parts").glob("*.json"))
    heads[1].unlink()
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
        writer.write("ab", framework(labels), logits=framework(logits))
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
    with pytest.raises(OutputError, match="was begun with num_classes=4, now it is 5"):
        PredictionWriter(tmp_path / "in", 5)
    with pytest.raises(OutputError, match="was begun with dtype='uint8', now it is 'uint16'"):
        PredictionWriter(tmp_path / "in", 4, "uint16")
    writer.finish()
    with pytest.raises(OutputError, match="is a Zarr group"):
        PredictionWriter(tmp_path / "in", 4)


def test_arguments_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype: got 'int8', it must be one of uint8, uint16"):
        PredictionWriter(tmp_path / "in", 4, "int8")
    with pytest.raises(InputError, match="num_classes: got 1, it must be 2 or more"):
        PredictionWriter(tmp_path / "in", 1)
    with pytest.raises(InputError, match="images: got none"):
        PredictionWriter(tmp_path / "in", 4).finish()
