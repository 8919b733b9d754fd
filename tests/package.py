"""The source of the package: its modules, and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import dask_labelqc

PACKAGE = Path(dask_labelqc.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Each import anywhere in a module: the module, and the name taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


def imports_of(path: Path) -> list[tuple[str, str | None]]:
    return list(imported(ast.parse(path.read_text())))


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()
