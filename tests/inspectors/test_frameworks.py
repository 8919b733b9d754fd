"""Inspectors take predictions of any framework, where these are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dask_labelqc import InputError, SegmentationInspector
from tests.devices.frameworks import FRAMEWORKS, differentiable, interleaved, placed_on
from tests.inspectors.recording import finish, names, same_answers
from tests.pipeline.datasets import audit, write_case
from tests.strategies import make_case

CASE = make_case(50, (4, 5, 6), 5, ignored=(255,), void=0.2)
IDS = names(CASE)
EVERY = {**FRAMEWORKS, "interleaved": interleaved, "differentiable": differentiable}


def stored_run(path: Path) -> Path:
    audit(write_case(path / "in", CASE), path / "stored", ignore_index=255)
    return path / "stored"


def made(output: Path) -> SegmentationInspector:
    return SegmentationInspector(output, 5, ignore_index=255)


@pytest.mark.parametrize("name", EVERY)
def test_probabilities_of_any_framework(name: str, tmp_path: Path) -> None:
    """Labels and ids may be tensors, too; lists hold one for each image."""
    make = EVERY[name]
    labels = FRAMEWORKS.get(name, FRAMEWORKS["torch"])(CASE.labels.astype(np.int32))
    with made(tmp_path / "out") as inspecting:
        probs = make(CASE.pred_probs)
        inspecting.update(IDS[:2], labels[:2, ...], pred_probs=probs[:2, ...])
        lists = [[array[i, ...] for i in (2, 3)] for array in (labels, probs)]
        inspecting.update(IDS[2:], lists[0], pred_probs=lists[1])
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path))


def test_numbers_of_a_tensor_are_ids(tmp_path: Path) -> None:
    with made(tmp_path / "out") as inspecting:
        inspecting.update(
            FRAMEWORKS["torch"](np.arange(4)),
            FRAMEWORKS["torch"](CASE.labels),
            pred_probs=FRAMEWORKS["torch"](CASE.pred_probs),
        )
        assert inspecting.missing(range(5)) == ["4"]


def test_what_is_wrong_is_told_of_tensors_too(tmp_path: Path) -> None:
    probs = CASE.pred_probs.copy()
    place = tuple(int(i) for i in np.argwhere(CASE.labels[1] != 255)[0])
    probs[(1, 2, *place)] = np.nan
    with (
        made(tmp_path / "out") as inspecting,
        pytest.raises(InputError, match="pred_probs: class 2 is nan at image 'tile_0001'"),
    ):
        inspecting.update(IDS, CASE.labels, pred_probs=FRAMEWORKS["torch"](probs))


@pytest.mark.cuda
def test_on_a_gpu(tmp_path: Path) -> None:
    """What leaves it is what the host makes of the same probabilities."""
    probs = placed_on("cuda")(CASE.pred_probs)
    labels = placed_on("cuda")(CASE.labels)
    with made(tmp_path / "out") as inspecting:
        inspecting.update(IDS, labels, pred_probs=probs)
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path))
