"""The job over chunks that are not in the store; tests/segmentation/test_gaps.py has the rest."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from distributed import Client

from dask_labelqc.cli import labelqc
from dask_labelqc.errors import LabelQCWarning
from tests.pipeline.datasets import Stored, audit, check, files, write, write_case
from tests.pipeline.progress import Stop
from tests.strategies import Case, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")

LABELS = (
    "labels: 2 of 3 chunks are not in the store and read as class 0, in images 0 to 3; if they "
    "are not meant to, write them, or ignore_index=0 leaves that class out"
)
CLASSES = (
    "pred_probs: chunks of class 2 are not in the store and read as the fill value, in images 1, 4"
    "; check that the predictions are complete"
)


def with_gaps(path: Path) -> tuple[Stored, Case]:
    """Two of three chunks of labels and two of a class are gone: all of it zeros."""
    case = make_case(90, (6, 6, 8), 3)
    labels, probs = case.labels.copy(), case.pred_probs.copy()
    labels[:4] = 0
    probs[[1, 4], 2] = 0
    probs /= probs.sum(1, keepdims=True)
    case = Case(labels, probs)
    stored = write_case(path, case, chunks=(1, 1, 6, 8), label_chunks=(2, 6, 8))
    for name in ("labels/c/0/0/0", "labels/c/1/0/0"):
        (path / name).unlink()
    for image in (1, 4):
        (path / f"pred_probs/c/{image}/2/0/0").unlink()
    return stored, case


def warned(stored: Stored, output: Path, **arguments: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LabelQCWarning)
        audit(stored, output, **arguments)
    return [str(w.message) for w in caught if w.category is LabelQCWarning]


def test_one_warning_of_each_kind(tmp_path: Path) -> None:
    stored, case = with_gaps(tmp_path / "in")
    assert warned(stored, tmp_path / "out") == [LABELS, CLASSES]
    check(tmp_path / "out", case)
    assert warned(stored, tmp_path / "ignored", ignore_index=0) == [
        CLASSES.replace("images 1, 4", "image 4")  # all of image 1 is ignored
    ]


def test_on_a_cluster(client: Client, tmp_path: Path) -> None:
    stored, case = with_gaps(tmp_path / "in")
    assert warned(stored, tmp_path / "out", client=client) == [LABELS, CLASSES]
    check(tmp_path / "out", case)


@pytest.mark.parametrize(("stage", "count"), [("summarize", 3), ("paint", 1)])
def test_a_restart_says_the_same(stage: str, count: int, tmp_path: Path) -> None:
    stored, case = with_gaps(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        warned(stored, tmp_path / "out", progress=Stop(stage, count), n_jobs=1)
    assert warned(stored, tmp_path / "out", resume=True) == [LABELS, CLASSES]
    check(tmp_path / "out", case)
    assert warned(stored, tmp_path / "whole") == [LABELS, CLASSES]
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_on_the_command_line(tmp_path: Path) -> None:
    stored, _ = with_gaps(tmp_path / "in")
    arguments = ["audit", *map(str, stored), str(tmp_path / "out"), "--workers=0", "--quiet"]
    result = CliRunner().invoke(labelqc, arguments)
    assert result.exit_code == 0
    labels = LABELS.replace("ignore_index=0", "--ignore-index 0")
    assert result.stderr == f"Warning: {labels}\nWarning: {CLASSES}\n"


def test_keep_going_past_logits_that_are_not_there(tmp_path: Path) -> None:
    case = make_case(91, (6, 4, 6), 3)
    logits = np.log(case.pred_probs + np.float32(1e-3))
    stored = write(tmp_path / "in", case.labels, logits)
    (stored.pred_probs / "c/4/0/0/0").unlink()
    report = audit(stored, tmp_path / "out", from_logits=True, keep_going=True)
    (failure,) = report.failures
    assert failure.images == (4, 5)
    assert "'c/4/0/0/0' is not in the store" in failure.cause
    assert xr.open_zarr(tmp_path / "out").attrs["not_audited"] == [4]
