"""The values of the DaskHub chart: settings that it has, one image, one Secret, options that work.

`SETTINGS` are those of the charts jupyterhub 4.4 and dask-gateway 2026.3, which daskhub installs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from traitlets.config import Config

from tests.jupyterhub.hub import CONFIG

VALUES = yaml.safe_load(CONFIG.with_name("values.yaml").read_text())
NUMBER, RESOURCE = (int, float), (int, float, str)

SETTINGS: dict[str, Any] = {
    "jupyterhub.hub.config": dict,  # class by class, whatever the class can be told
    "jupyterhub.hub.extraEnv": dict,
    "jupyterhub.hub.loadRoles": dict,
    "jupyterhub.proxy.https.enabled": bool,
    "jupyterhub.proxy.https.hosts": list,
    "jupyterhub.proxy.https.letsencrypt.contactEmail": str,
    "jupyterhub.singleuser.image.name": str,
    "jupyterhub.singleuser.image.tag": str,
    "jupyterhub.singleuser.defaultUrl": str,
    "jupyterhub.singleuser.cpu.guarantee": NUMBER,
    "jupyterhub.singleuser.cpu.limit": NUMBER,
    "jupyterhub.singleuser.memory.guarantee": RESOURCE,
    "jupyterhub.singleuser.memory.limit": RESOURCE,
    "jupyterhub.singleuser.storage.capacity": str,
    "jupyterhub.singleuser.storage.homeMountPath": str,
    "jupyterhub.singleuser.uid": int,
    "jupyterhub.singleuser.fsGid": int,
    "jupyterhub.singleuser.extraEnv": dict,
    "jupyterhub.singleuser.networkPolicy.egress": list,
    "jupyterhub.cull.enabled": bool,
    "jupyterhub.cull.timeout": int,
    "jupyterhub.cull.every": int,
    "dask-gateway.gateway.auth.jupyterhub.jupyterhubServiceName": str,
    "dask-gateway.gateway.backend.scheduler.cores.request": RESOURCE,
    "dask-gateway.gateway.backend.scheduler.cores.limit": RESOURCE,
    "dask-gateway.gateway.backend.scheduler.memory.request": RESOURCE,
    "dask-gateway.gateway.backend.scheduler.memory.limit": RESOURCE,
    "dask-gateway.gateway.backend.scheduler.extraContainerConfig": dict,
    "dask-gateway.gateway.backend.worker.extraContainerConfig": dict,
    "dask-gateway.gateway.backend.worker.extraPodConfig": dict,
    "dask-gateway.gateway.extraConfig": dict,
}


def settings(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings: mappings are gone into, but for those that the charts know as a whole."""
    if path in SETTINGS or not isinstance(values, dict):
        yield path, values
    else:
        for name, value in values.items():
            yield from settings(value, f"{path}.{name}".lstrip("."))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def at(path: str) -> Any:
    found = VALUES
    for name in path.split("."):
        found = found[name]
    return found


def test_every_setting_is_one_of_the_charts() -> None:
    for path, value in settings(VALUES):
        assert path in SETTINGS, path
        assert isinstance(value, SETTINGS[path]), path


def test_secrets_are_by_reference() -> None:
    pattern = re.compile("secret|token|password|credential", re.IGNORECASE)
    named = [(path, value) for path, value in leaves(VALUES) if pattern.search(path)]
    assert all(re.search("/secret(Key)?Ref/(name|key)$", path) for path, _ in named), named
    stores = [value for path, value in named if path.endswith("/envFrom/secretRef/name")]
    assert stores == ["object-store"] * 3  # notebooks, schedulers, workers


def config_of(code: str, **names: Any) -> Config:
    """Run settings that are Python, as the hub and the gateway do."""
    config = Config()
    exec(code, {"c": config, "get_config": lambda: config, **names})
    return config


def test_roles_are_those_of_the_hub_on_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELQC_HUB_FOLDER", str(tmp_path))
    monkeypatch.setenv("LABELQC_HUB_PASSWORD", "open sesame")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # restored afterwards
    roles = config_of(CONFIG.read_text(), __file__=str(CONFIG)).JupyterHub.load_roles
    assert at("jupyterhub.hub.loadRoles") == {
        role["name"]: {"scopes": role["scopes"]} for role in roles
    }


@pytest.mark.jupyterhub
def test_the_gateway_takes_the_options() -> None:
    from dask_gateway_server.models import User
    from dask_gateway_server.options import Options

    blocks = at("dask-gateway.gateway.extraConfig")
    config = config_of("\n".join(blocks[name] for name in sorted(blocks)))
    options: Options = config.Backend.cluster_options
    asked = options.parse_options({"worker_cores": 2, "worker_memory": 4})
    image = at("jupyterhub.singleuser.image")
    assert options.get_configuration(asked, User("ada")) == {
        "worker_cores": 2,
        "worker_memory": 4 * 2**30,
        "image": f"{image['name']}:{image['tag']}",
    }
    with pytest.raises(ValueError, match="worker_cores"):
        options.get_configuration(options.parse_options({"worker_cores": 17}), User("ada"))
    assert config.KubeClusterConfig.idle_timeout > 0
