"""The README's Python runs as it stands, in order, on a small dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def small_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write data.zarr to the working directory; return the names that the README takes as given."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 8, 8), np.uint8)
    pred_probs = np.moveaxis(rng.dirichlet(np.ones(3), (4, 8, 8)), -1, 1).astype(np.float32)
    dataset = xr.Dataset(
        {
            "labels": (("image", "y", "x"), labels),
            "pred_probs": (("image", "class", "y", "x"), pred_probs),
        },
        {"image": np.arange(10, 14)},
    )
    monkeypatch.chdir(tmp_path)
    dataset.chunk(image=1).to_zarr("data.zarr", zarr_format=2)
    return {"labels": labels, "pred_probs": pred_probs, "client": None}


# What zarr says when xarray consolidates metadata, as it does by default.
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_the_python_of_the_readme_runs(
    small_dataset: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    names = dict(small_dataset)
    for block in blocks:
        exec(compile(block.replace('"audit.zarr"', "fresh_name()"), "README.md", "exec"), names | {
            "fresh_name": lambda: str(tmp_path / f"audit-{len(list(tmp_path.iterdir()))}.zarr")
        })  # fmt: skip
    written = sorted(tmp_path.glob("audit-*.zarr"))
    assert [int(xr.open_zarr(path).label_issues.sum()) > 0 for path in written] == [True, True]
