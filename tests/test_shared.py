"""What tests share lies in modules of its own: none imports another test, or a conftest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.package import imports_of

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(TESTS).as_posix()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_test_imports_another(path: Path) -> None:
    for module, name in imports_of(path):
        room, *parts = f"{module}.{name}".split(".")
        if room == "tests":
            shared = not any(p.startswith("test_") or p == "conftest" for p in parts)
            assert shared, f"{module}: {name}"


def test_the_check_sees_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "test_a.py"
    file.write_text("from tests.pipeline.test_b import c\n")
    with pytest.raises(AssertionError, match=r"tests\.pipeline\.test_b"):
        test_no_test_imports_another(file)
