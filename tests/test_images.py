from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.errors import InputError
from dask_labelqc.images import ImageTable, Span, is_ragged

SHAPES = [(2, 3), (4, 1), (1, 1), (3, 3)]
TABLE = ImageTable.of(["a", "b", "c", "d"], SHAPES)

shape_lists = st.integers(1, 3).flatmap(
    lambda ndim: st.lists(st.tuples(*[st.integers(1, 4)] * ndim), min_size=1, max_size=6)
)


def table_of(shapes: list[tuple[int, ...]], factor: int = 1) -> ImageTable:
    sides = [[n * factor for n in shape] for shape in shapes]
    return ImageTable.of([f"image {i}" for i in range(len(shapes))], sides)


def places_of(table: ImageTable, index: list[int]) -> list[tuple[int, tuple[int, ...]]]:
    """The image and the pixel of each pixel of some images, one after the other."""
    return [(i, place) for i in index for place in np.ndindex(*table.shapes[i].tolist())]


def test_what_a_table_knows() -> None:
    assert (TABLE.num_images, TABLE.num_pixels, TABLE.ndim) == (4, 20, 2)
    assert TABLE.offsets.tolist() == [0, 6, 10, 11, 20]
    assert TABLE.regular is None
    assert ImageTable.of("ab", [(2, 3), (2, 3)]).regular == (2, 2, 3)
    assert TABLE.number("c") == 2


@given(shape_lists, st.data())
def test_positions_of_some_images(shapes: list[tuple[int, ...]], data: st.DataObject) -> None:
    table = table_of(shapes)
    index = data.draw(st.permutations(range(len(shapes))))[: data.draw(st.integers(1, 6))]
    span, places = table.some(index), places_of(table, index)
    every = np.arange(span.size)
    flat = [int(table.offsets[i] + np.ravel_multi_index(p, table.shapes[i])) for i, p in places]
    assert span.flat_index(every).tolist() == flat
    assert [span.place(i) for i in every] == places
    assert span.per_image(every).tolist() == span.sizes.tolist()
    assert (span.num_images, span.numbers.tolist()) == (len(index), list(index))


@given(shape_lists, st.data())
def test_runs_of_pixels(shapes: list[tuple[int, ...]], data: st.DataObject) -> None:
    table = table_of(shapes)
    start = data.draw(st.integers(0, table.num_pixels - 1))
    stop = data.draw(st.integers(start + 1, table.num_pixels))
    whole, places = table.pixels(start, stop), places_of(table, list(range(len(shapes))))
    a = data.draw(st.integers(0, whole.size - 1))
    b = data.draw(st.integers(a + 1, whole.size))
    part = whole.part(a, b)
    every = np.arange(part.size)
    assert part.flat_index(every).tolist() == list(range(start + a, start + b))
    assert [part.place(i) for i in every] == places[start + a : start + b]
    assert whole.positions_of(part, every).tolist() == list(range(a, b))
    assert every.tolist() == (np.arange(whole.size)[whole.slices_of(part)] - a).tolist()
    assert whole.numbers[whole.images_of(part)].tolist() == part.numbers.tolist()
    counts = np.bincount([image for image, _ in places[start + a : start + b]])
    assert part.sizes.tolist() == counts[part.numbers].tolist()
    first = int(whole.numbers[0])
    last = data.draw(st.integers(first + 1, first + whole.num_images))
    some = whole.of_images(first, last)
    assert some.numbers.tolist() == list(range(first, last))
    assert some.size == sum(whole.sizes[: last - first])
    assert part.edges.tolist() == [0, *np.cumsum(part.sizes).tolist()]


