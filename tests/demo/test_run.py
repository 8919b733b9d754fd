from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from dask_labelqc.demo import run_demo
from dask_labelqc.demo.dataset import DatasetSpec, is_complete
from dask_labelqc.errors import InputError
from tests.clusters import forking


@pytest.fixture(autouse=True)
def forked_workers() -> Iterator[None]:
    with forking():
        yield


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_makes_audits_and_reports(
    tmp_path: Path, console: Console, perfect_audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wiring alone: in place of the audit, an answer that is ready."""
    calls = []

    def audit_zarr(labels: str, pred_probs: str, output: str, **options: object) -> object:
        calls.append((labels, pred_probs, options["overwrite"]))
        shutil.copytree(perfect_audit, output)
        return SimpleNamespace(summary=lambda: {"peak of a worker": "7 MiB"})

    pipeline = ModuleType("dask_labelqc.pipeline")
    pipeline.audit_zarr = audit_zarr  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_labelqc.pipeline", pipeline)
    result = run_demo(tmp_path, images=6, size=64, workers=1, worst=2, console=console)
    assert is_complete(result.dataset, DatasetSpec(images=6, size=64))
    assert calls == [(str(result.dataset / "labels"), str(result.dataset / "pred_probs"), True)]
    assert result.sheet.read_bytes().startswith(b"\x89PNG")
    assert len(result.evaluation.worst) == 2
    for expected in (
        "6 images of 64 x 64, 12 classes",
        "1 x 1.00 GB",
        "peak of a worker   7 MiB",
        "confident threshold",
        "Most confused classes",
        "Worst images",
        "precision of the mask",
        "bad images at the front",
        str(result.sheet),
    ):
        assert expected in printed(console)


def test_the_real_audit_adds_up(tmp_path: Path, console: Console) -> None:
    first = run_demo(tmp_path, images=8, size=64, workers=2, worst=2, console=console)
    assert f"made {first.dataset}" in printed(console)
    found = first.evaluation
    assert sum(row.pixels for row in found.classes) == 8 * 64 * 64
    assert sum(row.issues for row in found.classes) == found.mask.flagged > 0
    assert found.ranking.bad == 1
    again = run_demo(tmp_path, images=8, size=64, workers=1, worst=2, console=console)
    assert f"found {first.dataset}" in printed(console)
    assert again.evaluation == found


@pytest.mark.parametrize("name", ["workers", "worst"])
def test_nothing_starts_with_a_bad_parameter(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} must be 1 or more, got 0"):
        run_demo(tmp_path, **{name: 0})
    assert not list(tmp_path.iterdir())


def test_importing_the_demo_is_cheap() -> None:
    heavy = "matplotlib", "dask_labelqc.demo.raster", "dask_labelqc.demo.sheet"
    code = f"import sys, dask_labelqc.demo; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
