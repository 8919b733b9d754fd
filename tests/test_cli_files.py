"""The commands for files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from dask_labelqc.cli import labelqc
from dask_labelqc.pipeline import open_audit
from tests.files import written
from tests.files.written import COLORS, make
from tests.pipeline.datasets import files

QUIET = ("--workers=0", "--quiet")
LABELS, PROBS = make()


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(labelqc, [str(a) for a in arguments])


def shown(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def audit(output: Path, labels: Any, pred_probs: Any, *options: Any) -> Result:
    named = ("--labels", labels, "--pred-probs", pred_probs)
    return invoke("audit-files", output, *named, *QUIET, *options)


def test_audit_and_resume(tmp_path: Path) -> None:
    labels = written.pictures(tmp_path / "masks", LABELS)
    probs = written.archives(tmp_path / "probs", PROBS)
    result = audit(tmp_path / "out", f"{labels}/{{id}}.png", f"{probs}/*.npz")
    text = shown(result)
    assert "images 3 pixels 143" in text
    assert "worst images b-1 (0." in text
    assert open_audit(tmp_path / "out").ids.tolist() == ["a", "b-1", "c"]
    before = files(tmp_path / "out")
    refused = audit(tmp_path / "out", labels, probs)
    assert "exists already (complete); --resume finishes it" in refused.stderr
    assert audit(tmp_path / "out", labels, probs, "--resume").exit_code == 0
    assert files(tmp_path / "out") == before


def test_options_of_reading(tmp_path: Path) -> None:
    labels = written.colored(tmp_path / "masks", LABELS)
    last = {id: np.moveaxis(p, 0, -1) for id, p in PROBS.items()}
    probs = written.arrays(tmp_path / "probs", last)
    (tmp_path / "colors.json").write_text(json.dumps(COLORS))
    result = audit(tmp_path / "out", labels, probs, "--class-colors", tmp_path / "colors.json")
    assert "; --class-axis=-1" in result.stderr or "--class-axis -1 says" in result.stderr
    options = ("--class-colors", tmp_path / "colors.json", "--class-axis=-1")
    assert "pixels 143" in shown(audit(tmp_path / "out", labels, probs, *options, "--overwrite"))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    labels = written.pictures(tmp_path / "masks", LABELS)
    probs = written.arrays(tmp_path / "probs", {id: PROBS[id] for id in ("a", "c")})
    (tmp_path / "probs/c.npy").write_bytes(b"damaged")
    result = audit(tmp_path / "out", labels, probs, "--keep-going")
    assert result.exit_code == 3
    assert "Warning: left out: 1 of labels without pred_probs, b-1" in result.stderr
    assert "probs/c.npy cannot be read" in " ".join(result.output.split())


def test_info(tmp_path: Path) -> None:
    labels = written.pictures(tmp_path / "masks", LABELS)
    probs = written.arrays(tmp_path / "probs", PROBS)
    text = shown(invoke("info", labels, f"{probs}/*.npy"))
    assert "labels 3 images of 3 sizes, 5 x 7 to 8 x 9" in text
    assert "values of labels 0, 1, 2, in 3 images" in text
    assert "images 3 of 5 x 7 to 8 x 9 pixels pixels 143 classes 3" in text
    assert "groups" not in shown(invoke("info", f"{labels}/*.png"))


def test_one_line_errors(tmp_path: Path) -> None:
    labels = written.pictures(tmp_path / "masks", LABELS)
    result = audit(tmp_path / "out", labels, tmp_path / "none")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("Error: --pred-probs: '")
    probs = written.arrays(tmp_path / "probs", {id: p[:, :4, :4] for id, p in PROBS.items()})
    result = audit(tmp_path / "out", labels, probs)
    assert "a.npy has 3 classes of 4 x 4 pixels, its labels have 8 x 9" in result.stderr
