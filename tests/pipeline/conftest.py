from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from dask_labelqc.graph import blocks


@pytest.fixture
def smallest_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each storage chunk a block of its own, as if it were large."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two worker processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        # Tests that follow in this process are not to run on it.
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
