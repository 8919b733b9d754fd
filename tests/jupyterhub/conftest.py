from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.jupyterhub.hub import Hub, running_hub
from tests.object_store.servers import KEY_ID, SECRET, Server, serve_s3


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server with an empty bucket, the one of the notebook."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "labelqc").mkdir()
    with serve_s3(folder) as server:
        yield server


@pytest.fixture(scope="session")
def store_settings(object_store: Server) -> dict[str, str]:
    """The environment by which clients find the object store."""
    return {
        "AWS_ENDPOINT_URL": object_store.endpoint,
        "DASK_LABELQC__ONE_WRITER": "true",  # the server knows no conditional writes
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


@pytest.fixture(scope="session")
def hub(store_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with running_hub(folder, store_settings | {"LABELQC_CORES": "2"}) as hub:
        yield hub
