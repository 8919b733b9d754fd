from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from dask_labelqc.pipeline import audit_zarr
from tests.pipeline.datasets import Stored, files
from tests.slurm.daemons import Slurm, running

IMAGES, CLASSES, SIZE = 64, 16, 512


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Daemons that every command of this process finds, and jobs that find the package."""
    with (
        tempfile.TemporaryDirectory(prefix="labelqc-slurm-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(folder).chmod(0o755)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        with running(Path(folder)) as slurm:
            for name, value in slurm.environment.items():
                patch.setenv(name, value)
            yield slurm


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Write 1.1 GB of predictions, which take little room: all images get the same ones."""
    path = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    # Fields of 64 x 64 pixels, one in thirty of them mislabeled.
    grid = (SIZE // 64, SIZE // 64)
    probabilities = rng.dirichlet(np.full(CLASSES, 0.3), grid)
    fields = np.broadcast_to(probabilities.argmax(-1), (IMAGES, *grid))
    wrong = rng.random(fields.shape) < 1 / 30
    fields = np.where(wrong, rng.integers(0, CLASSES, fields.shape), fields).astype(np.uint8)
    shape = (IMAGES, SIZE, SIZE)
    labels = zarr.create_array(path / "labels", shape=shape, dtype=np.uint8, chunks=(1, SIZE, SIZE))
    labels[:] = _enlarge(fields)
    pred_probs = zarr.create_array(
        path / "pred_probs",
        shape=(IMAGES, CLASSES, SIZE, SIZE),
        dtype=np.float32,
        chunks=(1, CLASSES, SIZE, SIZE),
    )
    pred_probs[0] = _enlarge(np.moveaxis(probabilities, -1, 0))
    for image in range(1, IMAGES):
        folder = path / "pred_probs" / "c" / str(image) / "0" / "0"
        folder.mkdir(parents=True)
        os.link(path / "pred_probs/c/0/0/0/0", folder / "0")
    return Stored(path / "labels", path / "pred_probs")


def _enlarge(fields: np.ndarray) -> np.ndarray:
    return fields.repeat(64, 1).repeat(64, 2)


@pytest.fixture(scope="session")
def expected(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Run the audit on threads of this process and return the files of its output."""
    output = tmp_path_factory.mktemp("local") / "audit.zarr"
    report = audit_zarr(*stored, output, progress=False)
    assert report.num_groups == 4
    assert report.num_issues > 1000
    return files(output)
