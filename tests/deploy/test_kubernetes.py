"""The manifests: held against the schemas of Dask's operator and of Kubernetes, and run.

What the operator would make of them is made by its own code; the commands in there are run as they
stand, outside of containers, against a real S3 server.
"""

from __future__ import annotations

import copy
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import dask.utils
import jsonschema
import kubernetes_validate
import pytest
import yaml
import zarr

from dask_labelqc.cluster import TARGET_DURATION
from dask_labelqc.pipeline import plan_audit
from tests.commands import process
from tests.forks import BIN, run
from tests.object_store.servers import KEY_ID, SECRET, serve_s3
from tests.pipeline.datasets import audit, check, files, write_case
from tests.strategies import make_case

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
CRDS = "operator/deployment/helm/dask-kubernetes-operator/crds"
NAMES = ("setup", "job", "cluster")
KUBERNETES = "1.37"
CASE = make_case(103, (6, 8, 12), 4)


def manifests(*names: str) -> list[dict]:
    return [
        manifest
        for name in names or NAMES
        for manifest in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())
    ]


def one(kind: str, name: str) -> dict:
    (found,) = (it for it in manifests(name) if it["kind"] == kind)
    return found


def closed(schema: Any) -> Any:
    """Return a schema in which an object has no properties but those that are named."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items()}
    open_to_more = (
        "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
    )
    if isinstance(schema.get("properties"), dict) and not open_to_more:
        inner["additionalProperties"] = False
    return inner


def operator_schemas() -> dict[str, dict]:
    """The schema of each kind that Dask's operator knows, from the package that has it."""
    found = {}
    for file in resources("dask_kubernetes").joinpath(CRDS).iterdir():
        for definition in yaml.safe_load_all(file.read_text()):
            (version,) = definition["spec"]["versions"]
            schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
            api = f"{definition['spec']['group']}/{version['name']}"
            schema["properties"] |= {
                "apiVersion": {"const": api},
                "kind": {"type": "string"},
                "metadata": {
                    "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
                    "required": ["name", "namespace"],
                },
            }
            schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
            found[definition["spec"]["names"]["kind"]] = closed(schema)
    return found


SCHEMAS = operator_schemas()


def validate(manifest: dict) -> None:
    if manifest["kind"] in SCHEMAS:
        jsonschema.Draft202012Validator(SCHEMAS[manifest["kind"]]).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def objects(kind: str, name: str) -> dict[str, dict]:
    """Return what the operator makes of a DaskCluster or a DaskJob, by its own functions."""
    from dask_kubernetes.operator.controller import controller

    manifest = one(kind, name)
    called, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    spec = manifest["spec"]
    cluster = spec["cluster"]["spec"] if kind == "DaskJob" else spec
    made = {
        "scheduler": controller.build_scheduler_deployment_spec(
            called, cluster["scheduler"]["spec"], {}, {}
        ),
        "service": controller.build_scheduler_service_spec(
            called, cluster["scheduler"]["service"], {}, {}
        ),
        "worker": controller.build_worker_deployment_spec(
            f"{called}-default", namespace, called, "0123456789", cluster["worker"]["spec"], {}, {}
        ),
    }
    if kind == "DaskJob":
        made["runner"] = controller.build_job_pod_spec(
            called, called, namespace, spec["job"]["spec"], {}, {}
        )
    return made


OBJECTS = {"job": objects("DaskJob", "job"), "cluster": objects("DaskCluster", "cluster")}
EVERY = [
    pytest.param(it, id=f"{name}-{role}")
    for name, made in OBJECTS.items()
    for role, it in made.items()
]


def pod_of(it: dict) -> dict:
    pod: dict = it["spec"] if it["kind"] == "Pod" else it["spec"]["template"]["spec"]
    return pod


PODS = [p for p in EVERY if p.values[0]["kind"] != "Service"]


# Schemas


@pytest.mark.parametrize("manifest", manifests(), ids=lambda it: f"{it['kind']}")
def test_every_manifest_fits_its_schema(manifest: dict) -> None:
    validate(manifest)


@pytest.mark.parametrize("it", EVERY)
def test_what_the_operator_makes_fits_the_schemas_of_kubernetes(it: dict) -> None:
    validate(it)


def test_a_secret_as_the_page_makes_it_fits() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    validate(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "object-store", "namespace": "labelqc"},
            "stringData": keys,
        }
    )


