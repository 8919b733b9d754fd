"""Dask arrays whose blocks are objects: one for each group of a plan, mapped and reduced.

A block of such an array is whatever the function returned, and its extent is 1 along each axis.
Everything is a map over blocks or a tree reduction of public `dask.array`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import dask.array as da
import numpy as np
from dask.core import flatten

from dask_labelqc.typing import Shape

__all__ = [
    "along_images",
    "from_blocks",
    "from_positions",
    "map_objects",
    "to_blocks",
    "total",
]

SPLIT_EVERY = 16
"""Objects that one task of a reduction combines."""


def _meta(ndim: int, dtype: Any = object) -> np.ndarray[Any, Any]:
    return np.empty((0,) * ndim, dtype)


def from_positions(function: Callable[..., Any], grid: Shape) -> da.Array:
    """Return the array of ``function(block_id=position)`` over a grid."""
    chunks = tuple((1,) * n for n in grid)
    return da.map_blocks(function, chunks=chunks, dtype=object, meta=_meta(len(grid)))


def from_blocks(function: Callable[..., Any], labels: da.Array, pred_probs: da.Array) -> da.Array:
    r"""Return the array of ``function(labels block, [pred_probs block], block_id=position)``.

    Parameters
    ----------
    function
        Its second argument is a list of one block, which holds all classes.
    labels, pred_probs
        (N, \*spatial) and (N, K, \*spatial) with the same chunks, and one along K.
    """
    grid = labels.numblocks
    positions = from_positions(_position, grid)
    axes = tuple(range(labels.ndim))
    class_axis = labels.ndim
    return da.blockwise(
        function,
        axes,
        positions,
        axes,
        labels,
        axes,
        pred_probs,
        (axes[0], class_axis, *axes[1:]),
        adjust_chunks={axis: (1,) * n for axis, n in zip(axes, grid, strict=True)},
        align_arrays=False,
        concatenate=None,
        dtype=object,
        meta=_meta(labels.ndim),
    )


def _position(block_id: Shape) -> Shape:
    return block_id


def map_objects(function: Callable[..., Any], objects: da.Array, *shared: da.Array) -> da.Array:
    """Return the array of ``function(object, *shared)``; shared are single objects."""
    return da.map_blocks(function, objects, *shared, dtype=object, meta=_meta(objects.ndim))


def to_blocks(
    function: Callable[..., Any],
    objects: da.Array,
    chunks: tuple[tuple[int, ...], ...],
    dtype: Any,
    new_axes: int = 0,
) -> da.Array:
    """Return an ordinary array whose blocks are ``function(object)``.

    Parameters
    ----------
    function
        Returns a NumPy array for each object.
    objects
        Array of objects.
    chunks, dtype
        Of the result.
    new_axes
        How many axes the result has more than `objects`, at the end.
    """
    added = [objects.ndim + i for i in range(new_axes)]
    return da.map_blocks(
        function,
        objects,
        chunks=chunks,
        dtype=dtype,
        new_axis=added or None,
        meta=_meta(len(chunks), dtype),
    )


def _combine(function: Callable[[Any, Any], Any], objects: Any, axis: Any, keepdims: Any) -> Any:
    parts: Iterable[Any] = (
        flatten(objects, container=list) if isinstance(objects, list) else [objects]
    )
    return reduce(function, parts)


def _finish(
    function: Callable[[Any, Any], Any],
    finish: Callable[[Any], Any],
    objects: Any,
    axis: Any,
    keepdims: Any,
) -> Any:
    return finish(_combine(function, objects, axis, keepdims))


def _itself(block: Any, axis: Any, keepdims: Any) -> Any:
    return block


def total(
    function: Callable[[Any, Any], Any],
    objects: da.Array,
    finish: Callable[[Any], Any] | None = None,
) -> da.Array:
    """Combine all objects to a single one, in a tree; in order along each axis.

    `finish` is called on the result, once: unlike a map it is never fused into its dependents.
    """
    return _reduced(function, objects, tuple(range(objects.ndim)), finish)


def along_images(function: Callable[[Any, Any], Any], objects: da.Array) -> da.Array:
    """Combine the objects of each group of images, over the spatial axes."""
    return _reduced(function, objects, tuple(range(1, objects.ndim)))


def _reduced(
    function: Callable[[Any, Any], Any],
    objects: da.Array,
    axes: Shape,
    finish: Callable[[Any], Any] | None = None,
) -> da.Array:
    combine = partial(_combine, function)
    return da.reduction(
        objects,
        chunk=_itself,
        combine=combine,
        aggregate=combine if finish is None else partial(_finish, function, finish),
        axis=axes,
        keepdims=False,
        dtype=object,
        concatenate=False,
        split_every=SPLIT_EVERY,
        meta=_meta(objects.ndim - len(axes)),
    )
