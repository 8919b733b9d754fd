"""The image: its Dockerfile is linted, and followed step by step in a bare Debian.

`make docker` runs what takes minutes, root, and the network.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.commands import process
from tests.forks import BIN
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.strategies import make_case

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"
SCRIPT = FOLDER / "without_docker.py"
CASE = make_case(102, (6, 4, 6), 3)
USER = 10001


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTED = load(SCRIPT)
STEPS = list(SCRIPTED.instructions((FOLDER / "Dockerfile").read_text()))


def lint(file: Path) -> subprocess.CompletedProcess:
    linter = shutil.which("hadolint", path=f"{BIN}:{os.environ['PATH']}")
    assert linter is not None
    return subprocess.run([linter, file], capture_output=True, text=True)


@pytest.mark.parametrize("folder", ["docker", "jupyterhub"])
def test_every_dockerfile_is_linted(folder: str) -> None:
    done = lint(ROOT / "deploy" / folder / "Dockerfile")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_linter_sees_what_it_should(tmp_path: Path) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    file = tmp_path / "Dockerfile"
    file.write_text(text.replace("python:3.11-slim-bookworm", "python").replace("10001:10001", "0"))
    said = lint(file).stdout
    assert "DL3006" in said  # no version of the base
    file.write_text(text.replace("apt-get install --yes", "apt-get install"))
    assert "DL3014" in lint(file).stdout


def test_the_last_user_is_a_number_that_is_not_root() -> None:
    users = [rest for name, rest in STEPS if name == "USER"]
    assert users == [f"{USER}:{USER}"]


def test_the_builder_gets_what_is_copied_and_little_more() -> None:
    copied = {
        source
        for name, rest in STEPS
        if name == "COPY" and "--from" not in rest
        for source in re.sub(r"--\S+", "", rest).split()[:-1]
    }
    assert {"constraints.txt", "dask_labelqc"} < copied
    assert not [path for path in copied if SCRIPTED.ignored(path)]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    sent = {path for path in tracked.split() if not SCRIPTED.ignored(path)}
    extra = {path for path in sent if not path.startswith("dask_labelqc/")} - copied
    assert not extra
    assert SCRIPTED.ignored("dask_labelqc/__pycache__")


def test_the_version_that_is_said() -> None:
    named = {
        (path.name, found)
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix in {"", ".md", ".yaml", ".py", ".sh"}
        for found in re.findall(r"dask-labelqc(?:-notebook)?:([\w.]+)", path.read_text())
    }
    assert {name for name, _ in named} >= {"Dockerfile", "README.md", "job.yaml", "cluster.yaml"}
    assert {found for _, found in named} == {version("dask-labelqc")}


# The image


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, made once: a folder to give to the script."""
    folder = tmp_path_factory.mktemp("image")
    done = run(folder, "true")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that the image's user may write to, with a dataset."""
    folder = tmp_path / "data"
    write_case(folder / "in", CASE)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, USER, USER)
    return folder


def run(image: Path, *arguments: str, data: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SCRIPT, image, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | ({"VOLUMES": f"{data}:/data"} if data else {}),
    )


@pytest.mark.docker
def test_what_it_runs_by_itself(image: Path) -> None:
    assert run(image).stdout.startswith("Usage: dask labelqc")
    said = run(image, "labelqc", "--version").stdout
    assert said.endswith(f"version {version('dask-labelqc')}\n")


@pytest.mark.docker
def test_it_is_not_root_and_writes_to_little(image: Path) -> None:
    assert run(image, "id", "-u").stdout == f"{USER}\n"
    assert run(image, "touch", "/opt/labelqc/it").returncode == 1
    writable = "find / -xdev -type d -writable -not -path '/proc/*' 2>/dev/null"
    assert set(run(image, "sh", "-c", writable).stdout.split()) == {"/tmp", "/dev/shm"}
    assert run(image, "touch", "/tmp/it").returncode == 0


@pytest.mark.docker
def test_everything_is_pinned(image: Path) -> None:
    installed = run(image, "pip", "freeze").stdout.split("\n")
    pinned = set((ROOT / "constraints.txt").read_text().split("\n"))
    assert len(installed) > 30
    assert [line for line in installed if line not in pinned and "dask-labelqc" not in line] == []
    assert any(line.startswith("obstore==") for line in installed)


@pytest.mark.docker
def test_an_error_is_the_status(image: Path) -> None:
    done = run(image, "labelqc", "info", "/data/none")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")


ROLES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "ours": (["scheduler"], ["worker"]),
    "of Dask's operator": (["dask-scheduler"], ["dask-worker"]),
}


@pytest.mark.docker
@pytest.mark.parametrize(("of_scheduler", "of_worker"), ROLES.values(), ids=ROLES)
def test_scheduler_worker_and_audit(
    of_scheduler: Sequence[str],
    of_worker: Sequence[str],
    image: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    script = [sys.executable, SCRIPT, image]
    common = ["--scheduler-file", "/data/scheduler.json", "--dashboard-address", ":0"]
    here = ["--host", "127.0.0.1", "--port", "0"]
    volumes = {"VOLUMES": f"{data}:/data"}
    with ExitStack() as running:
        logs = [tmp_path / "scheduler.log", tmp_path / "worker.log"]
        first = running.enter_context(
            process(*script, *of_scheduler, *here, *common, log=logs[0], **volumes)
        )
        while not (data / "scheduler.json").exists():
            assert first.poll() is None, logs[0].read_text()
            time.sleep(0.1)
        second = running.enter_context(
            process(*script, *of_worker, "--nthreads", "1", *common, log=logs[1], **volumes)
        )
        arguments = ["audit", "/data/in/labels", "/data/in/pred_probs", "/data/out", "--resume"]
        address = json.loads((data / "scheduler.json").read_text())["address"]
        for _ in range(2):  # again, it has nothing to do
            done = run(image, "labelqc", *arguments, "--scheduler", address, data=data)
            assert done.returncode == 0, done.stderr
        first.terminate()  # as a container is stopped
        first.wait(60)
        second.wait(60)  # a worker leaves with its scheduler
    check(data / "out", CASE)
    audit(
        Stored(data / "in" / "labels", data / "in" / "pred_probs"),
        tmp_path / "threads",
        group_bytes=10**9,
    )
    ours, theirs = files(tmp_path / "threads"), files(data / "out")
    assert {n for n in theirs if ours.get(n) != theirs[n]} <= {"zarr.json"}