CLUSTER = ("spec", "cluster", "spec")
WORKER = (*CLUSTER, "worker", "spec")
CONTAINER = (*WORKER, "containers", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "clusters"), {}),
        ((*CLUSTER, "workers"), {}),
        ((*CLUSTER, "worker", "replica"), 3),
        ((*CLUSTER, "worker", "replicas"), "three"),
        ((*WORKER, "toleration"), []),
        ((*WORKER, "terminationGracePeriodSeconds"), "20s"),
        ((*CONTAINER, "argument"), ["worker"]),
        ((*CONTAINER, "args"), "worker"),
        ((*CONTAINER, "envFrom", 0, "secretref"), {"name": "object-store"}),
        ((*CONTAINER, "resources", "limit"), {"memory": "2Gi"}),
        ((*CONTAINER, "securityContext", "runAsNotRoot"), True),
        (("spec", "job", "spec", "restartpolicy"), "OnFailure"),
        (("apiVersion",), "kubernetes.dask.org/v0"),
    ],
    ids=str,
)
def test_the_schema_sees_what_it_should(path: tuple, value: object) -> None:
    manifest = one("DaskJob", "job")
    place: Any = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(manifest)


@pytest.mark.parametrize("it", PODS)
def test_kubernetes_schemas_see_what_they_should(it: dict) -> None:
    for name, value in (("toleration", []), ("terminationGracePeriodSeconds", "20s")):
        wrong = copy.deepcopy(it)
        pod_of(wrong)[name] = value
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(wrong)


# What the schemas do not say


def test_all_of_it_is_in_one_namespace_and_refers_to_what_there_is() -> None:
    setup = {it["kind"]: it["metadata"] for it in manifests("setup")}
    for manifest in manifests():
        assert manifest["metadata"].get("namespace", "labelqc") == setup["Namespace"]["name"]
    for made in OBJECTS.values():
        for it in (made["scheduler"], made["worker"]):
            assert pod_of(it)["serviceAccountName"] == setup["ServiceAccount"]["name"]
    for name in ("job", "cluster"):
        scaler = one("DaskAutoscaler", name)
        (scaled,) = (it for it in manifests(name) if it["kind"] != "DaskAutoscaler")
        assert scaler["spec"]["cluster"] == scaled["metadata"]["name"]
        labels = OBJECTS[name]["scheduler"]["spec"]["template"]["metadata"]["labels"]
        selector = OBJECTS[name]["service"]["spec"]["selector"]
        assert selector.items() <= labels.items()


def test_keys_come_by_reference_to_those_who_read_and_to_nobody_else() -> None:
    for name, made in OBJECTS.items():
        for role in made.keys() - {"service"}:
            (container,) = pod_of(made[role])["containers"]
            references = [
                source["secretRef"]["name"]
                for source in container.get("envFrom", [])
                if "secretRef" in source
            ]
            assert references == ([] if role == "scheduler" else ["object-store"]), (name, role)
    text = "".join((FOLDER / f"{name}.yaml").read_text() for name in NAMES)
    assert not re.search(r"SECRET|KEY_ID|TOKEN|password", text)
    assert not any(it["kind"] == "Secret" for it in manifests())


@pytest.mark.parametrize("it", PODS)
def test_pods_are_restricted(it: dict) -> None:
    """As the namespace enforces it, and more: nothing is written but to /tmp."""
    pod = pod_of(it)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    for kind in ("requests", "limits"):
        assert "memory" in container["resources"][kind]
    assert "cpu" in container["resources"]["requests"]


def test_only_workers_are_put_where_machines_are_taken_away() -> None:
    for made in OBJECTS.values():
        assert "tolerations" not in pod_of(made["scheduler"])
        assert {it["key"] for it in pod_of(made["worker"])["tolerations"]} >= {
            "cloud.google.com/gke-spot",
            "kubernetes.azure.com/scalesetpriority",
        }
    runner = pod_of(OBJECTS["job"]["runner"])
    assert "tolerations" not in runner
    assert runner["restartPolicy"] == "OnFailure"
    assert "--resume" in runner["containers"][0]["args"]


def test_both_clusters_are_alike() -> None:
    for role in ("scheduler", "worker"):
        pods = [copy.deepcopy(pod_of(made[role])) for made in OBJECTS.values()]
        for pod in pods:  # but for the names that the operator gives
            del pod["containers"][0].get("env", [])[:]
        assert pods[0] == pods[1]


def test_the_scheduler_asks_for_workers_as_everywhere() -> None:
    (container,) = pod_of(OBJECTS["job"]["scheduler"])["containers"]
    settings = {it["name"]: it["value"] for it in container["env"]}
    assert settings["DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION"] == TARGET_DURATION


