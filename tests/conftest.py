"""How many examples properties have, in which order tests run, and what comes before them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.compiling import compile_once
from tests.strategies import USUAL_EXAMPLES

# The first call of a kernel loads compiled code from disk, so no deadline.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=USUAL_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
usual = settings.get_profile("default")
settings.register_profile("ci", usual, derandomize=True)
settings.register_profile("nightly", usual, max_examples=20 * USUAL_EXAMPLES, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

LONGEST = (
    "test_typing.py",
    "docs/test_pages.py",
    "pipeline/test_kill.py",
    "pipeline/test_one_writer.py",
    "pipeline/test_faults.py",
    "pipeline/test_workers.py",
    "test_watching.py",
    "test_cli.py",
    "test_notebooks.py",
    "kernels/test_compiled.py",
    "demo/test_run.py",
    "deploy/test_kubernetes.py",
    "test_signals.py",
    "test_cluster.py",
    "pipeline/test_on_cluster.py",
    "pipeline/test_fit.py",
    "test_progress.py",
)
"""What starts many processes comes first: what comes last is not to be waited for long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: of the tests that run, some wait."""
    return (os.cpu_count() or 1) * 3 // 2


@cache
def kernels_folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each of the processes that share the tests where they share the compiling."""
    node.workerinput["kernels"] = kernels_folder().name


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile before tests are imported: some modules compute what they expect."""
    shared = getattr(session.config, "workerinput", {}).get("kernels")
    if shared:
        compile_once(Path(shared))
