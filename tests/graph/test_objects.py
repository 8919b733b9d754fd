from __future__ import annotations

from operator import add
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from dask_labelqc.graph.objects import (
    SPLIT_EVERY,
    along_images,
    from_blocks,
    from_positions,
    map_objects,
    reduce_objects,
    to_blocks,
)


def position(block_id: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (tuple(int(i) for i in block_id),)


def single(objects: da.Array) -> Any:
    """The one object of an array of objects without axes."""
    return to_blocks(boxed, objects, ((1,),), object, 1).compute(scheduler="sync")[0]


def boxed(value: Any) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = value
    return array


@pytest.mark.parametrize("grid", [(1,), (3, 2), (2, 1, 3), (SPLIT_EVERY * SPLIT_EVERY + 3, 2)])
def test_reduce_objects_combines_every_object_once(grid: tuple[int, ...]) -> None:
    combined = single(reduce_objects(add, from_positions(position, grid)))
    assert sorted(combined) == sorted(np.ndindex(grid))


def test_reduce_objects_is_in_order_along_an_axis() -> None:
    combined = single(reduce_objects(add, from_positions(position, (200,))))
    assert list(combined) == [(i,) for i in range(200)]


@pytest.mark.parametrize("grid", [(3, 2, 4), (2, 40, 1), (4, 1)])
def test_along_images_keeps_images_apart(grid: tuple[int, ...]) -> None:
    objects = along_images(add, from_positions(position, grid))
    lengths = to_blocks(images_and_count, objects, ((1,) * grid[0],), int)
    expected = [i * 1000 + int(np.prod(grid[1:])) for i in range(grid[0])]
    assert lengths.compute(scheduler="sync").tolist() == expected


def images_and_count(positions: Any) -> np.ndarray:
    (image,) = {place[0] for place in positions}
    return np.array([image * 1000 + len(positions)])


def test_map_objects_with_a_shared_object() -> None:
    objects = from_positions(position, (2, 3))
    everything = reduce_objects(add, objects)
    counted = map_objects(
        lambda own, shared: len(shared) * 10 + shared.index(own[0]), objects, everything
    )
    values = to_blocks(lambda n: np.array([[n]]), counted, ((1,) * 2, (1,) * 3), int)
    assert values.compute(scheduler="sync").tolist() == [[60, 61, 62], [63, 64, 65]]


def test_to_blocks_with_new_axes() -> None:
    matrix = to_blocks(
        lambda n: np.full((2, 3), len(n)),
        reduce_objects(add, from_positions(position, (4,))),
        ((2,), (3,)),
        int,
        2,
    )
    assert matrix.shape == (2, 3)
    np.testing.assert_array_equal(matrix.compute(scheduler="sync"), np.full((2, 3), 4))


CHUNKS = (2, 3), (4, 2)
LABELS = np.arange(5 * 6).reshape(5, 6)
PROBS = np.arange(5 * 2 * 6).reshape(5, 2, 6)


def test_from_blocks_gives_each_block_with_its_place() -> None:
    lazy_labels = da.from_array(LABELS, chunks=CHUNKS)
    lazy_probs = da.from_array(PROBS, chunks=(CHUNKS[0], 2, CHUNKS[1]))
    blocks = single(reduce_objects(add, from_blocks(both, CHUNKS, [lazy_labels], lazy_probs)))
    assert len({box for box, _, _ in blocks}) == 4
    for box, own, predicted in blocks:
        images, columns = box.slices
        np.testing.assert_array_equal(own, LABELS[images, columns])
        np.testing.assert_array_equal(predicted, PROBS[images, :, columns])


def both(box: Any, labels: Any, pred_probs: Any) -> Any:
    (probs,) = pred_probs
    return ((box, labels, probs),)


def test_from_blocks_makes_ordinary_arrays_too() -> None:
    lazy = da.from_array(LABELS, chunks=CHUNKS)
    halves = from_blocks(half, CHUNKS, [lazy, lazy], dtype=np.float64)
    assert (halves.chunks, halves.dtype) == (CHUNKS, np.float64)
    np.testing.assert_array_equal(halves.compute(scheduler="sync"), LABELS / 2)


def half(box: Any, mine: Any, other: Any) -> Any:
    np.testing.assert_array_equal(mine, other)
    assert mine.shape == box.shape
    return mine / 2


def test_from_blocks_needs_no_arrays() -> None:
    boxes = single(reduce_objects(add, from_blocks(alone, CHUNKS, [])))
    assert [box.start for box in boxes] == [(0, 0), (0, 4), (2, 0), (2, 4)]


def alone(box: Any) -> Any:
    return (box,)


def test_building_computes_nothing() -> None:
    def never(*args: Any) -> None:
        raise AssertionError("computed")

    with dask.config.set(scheduler=never):
        objects = map_objects(never, from_positions(never, (3, 2)))
        to_blocks(never, along_images(never, objects), ((1,) * 3,), int)
        reduce_objects(never, objects)
