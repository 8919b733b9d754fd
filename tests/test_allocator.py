"""Freed memory is kept, unless somebody says otherwise."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest

from dask_labelqc.allocator import keep_freed_memory

COUNT_FAULTS = """
import json, resource
from dask_labelqc.allocator import keep_freed_memory

size = range(20_000_000)  # not a constant, which would be made once

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        b"x" * len(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(json.dumps([keep_freed_memory(), faults()]))
"""
PAGES = 20 * 20_000_000 // os.sysconf("SC_PAGESIZE")
"""Of all that is taken and freed."""
IS_GLIBC = "CS_GNU_LIBC_VERSION" in os.confstr_names


def run(**environment: str) -> tuple[bool, int]:
    """Return whether memory is kept in a worker as Dask starts it, and its page faults."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS],
        env=os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"} | environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    kept, faults = json.loads(done.stdout)
    return kept, faults


def test_a_worker_of_dask_keeps_what_it_frees() -> None:
    kept, faults = run()
    assert kept == IS_GLIBC
    assert faults < PAGES / 10 or not IS_GLIBC


@pytest.mark.parametrize(
    "environment",
    [
        {"DASK_LABELQC__KEEP_FREED_MEMORY": "false"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_MAX_": "65536"},
    ],
    ids=str,
)
def test_it_can_be_switched_off(environment: dict[str, str]) -> None:
    kept, faults = run(**environment)
    assert not kept
    assert faults > PAGES / 2 or not IS_GLIBC


@pytest.fixture(autouse=True)
def forgotten() -> None:
    keep_freed_memory.cache_clear()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()


def test_a_name_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str:
        raise ValueError(f"unrecognized configuration name {name}")  # as on macOS

    monkeypatch.setattr(os, "confstr", confstr)
    assert not keep_freed_memory()
