"""Which of the chunks that read as the fill value are not in the store."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dask_labelqc.storage.missing import absent_chunks, chunk_grid, fill_value

EVERY_CHUNK = {"write_empty_chunks": True}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "u1", ">i4", "i8", "bool"])
@pytest.mark.parametrize("fill", [0, 1, np.nan])
def test_written_fill_values_are_there(zarr_format, dtype, fill):
    if fill != fill and np.dtype(dtype).kind != "f":
        fill = 0
    array = zarr.create_array(
        MemoryStore(),
        shape=(9, 6),
        chunks=(2, 3),
        dtype=dtype,
        fill_value=fill,
        zarr_format=zarr_format,
        config=EVERY_CHUNK,
    )
    array[0:2] = fill
    array[2:4, 3:6] = 1 if fill != 1 else 0
    assert chunk_grid(array) == (5, 2)
    assert sorted(absent_chunks(array, (slice(0, 9), slice(0, 6)), array[:])) == [2, *range(4, 10)]
    assert sorted(absent_chunks(array, (slice(3, 5), slice(0, 4)), array[3:5, :4])) == [2, 4, 5]


def test_chunks_of_a_shard():
    array = zarr.create_array(
        MemoryStore(), shape=(8, 6), chunks=(2, 3), shards=(4, 6), dtype="f4", config=EVERY_CHUNK
    )
    array[0:4] = 0
    array[0, 0] = 1
    assert sorted(absent_chunks(array, (slice(0, 8), slice(0, 6)), array[:])) == [4, 5, 6, 7]


def test_no_fill_value_reads_as_zero():
    array = zarr.create_array(
        MemoryStore(), shape=(4,), chunks=(2,), dtype="i4", fill_value=None, zarr_format=2
    )
    array[:2] = 5
    assert fill_value(array) == 0
    assert absent_chunks(array, (slice(0, 4),), array[:]) == {1}


@given(
    st.lists(st.sampled_from(["absent", "filled", "mixed"]), min_size=1, max_size=6),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_any_box_of_a_row_of_chunks(states, start, length):
    array = zarr.create_array(
        MemoryStore(), shape=(3 * len(states),), chunks=(3,), dtype="i2", config=EVERY_CHUNK
    )
    for number, state in enumerate(states):
        if state != "absent":
            array[3 * number : 3 * number + 3] = 0 if state == "filled" else [0, 0, 7]
    start = min(start, array.size - 1)
    box = slice(start, min(start + 1 + length, array.size))
    expected = {i for i in {j // 3 for j in range(box.start, box.stop)} if states[i] == "absent"}
    assert absent_chunks(array, (box,), array[box]) == expected


def test_the_store_is_asked_only_about_what_reads_as_fill(monkeypatch):
    asked = []

    class Asked(MemoryStore):
        async def get(self, key, *args, **kwargs):
            asked.append(key)
            return await super().get(key, *args, **kwargs)

    array = zarr.create_array(Asked(), shape=(6,), chunks=(2,), dtype="i4")
    array[:4] = [1, 0, 0, 2]
    values = array[:]
    asked.clear()
    assert absent_chunks(array, (slice(0, 6),), values) == {2}
    assert asked == ["c/2"]
