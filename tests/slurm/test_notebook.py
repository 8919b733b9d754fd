"""The notebook for SLURM, run from top to bottom with the settings that are deployed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.slurm.daemons import Slurm, wait_until

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]


def test_the_notebook(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CONFIG", str(ROOT / "deploy" / "slurm" / "jobqueue.yaml"))
    notebook = nbformat.read(ROOT / "notebooks" / "03-slurm.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "arning" not in said, said
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    assert sum("image/png" in data for data in shown) >= 4
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"].state.values()
    bars = [it.state for it in widgets if it.model_name == "IntProgressModel"]
    assert len(bars) >= 3
    assert all(bar.value == bar.max for bar in bars)
    assert list(tmp_path.glob("labelqc-logs/labelqc-worker-*.err"))
    assert {path.name for path in tmp_path.iterdir()} == {"labelqc-slurm", "labelqc-logs"}
    wait_until(lambda: slurm.jobs() == [], "no jobs after the end", 60)
