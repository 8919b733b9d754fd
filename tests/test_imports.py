"""What is imported, and when: a command of Dask's that is not ours does not wait for us."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTED = """
import sys
before = {*sys.modules}
STATEMENT
packages = {name.partition('.')[0] for name in {*sys.modules} - before}
print(*sorted(packages - {*sys.stdlib_module_names}))
"""
"""Prints which packages a statement loads, those of Python's library aside."""

ENTRY_POINT = """
from importlib.metadata import entry_points
(ours,) = entry_points(group="dask_cli", name="labelqc")
ours.load()
"""
"""What every ``dask`` command does with each package that adds a command."""

DASK_HELP = """
import dask.cli
from importlib.metadata import entry_points
class Ours:
    entry_points = staticmethod(lambda group: entry_points(group=group, name="labelqc"))
dask.cli.importlib_metadata = Ours
before = {*sys.modules}
sys.argv = ["dask", "--help"]
try:
    dask.cli.run_cli()
except SystemExit as end:
    assert not end.code
"""
"""``dask --help`` where no package but ours adds a command: what it loads, it loads for us."""


def loaded_by(statement: str) -> list[str]:
    """Return the packages that a fresh Python loads for a statement, sorted."""
    code = IMPORTED.replace("STATEMENT", statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_the_package_loads_nothing_else() -> None:
    assert loaded_by("import dask_labelqc") == ["dask_labelqc"]


def test_an_error_is_named_without_loading_anything_else() -> None:
    assert loaded_by("from dask_labelqc import InputError, StoreError") == ["dask_labelqc"]


def test_the_entry_point_loads_click_alone() -> None:
    assert loaded_by(ENTRY_POINT) == ["click", "dask_labelqc"]


def test_help_of_dask_loads_click_alone_for_us() -> None:
    assert loaded_by(DASK_HELP) == ["click", "dask_labelqc"]


@pytest.mark.parametrize("command", ["--help", "audit --help", "info --help", "--version"])
def test_our_own_help_waits_for_nothing_else(command: str) -> None:
    statement = (
        "import dask_labelqc.cli as cli\n"
        f"cli.labelqc({command.split()!r}, prog_name='dask-labelqc', standalone_mode=False)"
    )
    assert loaded_by(statement) == ["click", "dask_labelqc"]


def test_the_check_sees_what_it_should() -> None:
    assert {"numpy", "xarray", "zarr", "numba"} <= {*loaded_by("import dask_labelqc.segmentation")}
