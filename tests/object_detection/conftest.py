from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import starmap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.object_detection import from_lists
from tests.object_detection.boxes import Lists, make_lists


@pytest.fixture(scope="session")
def lists() -> Callable[..., Lists]:
    """Return the function that draws labels and predictions from a seed."""
    return make_lists


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Return the function that gives the same boxes in every form that is taken."""

    def in_every_form(labels: Any, predictions: Any) -> dict[str, Any]:
        dataset = from_lists(labels, predictions)
        path = tmp_path_factory.mktemp("boxes") / "boxes.zarr"
        # Chunks that fit neither the images nor the blocks.
        chunks = {
            "given_boxes": {"chunks": (7, 4)},
            "predicted_boxes": {"chunks": (11, 4)},
            "predicted_scores": {"chunks": (13,)},
        }
        dataset.to_zarr(path, consolidated=False, encoding=chunks)
        return {
            "numpy": dataset,
            "dask": dataset.chunk(given_box=5, predicted_box=9, image_edge=4),
            "path": str(path),
            "group": zarr.open_group(path, mode="r"),
            "xarray of zarr": xr.open_zarr(path, consolidated=False),
        }

    return in_every_form


class NoPool:
    """What cleanlab uses of a process pool, without processes."""

    def __init__(self, processes: object) -> None:
        pass

    def starmap(self, function: Callable[..., Any], arguments: Iterable[Any]) -> list[Any]:
        return list(starmap(function, arguments))

    def close(self) -> None:
        pass


@pytest.fixture
def cleanlab(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return cleanlab's modules, able to run on this NumPy and without starting processes."""
    from cleanlab.object_detection import filter as filter_
    from cleanlab.object_detection import rank, summary

    monkeypatch.setattr(filter_, "Pool", NoPool)
    monkeypatch.setattr(summary, "Pool", NoPool)
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    return SimpleNamespace(filter=filter_, rank=rank, summary=summary)
