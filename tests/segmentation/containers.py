"""The same dataset in every container, and what it takes to look into how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from dask_labelqc import plan as blocks
from dask_labelqc.plan import plan_blocks
from dask_labelqc.segmentation import inputs

SPATIAL = ("z", "y", "x")
WHOLE: Any = {"write_empty_chunks": True}
"""Zarr leaves chunks out that hold nothing but the fill value; what is left out is warned of."""


@contextmanager
def never_computing() -> Iterator[None]:
    """Fail if anything is computed by Dask."""

    def scheduler(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=scheduler):
        yield


@contextmanager
def smallest_groups() -> Iterator[None]:
    """Make each storage chunk a block and a task of its own, as if it were large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 1)
        patch.setattr(inputs, "plan_blocks", smallest_plan)
        yield


def smallest_plan(*args: Any, group_bytes: int = 1, **kwargs: Any) -> Any:
    return plan_blocks(*args, group_bytes=1, **kwargs)


def zarr_arrays(
    labels: np.ndarray,
    pred_probs: np.ndarray,
    store: Any = None,
    *,
    label_chunks: tuple[int, ...] | None = None,
    chunks: tuple[int, ...] | None = None,
    zarr_format: Literal[2, 3] = 3,
    **keywords: Any,
) -> tuple[zarr.Array, zarr.Array]:
    """Both arrays in one group."""
    store = MemoryStore() if store is None else store
    group = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    chunks = chunks or (1, *pred_probs.shape[1:])
    label_chunks = label_chunks or (1, *labels.shape[1:])
    return (
        group.create_array("labels", data=labels, chunks=label_chunks, config=WHOLE),
        group.create_array("pred_probs", data=pred_probs, chunks=chunks, config=WHOLE, **keywords),
    )


def halves(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // 2) for n in shape)


def thirds(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // 3) for n in shape)


def dims_of(labels: np.ndarray) -> tuple[str, ...]:
    return ("image", *SPATIAL[4 - labels.ndim :])


def in_xarray(labels: Any, pred_probs: Any) -> tuple[xr.DataArray, xr.DataArray]:
    dims = dims_of(labels)
    coords = {
        "image": [f"tile {i}" for i in range(labels.shape[0])],
        dims[-1]: np.arange(labels.shape[-1]) * 0.5,
        "day": ("image", np.arange(labels.shape[0])),
        "sensor": "b",
    }
    return (
        xr.DataArray(labels, coords, dims, "given", {"source": "survey"}),
        xr.DataArray(pred_probs, dims=(dims[0], "class", *dims[1:])),
    )


def numpy_arrays(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return labels, pred_probs


def memmaps(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    arrays = []
    for name, array in (("labels", labels), ("pred_probs", pred_probs)):
        np.save(path / f"{name}.npy", array)
        arrays.append(np.load(path / f"{name}.npy", mmap_mode="r"))
    labels, pred_probs = arrays
    return labels, pred_probs


def zarr_plain(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return zarr_arrays(labels, pred_probs, path / "data.zarr")


def zarr_cut_everywhere(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    """The class axis too, and the labels otherwise."""
    return zarr_arrays(
        labels, pred_probs, chunks=halves(pred_probs.shape), label_chunks=thirds(labels.shape)
    )


def zarr_sharded(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    rest = pred_probs.shape[1:]
    return zarr_arrays(labels, pred_probs, chunks=(1, *rest), shards=(2, *rest))


def zarr_v2(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return zarr_arrays(labels, pred_probs, chunks=halves(pred_probs.shape), zarr_format=2)


def zarr_any_order(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    dims = dims_of(labels)
    group = zarr.open_group(MemoryStore(), mode="w")
    backwards = np.ascontiguousarray(pred_probs.transpose())
    names = (*reversed(dims[1:]), "class", "image")
    given = group.create_array("labels", data=labels, dimension_names=dims)
    return given, group.create_array(
        "pred_probs", data=backwards, chunks=halves(backwards.shape), dimension_names=names
    )


def zarr_v2_any_order(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    """Named as xarray does it in the older format."""
    dims = dims_of(labels)
    group = zarr.open_group(MemoryStore(), mode="w", zarr_format=2)
    last = np.ascontiguousarray(np.moveaxis(pred_probs, 1, -1))
    given, predicted = (
        group.create_array(name, data=data) for name, data in (("y", labels), ("p", last))
    )
    given.attrs["_ARRAY_DIMENSIONS"] = list(dims)
    predicted.attrs["_ARRAY_DIMENSIONS"] = [*dims, "class"]
    return given, predicted


def dask_arrays(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return (
        da.from_array(labels, chunks=(1, *labels.shape[1:])),
        da.from_array(pred_probs, chunks=(1, *pred_probs.shape[1:])),
    )


def dask_cut_everywhere(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return (
        da.from_array(labels, chunks=thirds(labels.shape)),
        da.from_array(pred_probs, chunks=halves(pred_probs.shape)),
    )


def labels_in_numpy(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return labels, dask_cut_everywhere(labels, pred_probs, path)[1]


def predictions_in_zarr(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return dask_arrays(labels, pred_probs, path)[0], zarr_plain(labels, pred_probs, path)[1]


def xarray_over_numpy(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return in_xarray(labels, pred_probs)


def xarray_over_dask(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    return in_xarray(*dask_cut_everywhere(labels, pred_probs, path))


def xarray_any_order(labels: np.ndarray, pred_probs: np.ndarray, path: Path) -> tuple[Any, Any]:
    given, predicted = in_xarray(labels, pred_probs)
    return given, predicted.transpose()


def xarray_over_dask_any_order(
    labels: np.ndarray, pred_probs: np.ndarray, path: Path
) -> tuple[Any, Any]:
    given, predicted = in_xarray(*dask_cut_everywhere(labels, pred_probs, path))
    return given, predicted.transpose(*given.dims, "class")


Container = Callable[[np.ndarray, np.ndarray, Path], tuple[Any, Any]]

IN_MEMORY: dict[str, Container] = {
    f.__name__: f for f in (numpy_arrays, memmaps, xarray_over_numpy, xarray_any_order)
}
LAZY: dict[str, Container] = {
    f.__name__: f
    for f in (
        zarr_plain,
        zarr_cut_everywhere,
        zarr_sharded,
        zarr_v2,
        zarr_any_order,
        zarr_v2_any_order,
        dask_arrays,
        dask_cut_everywhere,
        labels_in_numpy,
        predictions_in_zarr,
        xarray_over_dask,
        xarray_over_dask_any_order,
    )
}
CONTAINERS = IN_MEMORY | LAZY

every_container = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
lazy_container = pytest.mark.parametrize("container", LAZY.values(), ids=LAZY)
in_memory_container = pytest.mark.parametrize("container", IN_MEMORY.values(), ids=IN_MEMORY)
