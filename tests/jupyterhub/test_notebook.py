"""The notebook of an object store and a Gateway, run in a hub; its audit against a local one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

from dask_labelqc import audit_zarr
from tests.jupyterhub.browser import Browser
from tests.jupyterhub.hub import PASSWORD, ROOT, Hub
from tests.object_store.servers import Server
from tests.pipeline.datasets import files

pytestmark = pytest.mark.jupyterhub

NOTEBOOK = ROOT / "notebooks" / "02-object-store-gateway.ipynb"


class Shown(NamedTuple):
    """What a user sees when the notebook has run."""

    outputs: list[nbformat.NotebookNode]
    widgets: list[dict[str, Any]]


@pytest.fixture(scope="module")
def shown(hub: Hub) -> Shown:
    """Log in, start a server, and run the notebook cell by cell."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    with closing(Browser(hub.url)) as browser:
        browser.log_in("grace", PASSWORD)
        with browser.kernel(browser.start_server("grace")) as kernel:
            code = [cell.source for cell in cells if cell.cell_type == "code"]
            outputs = [output for source in code for output in kernel.run(source)]
            return Shown(outputs, list(kernel.widgets.values()))


def test_the_same_bytes_as_a_local_run(
    shown: Shown,
    object_store: Server,
    store_settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in store_settings.items():
        monkeypatch.setenv(name, value)
    data = "s3://labelqc/streets.zarr"
    audit_zarr(
        f"{data}/labels",
        f"{data}/pred_probs",
        tmp_path / "audit.zarr",
        group_bytes=20_000_000,
        progress=False,
    )
    found = files(object_store.folder / "labelqc" / "audit.zarr")
    assert found == files(tmp_path / "audit.zarr")
    assert any(name.startswith("label_issues/c/") for name in found)


def test_progress_and_pictures_are_inline(shown: Shown) -> None:
    said = [output.text for output in shown.outputs if output.output_type == "stream"]
    assert not [text for text in said if "Warning" in text]
    displayed = [output.data for output in shown.outputs if output.output_type == "display_data"]
    assert sum("image/png" in data for data in displayed) >= 5
    assert sum("application/vnd.jupyter.widget-view+json" in data for data in displayed) == 1
    bars = [widget for widget in shown.widgets if widget.get("_model_name") == "IntProgressModel"]
    assert [bar["description"] for bar in bars] == ["summarize", "count", "select", "paint"]
    assert [bar["value"] for bar in bars] == [bar["max"] for bar in bars]
