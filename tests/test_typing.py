"""A type checker knows what comes out of the public functions, from what goes in."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api

# One after the other: the checker's cache has one writer.
pytestmark = pytest.mark.xdist_group("mypy")
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


def checked(path: Path) -> tuple[str, int]:
    """Return what mypy says of a file with the package's settings, and its exit status."""
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--no-pretty"]
    said, error, status = api.run([*settings, "--cache-dir", str(ROOT / ".mypy_cache"), str(path)])
    assert not error
    return said, status


def test_public_functions_have_the_types_of_what_goes_in() -> None:
    said, status = checked(CASES)
    assert status == 0, said


def test_the_check_sees_a_wrong_type(tmp_path: Path) -> None:
    right, wrong = "find(stored, stored), da.Array)", "find(stored, stored), BoolArray)"
    text = CASES.read_text()
    assert text.count(right) == 1
    path = tmp_path / "wrong.py"
    path.write_text(text.replace(right, wrong))
    said, status = checked(path)
    assert status == 1
    assert "Expression is of type" in said
    assert "Found 1 error in 1 file" in said


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
