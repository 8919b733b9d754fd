"""Everything public says what it is, in numpydoc, and its examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest

import dask_labelqc

MODULES = [
    "dask_labelqc",
    *(m.name for m in pkgutil.walk_packages(dask_labelqc.__path__, "dask_labelqc.")),
]
FACADES = (
    "dask_labelqc",
    "dask_labelqc.files",
    "dask_labelqc.segmentation",
    "dask_labelqc.segmentation.filter",
    "dask_labelqc.segmentation.rank",
    "dask_labelqc.object_detection",
    "dask_labelqc.classification",
    "dask_labelqc.experimental.label_issues_batched",
)


def public(modules: Any) -> list:
    """Functions and classes that the modules list, each once."""
    found = {}
    for name in modules:
        module = importlib.import_module(name)
        for key in getattr(module, "__all__", ()):
            value = getattr(module, key)
            ours = getattr(value, "__module__", "").startswith("dask_labelqc")
            if ours and (inspect.isfunction(value) or inspect.isclass(value)):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return [pytest.param(value, id=name) for name, value in sorted(found.items())]


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "no docstring"
    assert module.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("thing", public(MODULES))
def test_begins_with_one_sentence(thing: Any) -> None:
    text = inspect.getdoc(thing)
    assert text, "no docstring"
    if inspect.isclass(thing):
        assert not text.startswith(f"{thing.__name__}("), "no docstring of its own"
    first, *rest = text.splitlines()
    assert re.search(r"[.:;]$", first), first
    assert not rest or not rest[0], "a blank line follows the first sentence"


@pytest.mark.parametrize("thing", [p for p in public(FACADES) if inspect.isfunction(p.values[0])])
def test_functions_for_users_describe_every_parameter(thing: Any) -> None:
    text = inspect.getdoc(thing)
    assert "Parameters\n----------" in text
    described = {
        name.strip(" *")
        for line in text.split("Parameters\n----------")[1].split("\n---")[0].splitlines()
        if line and not line.startswith(" ")
        for name in line.split(":")[0].split(",")
    }
    missing = {n.strip("*") for n in inspect.signature(thing).parameters} - described
    assert not missing
    assert "Returns\n-------" in text or thing.__annotations__.get("return") in ("None", None)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [
        example
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) > 50
