"""Dask's commands as processes of their own: real schedulers and workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent


@contextmanager
def process(*command: object, log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """Run a command; terminate it at the end, and wait until it is gone."""
    with log.open("w") as output:
        running = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=os.environ | environment,
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def scheduler(folder: Path, *options: str, **environment: str) -> Iterator[Path]:
    """Run a scheduler on this machine; yields the file that it writes its address to."""
    file = folder / "scheduler.json"
    command = [BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", *options]
    common = ["--dashboard-address", ":0", "--scheduler-file", file]
    with process(*command, *common, log=folder / "scheduler.log", **environment):
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, (folder / "scheduler.log").read_text()
            time.sleep(0.05)
        yield file


@contextmanager
def worker(
    file: Path, *options: str, name: str = "worker", python: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen]:
    """Run a worker of the scheduler that wrote the file."""
    command = [python or sys.executable, "-m", "distributed.cli.dask_worker"]
    common = ["--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--name", name]
    log = file.parent / f"{name}.log"
    with process(
        *command, *common, "--dashboard-address", ":0", *options, log=log, **environment
    ) as it:
        yield it


def address_of(file: Path) -> str:
    """Return the address of the scheduler that wrote the file."""
    return str(json.loads(file.read_text())["address"])


def python_without_the_package(folder: Path, version: str | None = None) -> Path:
    """Make an environment with all that is installed here but this package, or another version.

    It has links to what is installed, and so takes no time. Returns its Python.
    """
    venv.create(folder, symlinks=True)
    (there,) = folder.glob("lib/python*/site-packages")
    for library in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(library).iterdir():
            if "dask_labelqc" not in path.name:
                (there / path.name).symlink_to(path)
    if version is not None:
        metadata = there / f"dask_labelqc-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: dask-labelqc\nVersion: {version}\n")
    return folder / "bin" / "python"
