"""A hub and a gateway as deploy/jupyterhub sets them up: who gets in, what runs, what is left."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.jupyterhub.browser import Browser, CellError
from tests.jupyterhub.hub import PASSWORD, Hub, running_hub

pytestmark = pytest.mark.jupyterhub

OPEN_CLUSTER = """
import warnings
from dask_gateway import Gateway

cluster = Gateway().new_cluster(worker_cores=1, worker_memory=0.5)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cluster.scale(100)
client = cluster.get_client()
client.wait_for_workers(2, timeout=60)
caught[0].message.args[0], cluster.dashboard_link
"""


def test_a_wrong_password(hub: Hub) -> None:
    with closing(Browser(hub.url)) as browser, pytest.raises(requests.HTTPError, match="403"):
        browser.log_in("eve", "open the door")


def test_the_gateway_wants_a_token_of_the_hub(hub: Hub) -> None:
    url = f"{hub.url}/services/dask-gateway/api/v1/clusters/"
    assert requests.get(url, timeout=10).status_code == 401
    headers = {"Authorization": "jupyterhub 0123456789abcdef"}
    assert not requests.get(url, headers=headers, timeout=10).ok


def test_more_than_the_machine_has_is_refused(hub: Hub) -> None:
    with closing(Browser(hub.url)) as browser:
        browser.log_in("ada", PASSWORD)
        with browser.kernel(browser.start_server("ada")) as kernel:
            kernel.run("from dask_labelqc.cluster import open_gateway")
            with pytest.raises(CellError, match="worker_cores"):
                kernel.run("open_gateway(2, worker_cores=3).__enter__()")


def test_no_secret_is_kept_and_no_process_is_left(
    store_settings: dict[str, str], tmp_path: Path
) -> None:
    settings = store_settings | {"LABELQC_CORES": "2"}
    with (
        running_hub(tmp_path / "hub", settings) as hub,
        closing(Browser(hub.url)) as browser,
    ):
        browser.log_in("ada", PASSWORD)
        with browser.kernel(browser.start_server("ada")) as kernel:
            (output,) = kernel.run(OPEN_CLUSTER)
            warning, dashboard = ast.literal_eval(output.data["text/plain"])
            assert "would exceed resource limit of 2 workers" in warning
            assert "static/js/bokeh" in browser.get(dashboard).text
            running = [" ".join(process.cmdline()) for process in hub.descendants()]
            assert sum("dask_worker" in line for line in running) == 2
            assert sum("dask_scheduler" in line for line in running) == 1
            for secret in (PASSWORD, store_settings["AWS_SECRET_ACCESS_KEY"]):
                assert secret not in "\n".join(running)
                assert holding(secret, [hub.log, *hub.folder.rglob("*")]) == []
            assert hub.stop() == []


def holding(secret: str, paths: Iterable[Path]) -> list[Path]:
    """Return the files among `paths` that hold the secret."""
    return [path for path in paths if path.is_file() and secret.encode() in path.read_bytes()]
