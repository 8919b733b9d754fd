"""Arrays with names and coordinates in every container, out of order along their dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tests.segmentation.containers import dims_of

__all__ = ["CONTAINERS", "NAMED", "Build", "Indexed", "coordinates", "indexed", "shuffled"]

Dims = tuple[str, ...]
Coords = Mapping[str, np.ndarray]
Build = Callable[[np.ndarray, Dims, Coords], Any]


def in_numpy(values: np.ndarray, dims: Dims, coords: Coords) -> Any:
    return values


def in_dask(values: np.ndarray, dims: Dims, coords: Coords) -> Any:
    return da.from_array(values, chunks=tuple(-(-n // 2) for n in values.shape))


def in_xarray(values: np.ndarray, dims: Dims, coords: Coords) -> Any:
    return xr.DataArray(values, coords, dims)


def in_xarray_over_dask(values: np.ndarray, dims: Dims, coords: Coords) -> Any:
    return xr.DataArray(in_dask(values, dims, coords), coords, dims)


def in_zarr_3(values: np.ndarray, dims: Dims, coords: Coords) -> Any:
    return in_zarr(values, dims, coords, 3)


def in_zarr_2(values: np.ndarray, dims: Dims, coords: Coords) -> Any:
    return in_zarr(values, dims, coords, 2)


def in_zarr(
    values: np.ndarray,
    dims: Dims,
    coords: Coords,
    zarr_format: Literal[2, 3],
    store: Any = None,
    name: str = "values",
) -> Any:
    """An array, and its coordinates beside it."""
    group = zarr.open_group(store or MemoryStore(), mode="w", zarr_format=zarr_format)
    for key, data, along in (
        (name, values, dims),
        *((dim, coords[dim], (dim,)) for dim in coords),
    ):
        named = {"dimension_names": along} if zarr_format == 3 else {}
        chunks = (-(-len(data) // 5), *data.shape[1:])
        # Zeros would be read as missing.
        fill = {"fill_value": None} if zarr_format == 2 and key != name else {}
        whole: Any = {"write_empty_chunks": True}
        array = group.create_array(key, data=data, chunks=chunks, config=whole, **named, **fill)
        if zarr_format == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = list(along)
    return group[name]


NAMED: dict[str, Build] = {
    f.__name__: f for f in (in_xarray, in_xarray_over_dask, in_zarr_3, in_zarr_2)
}
CONTAINERS: dict[str, Build] = {f.__name__: f for f in (in_numpy, in_dask)} | NAMED


def coordinates(labels: np.ndarray) -> dict[str, np.ndarray]:
    """An index along each dimension: numbers of scenes, and falling and rising places."""
    dims = dims_of(labels)
    first = 100 + 7 * np.arange(labels.shape[0])
    rest = {d: 0.5 * np.arange(n)[::-1] for d, n in zip(dims[1:], labels.shape[1:], strict=True)}
    return {dims[0]: first, **rest}


def shuffled(
    values: np.ndarray,
    dims: tuple[str, ...],
    coords: Mapping[str, np.ndarray],
    order: Mapping[str, Any],
    axes: tuple[int, ...],
) -> tuple[np.ndarray, tuple[str, ...], dict[str, np.ndarray]]:
    """Take positions along some dimensions, with their coordinates, then transpose."""
    coords = dict(coords)
    for dim, positions in order.items():
        values = np.take(values, positions, dims.index(dim))
        coords[dim] = coords[dim][list(positions)]
    moved = np.ascontiguousarray(values.transpose(axes))
    return moved, tuple(dims[axis] for axis in axes), coords


class Indexed:
    """A draw of two or three arrays that say the same in other orders."""

    def __init__(self, draw: st.DrawFn, labels: np.ndarray, pred_probs: np.ndarray) -> None:
        self.dims = dims_of(labels)
        self.draw = draw
        self.coords = coordinates(labels)
        self.own = draw(st.sets(st.sampled_from(self.dims)))
        """Dimensions along which the first array has an index."""
        self.kind = draw(st.sampled_from(sorted(CONTAINERS)))
        self.labels = self.build(self.kind, labels, self.dims, self.own)
        self.pred_probs = self.another(pred_probs, (self.dims[0], "class", *self.dims[1:]))

    def build(self, kind: str, values: np.ndarray, dims: tuple[str, ...], indexed: set) -> Any:
        return CONTAINERS[kind](values, dims, {d: self.coords[d] for d in sorted(indexed)})

    def another(self, values: np.ndarray, dims: tuple[str, ...]) -> Any:
        """The values in another container; out of order wherever names and labels tell."""
        draw, kind = self.draw, self.draw(st.sampled_from(sorted(CONTAINERS)))
        told = kind in NAMED and self.kind in NAMED
        indexed = draw(st.sets(st.sampled_from(self.dims)))
        axes = draw(st.permutations(range(len(dims)))) if told else range(len(dims))
        order = {}
        for dim in sorted(indexed & self.own) if told else ():
            n = len(self.coords[dim])
            order[dim] = draw(
                st.one_of(st.permutations(range(n)), st.just(list(range(n - 1, -1, -1))))
            )
        coords = {d: self.coords[d] for d in sorted(indexed)}
        return CONTAINERS[kind](*shuffled(values, dims, coords, order, tuple(axes)))


@st.composite
def indexed(draw: st.DrawFn, labels: np.ndarray, pred_probs: np.ndarray) -> Indexed:
    return Indexed(draw, labels, pred_probs)
