from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from dask_labelqc import plan as blocks
from tests.clusters import local_cluster
from tests.object_store.servers import KEY_ID, SECRET, Server, serve_s3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process for all of them, and so one server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("object_store"))


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """Return a folder for what a server is to serve."""
    folder = tmp_path / "served" / "bucket"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def s3(bucket: Path) -> Iterator[Server]:
    """Serve the bucket, once there is something in it."""
    with serve_s3(bucket.parent) as server:
        yield server


@pytest.fixture(scope="session")
def _environment() -> Iterator[None]:
    """The key as a user has it, and as the workers of a cluster inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield


@pytest.fixture
def keys(_environment: None) -> None:
    """Keys in the environment."""


@pytest.fixture(scope="session")
def client(_environment: None) -> Iterator[Client]:
    """Two worker processes that have the keys in their environment."""
    with local_cluster(2) as client:
        yield client


@pytest.fixture
def smallest_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each storage chunk a block of its own, as if it were large."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
