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

from dask_labelqc.extent import Extent
from dask_labelqc.typing import Shape

__all__ = [
    "along_images",
    "from_blocks",
    "from_positions",
    "map_objects",
    "reduce_objects",
    "to_blocks",
]

SPLIT_EVERY = 16
"""Objects that one task of a reduction combines."""


def _meta(ndim: int, dtype: Any = object) -> np.ndarray[Any, Any]:
    return np.empty((0,) * ndim, dtype)


def from_positions(function: Callable[..., Any], grid: Shape) -> da.Array:
    """Return the array of ``function(block_id=position)`` over a grid."""
    chunks = tuple((1,) * n for n in grid)
    return da.map_blocks(function, chunks=chunks, dtype=object, meta=_meta(len(grid)))


def from_blocks(
    function: Callable[..., Any],
    chunks: tuple[tuple[int, ...], ...],
    arrays: Iterable[da.Array],
    pred_probs: da.Array | None = None,
    dtype: Any = object,
) -> da.Array:
    r"""Return the array of ``function(extent, *blocks, [pred_probs block])``.

    Parameters
    ----------
    function
        Is told where the blocks are.
    chunks
        Their extents along (N, \*spatial).
    arrays
        (N, \*spatial) in these chunks, or an object for each of these.
    pred_probs
        (N, K, \*spatial) in these chunks: a list of one block, which holds all classes.
    dtype
        Of the function's blocks; objects are one for each.
    """
    axes = tuple(range(len(chunks)))
    starts = tuple(tuple(np.cumsum((0, *sizes)).tolist()) for sizes in chunks)
    extents = from_positions(partial(_extent, starts), tuple(len(sizes) for sizes in chunks))
    pairs: list[Any] = [item for array in (extents, *arrays) for item in (array, axes)]
    if pred_probs is not None:
        pairs += [pred_probs, (0, len(axes), *axes[1:])]
    one_each = ((1,) * len(sizes) for sizes in chunks)
    return da.blockwise(
        function,
        axes,
        *pairs,
        adjust_chunks=dict(zip(axes, one_each if dtype is object else chunks, strict=True)),
        align_arrays=False,
        concatenate=None,
        dtype=dtype,
        meta=_meta(len(axes), dtype),
    )


def _extent(starts: tuple[Shape, ...], block_id: Shape) -> Extent:
    first = tuple(axis[i] for axis, i in zip(starts, block_id, strict=True))
    return Extent(first, tuple(axis[i + 1] for axis, i in zip(starts, block_id, strict=True)))


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


def reduce_objects(
    function: Callable[[Any, Any], Any],
    objects: da.Array,
    finish: Callable[[Any], Any] | None = None,
) -> da.Array:
    """Combine all objects to a single one, in a tree; in order along each axis.

    `finish` is called on the result, once: unlike a map it is never fused into its dependents.
    """
    return _reduced(function, objects, tuple(range(objects.ndim)), finish)


def along_images(function: Callable[[Any, Any], Any], objects: da.Array) -> da.Array:
    """Combine the objects of each group of images, over the spatial axes if there are any."""
    if objects.ndim == 1:
        return objects
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
