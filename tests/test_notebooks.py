"""The notebooks are stored without output, run from top to bottom, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.forked_kernels import forked_kernels

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = ["01-quickstart", "04-audit-while-predicting", "classification", "detection"]
WIDGET = "application/vnd.jupyter.widget-"
WITH_SERVERS = ["02-object-store-gateway", "03-slurm"]
"""Run where their servers are: in tests/jupyterhub and tests/slurm."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(WITH_SERVERS + NOTEBOOKS)


@pytest.mark.parametrize("name", WITH_SERVERS + NOTEBOOKS)
def test_is_stored_without_output(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[0].source.startswith("# ")
    for position, cell in enumerate(notebook.cells, start=1):
        assert cell.id == f"{name}-{position:02d}"
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == [], f"{cell.id}: clear the outputs before you save"
            assert cell.execution_count is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs_without_a_warning_and_draws(name: str, tmp_path: Path) -> None:
    notebook = read(name)
    resources = {"metadata": {"path": str(tmp_path)}}
    with forked_kernels():
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Warning" not in said, said
    shown = [output for output in outputs if output.output_type == "display_data"]
    widgets = [output for output in shown if WIDGET + "view+json" in output.data]
    figures = [output for output in shown if output not in widgets]
    assert len(figures) >= 3
    assert all("image/png" in output.data for output in figures), "a figure that is not drawn"
    assert len(widgets) == (name == "01-quickstart")
    assert [bar["value"] for bar in bars(notebook)] == [bar["max"] for bar in bars(notebook)]
    assert bool(bars(notebook)) == bool(widgets)
    assert list(tmp_path.iterdir()) == []


def bars(notebook: Any) -> Any:
    """Return what the progress bars in the notebook show at the end."""
    widgets = notebook.metadata.get("widgets", {}).get(WIDGET + "state+json", {"state": {}})
    models = widgets["state"].values()
    return [model["state"] for model in models if model["model_name"] == "IntProgressModel"]