@given(shape_lists, st.integers(1, 3), st.data())
def test_cells_and_their_pixels(
    shapes: list[tuple[int, ...]], factor: int, data: st.DataObject
) -> None:
    table = table_of(shapes, factor)
    cells, factors = table.coarsened(factor), (factor,) * table.ndim
    first = data.draw(st.integers(0, table.num_images - 1))
    span = table.span(first, data.draw(st.integers(first + 1, table.num_images)))
    coarse = span.coarsened(factors)
    every = np.arange(coarse.size)
    expected = cells.span(first, first + span.num_images)
    assert coarse.flat_index(every).tolist() == expected.flat_index(every).tolist()
    assert [coarse.place(i) for i in every] == [expected.place(i) for i in every]
    assert coarse.refined(factors).flat_index(np.arange(span.size)).tolist() == (
        span.flat_index(np.arange(span.size)).tolist()
    )


@given(shape_lists, st.integers(1, 40))
def test_runs_of_whole_images(shapes: list[tuple[int, ...]], pixels: int) -> None:
    table = table_of(shapes)
    spans = table.spans(pixels)
    assert [i for span in spans for i in span.numbers.tolist()] == list(range(len(shapes)))
    assert all(span.size <= pixels or span.num_images == 1 for span in spans)
    # No two that follow one another would have fitted.
    assert all(a.size + b.sizes[0] > pixels for a, b in pairwise(spans))
    whole = table.span(0, table.num_images)
    found = [part.numbers.tolist() for part in whole.parts(pixels)]
    assert found == [span.numbers.tolist() for span in spans]


def test_a_span_of_images_that_were_read_by_themselves() -> None:
    span = Span.of(1, np.array(SHAPES[1:3]), 6)
    assert (
        span.flat_index(np.arange(5)).tolist() == TABLE.span(1, 3).flat_index(np.arange(5)).tolist()
    )
    assert (span.name, span.part(4, 5).name) == ("images 1 to 2", "image 2")


@given(shape_lists)
def test_written_and_read(shapes: list[tuple[int, ...]]) -> None:
    table, group = table_of(shapes), zarr.create_group({})
    assert not is_ragged(group)
    table.write(group)
    assert is_ragged(group)
    found = ImageTable.read(group)
    assert (found.ids.tolist(), found.shapes.tolist()) == (
        table.ids.tolist(),
        table.shapes.tolist(),
    )


def test_xarray_opens_it_as_a_ragged_array() -> None:
    group = zarr.create_group({})
    TABLE.write(group)
    found = xr.open_zarr(group.store, consolidated=False)
    assert found.image_id.values.tolist() == list("abcd")
    assert found.pixel_count.attrs["sample_dimension"] == "pixel"
    assert (found.pixel_count.values == found.height.values * found.width.values).all()


@pytest.mark.parametrize(
    ("ids", "shapes", "message"),
    [
        ([], np.zeros((0, 2)), "got none, the dataset is empty"),
        (["a", "b"], [(2, 2)], "got 2 ids of 1 images"),
        (["a", "b", "a"], [(2, 2)] * 3, "'a' is the id of image 0 and of image 2"),
        (["a", "b"], [(2, 2), (0, 3)], r"'b' \(image 1\) has the shape \(0, 3\)"),
        (["a"], [(1, 1, 1, 1)], "1 to 3 spatial dimensions"),
    ],
)
def test_what_is_no_table(ids: list[str], shapes: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageTable.of(ids, shapes)


def test_a_factor_that_does_not_divide() -> None:
    with pytest.raises(InputError, match=r"2 does not divide the shape \(4, 1\) of 'b'"):
        ImageTable.of("ab", [(2, 4), (4, 1)]).coarsened(2)


def test_a_group_without_a_table() -> None:
    with pytest.raises(InputError, match="has no table of images"):
        ImageTable.read(zarr.create_group({}))


def test_offsets_that_are_not_those_of_the_sizes() -> None:
    group = zarr.create_group({})
    TABLE.write(group)
    group["offset"][2] = 11
    with pytest.raises(InputError, match=r"'c' \(image 2\) begins at pixel 11 .* at 10 by"):
        ImageTable.read(group)
