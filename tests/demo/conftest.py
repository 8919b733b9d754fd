from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from dask_labelqc.demo.dataset import DatasetSpec, write_dataset
from dask_labelqc.demo.scenes import CLASS_NAMES

SPEC = DatasetSpec(images=6, size=64, seed=3, error_fraction=0.5)


@pytest.fixture(scope="session")
def spec() -> DatasetSpec:
    return SPEC


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "dataset.zarr"
    write_dataset(path, SPEC)
    return path


@pytest.fixture(scope="session")
def perfect_audit(dataset: Path) -> Path:
    """What an audit by somebody who knows the truth would write."""
    group = zarr.open_group(dataset, mode="r")
    given, true = group["labels"][:], group["truth/true_labels"][:]
    issues = given != true
    matrix = np.zeros((len(CLASS_NAMES),) * 2, np.int64)
    np.add.at(matrix, (given[issues], true[issues]), 1)
    path = dataset.parent / "audit.zarr"
    output = zarr.create_group(path)
    for name, values in {
        "label_issues": issues,
        "image_score": 1 - issues.mean(axis=(1, 2)),
        "image_issue_count": issues.sum(axis=(1, 2)),
        "confident_threshold": np.full(len(CLASS_NAMES), 0.9),
        "class_count": np.bincount(given.ravel(), minlength=len(CLASS_NAMES)),
        "class_issue_count": matrix.sum(axis=1),
        "issue_matrix": matrix,
    }.items():
        output.create_array(name, data=values)
    return path
