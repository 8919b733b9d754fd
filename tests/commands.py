"""Commands as processes of their own, and environments to start them in."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import forks
from tests.forks import BIN, Ran


def run(name: str, *arguments: Any) -> Ran:
    """Run a command that is installed beside this Python, or Python itself."""
    return forks.run(BIN / name, *arguments)


def table(text: str) -> dict[str, str]:
    """Return what a command prints as name and value."""
    rows = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.splitlines()]
    return dict(row for row in rows if len(row) == 2)


@contextmanager
def process(*command: object, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
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
