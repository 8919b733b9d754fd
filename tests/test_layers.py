"""Imports point down: a module imports from lower ranks or its own room, and nothing private."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.package import MODULES, PACKAGE, imported, imports_of, named

NAME = PACKAGE.name
RANKS = {
    "errors": 0,
    "terminal": 0,
    "allocator": 1,
    "typing": 0,
    "arguments": 1,
    "kernels": 1,
    "progress": 1,
    "logs": 1,
    "limits": 1,
    "waiting": 1,
    "extent": 1,
    "colors": 1,
    "figures": 1,
    "devices": 2,
    "graph": 2,
    "images": 2,
    "plan": 2,
    "storage": 2,
    "engine": 3,
    "method": 4,
    "segmentation": 5,
    "object_detection": 5,
    "classification": 5,
    "experimental": 6,
    "pipeline": 6,
    "inspectors": 7,
    "demo": 7,
    "cluster": 7,
    "performance": 7,
    "signals": 7,
    "cli": 8,
    "__main__": 9,
}
FORBIDDEN = {
    "errors": {"dask", "distributed", "zarr", "numba"},
    "terminal": {"dask", "distributed", "zarr", "numba"},
    "typing": {"dask", "distributed", "zarr", "numba"},
    "kernels": {"dask", "distributed", "zarr", "xarray", "pandas"},
    "graph": {"zarr", "xarray", "pandas"},
    "engine": {"zarr", "xarray", "pandas"},
    "method": {"zarr", "xarray", "pandas"},
}
CLOSED = {"dask", "distributed", "zarr", "xarray"}
PRIVATE = {"zarr.core"}
"""Said to be private by those who made it, whatever its name is."""


def room_of(module: str) -> str:
    """The first part of a module's name within the package; empty for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def room_of_path(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_module_lies_in_a_room(path: Path) -> None:
    assert room_of_path(path) in RANKS | {"": 9}


@pytest.mark.parametrize("path", [p for p in MODULES if room_of_path(p)], ids=named)
def test_imports_point_down(path: Path) -> None:
    own = room_of_path(path)
    for module, name in imports_of(path):
        if module.split(".")[0] != NAME:
            continue
        room = room_of(module) or str(name)
        assert room == own or RANKS[room] < RANKS[own], f"{own} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_rooms_keep_to_their_libraries(path: Path) -> None:
    used = {module.split(".")[0] for module, _ in imports_of(path)}
    assert not used & FORBIDDEN.get(room_of_path(path), set())


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_private_of_other_libraries(path: Path) -> None:
    for module, name in imports_of(path):
        first, *rest = module.split(".")
        if first in CLOSED:
            assert not any(part.startswith("_") for part in [*rest, name or ""]), module
            taken = f"{module}.{name or ''}."
            assert not any(taken.startswith(f"{private}.") for private in PRIVATE), module


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_private_of_other_rooms(path: Path) -> None:
    for module, name in imports_of(path):
        if module.split(".")[0] == NAME and name is not None:
            assert not name.startswith("_"), f"{module}.{name}"


def test_the_check_sees_what_it_should() -> None:
    tree = ast.parse("def f():\n    from zarr._x import y\nimport dask.array as da")
    assert list(imported(tree)) == [("dask.array", None), ("zarr._x", "y")]
    names = {p.stem for p in MODULES}
    assert not names & {"utils", "helpers", "common"}
