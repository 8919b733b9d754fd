"""The reference has every public name: its page lists the modules, `__all__` their names."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dask_labelqc
from dask_labelqc.method.outputs import outputs_table
from docs.pages import ROOT
from tests.pipeline.others import make

LISTED = re.findall(
    r"^   (dask_labelqc[\w.]*)$", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE
)


def value_of(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(import_module(module), attribute)


def public_modules(module: ModuleType) -> list[ModuleType]:
    """Return a module and those that its `__all__` lists, however deep."""
    values = [getattr(module, name) for name in getattr(module, "__all__", ())]
    below = [value for value in values if inspect.ismodule(value)]
    return [module, *(found for each in below for found in public_modules(each))]


def names(module: ModuleType) -> dict[str, Any]:
    values = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {name: value for name, value in values.items() if not inspect.ismodule(value)}


@pytest.mark.parametrize("module", public_modules(dask_labelqc), ids=lambda m: m.__name__)
def test_every_public_name_has_a_page(module: ModuleType) -> None:
    documented = [value_of(name) for name in LISTED]
    documented += [
        each for value in documented if inspect.ismodule(value) for each in names(value).values()
    ]
    missing = [n for n, value in names(module).items() if not any(value is d for d in documented)]
    assert not missing


def test_public_modules_are_found() -> None:
    found = {module.__name__ for module in public_modules(dask_labelqc)}
    assert {"dask_labelqc.object_detection.rank", "dask_labelqc.segmentation"} <= found
    assert "dask_labelqc.cluster" in LISTED


def test_the_outputs_are_those_of_the_table() -> None:
    assert outputs_table() in (ROOT / "docs/reference/outputs.md").read_text()


@pytest.mark.parametrize("kind", ["examples", "boxes"])
def test_the_outputs_of_other_jobs_are_in_their_tables(kind: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/outputs.md").read_text()
    section = page.partition(f"\n## {kind.title()}\n")[2].partition("\n## ")[0]
    rows = [re.split(r" *\| *", row)[1:4] for row in section.splitlines() if row.startswith("| `")]
    listed = {name: (d, t) for names, d, t in rows for name in re.findall("`(.+?)`", names)}
    found = make(kind, tmp_path / "in").audit(tmp_path / "out").open()
    assert listed.keys() == set(found.data_vars)
    for name, (dims, dtype) in listed.items():
        assert found[name].dims == tuple(filter(None, dims.split(", ")))
        assert found[name].dtype.name in dtype or "unsigned" in dtype
