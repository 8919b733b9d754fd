"""Kernels are kept on disk where that can be written, and compiled by each process elsewhere."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

import dask_labelqc
from dask_labelqc.kernels import fixed_point
from dask_labelqc.kernels.compiled import when_compiling
from tests.package import MODULES, imports_of, named

PACKAGE = Path(dask_labelqc.__file__).parent
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1

SCRIPT = """
import os
import sys
import numpy as np
import dask_labelqc
import dask_labelqc.demo.raster
from dask_labelqc.kernels.compiled import when_compiling
from dask_labelqc.segmentation.filter import find_label_issues

for place in sys.argv[1:]:
    assert not os.access(place, os.W_OK), place
assert os.path.dirname(dask_labelqc.__file__) == sys.argv[1]
certain = np.array([0.9, 0.9, 0.1, 0.9])
pred_probs = np.stack([certain, 1 - certain])[None, :, None, :]
with when_compiling(lambda: print("compiling")):
    print(find_label_issues(np.array([[[0, 0, 1, 1]]]), pred_probs, verbose=False).tolist())
"""


def obey_permissions() -> None:
    """Let root be refused what the permissions refuse; nobody else is above them."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def run(script: str, package: Path, home: Path, **environment: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(package), str(home)],
        env=kept | {"HOME": str(home), "PYTHONPATH": str(package.parent)} | environment,
        preexec_fn=obey_permissions,
        cwd=package.parent,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package without anything compiled."""
    place = tmp_path / "site" / PACKAGE.name
    shutil.copytree(PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.mark.parametrize("numba_cache", [None, "folder"])
def test_it_works_where_nothing_can_be_written(
    copy: Path, tmp_path: Path, numba_cache: str | None
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folders = [home, *(path for path in (copy, *copy.rglob("*")) if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    more = {} if numba_cache is None else {"NUMBA_CACHE_DIR": str(home / numba_cache)}
    try:
        ran = run(SCRIPT, copy, home, **more)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "compiling\n[[[False, False, False, True]]]\n"
    assert not list(home.iterdir())


def test_what_is_compiled_is_kept_for_the_next_process(copy: Path, tmp_path: Path) -> None:
    script = SCRIPT.replace("assert not os.access", "assert os.access")
    first, second = run(script, copy, tmp_path), run(script, copy, tmp_path)
    assert (first.stderr, second.stderr) == ("", "")
    assert first.stdout.splitlines() == ["compiling", *second.stdout.splitlines()]


def test_only_compiling_is_told_and_once() -> None:
    def plus(x: Any) -> Any:
        return x + 1

    def minus(x: Any) -> Any:
        return x - 1

    plus.__module__ = fixed_point.__name__
    ours, other = numba.njit(plus), numba.njit(minus)  # nothing is kept for the next run
    told: list[str] = []
    with when_compiling(lambda: told.append("compiling")):
        assert other(1) == 0
        assert told == []
        assert ours(1) == 2
        assert ours(1.5) == 2.5
        assert ours(1) == 2
    assert told == ["compiling"]
    assert ours(1 + 1j) == 2 + 1j
    assert told == ["compiling"]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_one_place_decides_how_kernels_are_compiled(path: Path) -> None:
    if path.name != "compiled.py":
        assert not [module for module, _ in imports_of(path) if module.split(".")[0] == "numba"]
