from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client

from dask_labelqc import plan as blocks
from tests.clusters import local_cluster


@pytest.fixture
def smallest_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each storage chunk a block of its own, as if it were large."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two worker processes."""
    with local_cluster(2) as client:
        yield client