def test_workers_have_the_memory_that_the_formula_asks_for(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "data.zarr")
    for name, shape, dtype in (
        ("labels", (2000, 512, 512), "u1"),
        ("pred_probs", (2000, 21, 512, 512), "f4"),
    ):
        group.create_array(name, shape=shape, chunks=(1, *shape[1:]), dtype=dtype)
    plan = plan_audit(tmp_path / "data.zarr/labels", tmp_path / "data.zarr/pred_probs")
    (container,) = pod_of(OBJECTS["job"]["worker"])["containers"]
    options = dict(zip(container["args"][1::2], container["args"][2::2], strict=True))
    limit = dask.utils.parse_bytes(options["--memory-limit"])
    assert plan.process_bytes + int(options["--nthreads"]) * plan.worker_bytes <= limit
    of_pod = {kind: it["memory"] for kind, it in container["resources"].items()}
    assert set(of_pod) == {"requests", "limits"}
    assert (
        limit
        < dask.utils.parse_bytes(of_pod["requests"])
        <= dask.utils.parse_bytes(of_pod["limits"])
    )
    assert options["--nthreads"] == container["resources"]["requests"]["cpu"]


# Run


def command_of(it: dict, environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return what a container runs, and its environment, as Kubernetes puts them together."""
    (container,) = pod_of(it)["containers"]
    settings = {} if "envFrom" not in container else dict(environment)
    settings |= {e["name"]: e["value"] for e in container.get("env", [])}
    expanded = [
        re.sub(r"\$\(([^)]+)\)", lambda name: settings[name[1]], argument)
        for argument in container["args"]
    ]
    assert expanded[0] in ("scheduler", "worker", "labelqc")
    return [str(BIN / "dask"), *expanded], settings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The bucket that the manifest names, with a dataset; and what ConfigMap and Secret say."""
    bucket = tmp_path / "served" / "bucket"
    stored = write_case(bucket / "data.zarr", CASE, chunks=(1, 4, 8, 12))
    audit(stored, tmp_path / "threads", group_bytes=10**9)
    (config,) = (it["data"] for it in manifests("setup") if it["kind"] == "ConfigMap")
    with serve_s3(bucket.parent) as server:
        yield (
            bucket,
            config
            | {
                "AWS_ENDPOINT_URL": server.endpoint,
                "DASK_LABELQC__ONE_WRITER": "true",  # the server knows no conditional writes
                "AWS_ACCESS_KEY_ID": KEY_ID,
                "AWS_SECRET_ACCESS_KEY": SECRET,
            },
        )


def wait_for(log: Path, pattern: str, seconds: float = 120) -> str:
    deadline = time.monotonic() + seconds
    while not (found := re.search(pattern, log.read_text() if log.exists() else "")):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found[1]


@pytest.mark.xdist_group("object_store")
def test_the_job_from_store_to_store(
    store: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, environment = store
    for name in [n for n in os.environ if n.startswith(("AWS_", "DASK_"))]:
        monkeypatch.delenv(name)
    with ExitStack() as running:
        command, settings = command_of(OBJECTS["job"]["scheduler"], environment)
        log = tmp_path / "scheduler.log"
        running.enter_context(process(*command, log=log, **settings))
        port = wait_for(log, r"Scheduler at: +tcp://[\d.]+:(\d+)")
        dashboard = wait_for(log, r"dashboard at: +http://[\d.]+:(\d+)")
        with urllib.request.urlopen(f"http://127.0.0.1:{dashboard}/health") as answer:
            assert answer.status == 200  # what the probes ask for
        # The name that the operator gives out is known in Kubernetes only.
        here = {"DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{port}"}
        command, settings = command_of(OBJECTS["job"]["worker"], environment)
        assert settings["DASK_SCHEDULER_ADDRESS"].startswith("tcp://audit-scheduler.labelqc.svc")
        log = tmp_path / "worker.log"
        running.enter_context(process(*command, log=log, **settings | here))
        assert wait_for(log, r"(audit-default-worker-0123456789)")
        command, settings = command_of(OBJECTS["job"]["runner"], environment)
        for _ in range(2):  # a pod that is made again has nothing left to do
            ran = run(*command, **settings | here)
            assert ran.status == 0, ran.err
        assert SECRET not in ran.out + ran.err + log.read_text()
    check(bucket / "audit.zarr", CASE)
    ours, theirs = files(tmp_path / "threads"), files(bucket / "audit.zarr")
    assert {n for n in theirs if ours.get(n) != theirs[n]} <= {"zarr.json"}
