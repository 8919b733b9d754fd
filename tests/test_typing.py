"""A type checker knows what comes out of the public functions, from what goes in."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "typing_cases.py"
FACADES = (
    "dask_labelqc",
    "dask_labelqc.segmentation",
    "dask_labelqc.classification",
    "dask_labelqc.object_detection",
    "dask_labelqc.object_detection.filter",
    "dask_labelqc.object_detection.rank",
    "dask_labelqc.object_detection.summary",
    "dask_labelqc.pipeline",
    "dask_labelqc.cluster",
)


def test_public_functions_have_the_types_of_what_goes_in(tmp_path: Path) -> None:
    """All that is asserted holds, and in a copy the one that is wrong is seen.

    Both in one run, as most of it is reading what is imported; and in one test, as the checker's
    cache has one writer.
    """
    right, wrong = "find(stored, stored), da.Array)", "find(stored, stored), BoolArray)"
    text = CASES.read_text()
    assert text.count(right) == 1
    path = tmp_path / "wrong.py"
    path.write_text(text.replace(right, wrong))
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--no-pretty"]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
    said, error, status = api.run([*settings, *cache, str(CASES), str(path)])
    assert (status, error) == (1, "")
    seen, summary = said.splitlines()
    assert seen.startswith(f"{path}:"), said
    assert "Expression is of type" in seen
    assert summary == "Found 1 error in 1 file (checked 2 source files)"


def public_functions(facade: str) -> Iterator[tuple[str, object]]:
    """The functions that a module shows, and the methods of its classes."""
    module = importlib.import_module(facade)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            methods = inspect.getmembers(value, inspect.isfunction)
            ours = value.__module__.startswith("dask_labelqc")
            yield from ((f"{name}.{m}", f) for m, f in methods if ours and not m.startswith("_"))


@pytest.mark.parametrize("facade", FACADES)
def test_nothing_public_returns_just_anything(facade: str) -> None:
    for name, function in public_functions(facade):
        returned = inspect.get_annotations(function).get("return")
        assert returned is not None, name
        assert not re.search(r"\bAny\b", str(returned)), (name, returned)
