"""Kernels of notebooks as forks of `tests.forks`, without the seconds that their imports take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.provisioning import local_provisioner

from tests.forks import Fork


class Kernel(Fork):
    """A program without pipes, as `LocalProvisioner` asks for them."""

    stdin = stdout = stderr = None


def _launch(
    command: list[str], env: Mapping[str, str], cwd: str | None = None, **more: Any
) -> Kernel:
    return Kernel(*command, cwd=Path(cwd or Path.cwd()), session=True, **env)


@contextmanager
def forked_kernels() -> Iterator[None]:
    """Let kernels be forks instead of programs that start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_provisioner, "launch_kernel", _launch)
        yield
