from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from dask_labelqc.storage.records import Records
from tests.stores import CountingStore

ARRAYS = {
    "position": np.arange(5, dtype=np.uint16),
    "score": np.array([0.25, np.nan], np.float32),
    "nothing": np.zeros((0, 3)),
    "number": np.array(7),
}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.open(zarr.create_group(tmp_path / "records.zarr"), "summaries", 9)


def chunk_file(records: Records, number: int) -> Path:
    return Path(records.array.store.root) / "summaries" / "c" / str(number)


def same(found: Any, expected: Any) -> bool:
    return set(found) == set(expected) and all(
        found[n].dtype == a.dtype and np.array_equal(found[n], a, equal_nan=a.dtype.kind == "f")
        for n, a in expected.items()
    )


def test_what_is_written_is_read(records: Records) -> None:
    records.write(7, ARRAYS)
    assert same(records.read(7), ARRAYS)


def test_a_record_is_replaced(records: Records) -> None:
    records.write(7, ARRAYS)
    records.write(7, {"other": np.ones(2)})
    assert same(records.read(7), {"other": np.ones(2)})


def test_no_record(records: Records) -> None:
    assert records.read(7) is None


def test_a_record_that_was_cut_short_is_not_there(records: Records) -> None:
    records.write(7, ARRAYS)
    whole = chunk_file(records, 7).read_bytes()
    for length in range(len(whole)):
        for rest in (b"", bytes(len(whole) - length)):
            part = whole[:length] + rest
            chunk_file(records, 7).write_bytes(part)
            assert part == whole or records.read(7) is None, length
    chunk_file(records, 7).unlink()
    assert records.read(7) is None
    records.write(7, ARRAYS)
    assert same(records.read(7), ARRAYS)


def test_metadata_that_were_cut_short(records: Records) -> None:
    records.write(7, ARRAYS)
    group = zarr.open_group(records.array.store)
    assert same(Records.open(group, "summaries", 9).read(7), ARRAYS)
    metadata = chunk_file(records, 7).parents[1] / "zarr.json"
    metadata.write_bytes(metadata.read_bytes()[:40])
    again = Records.open(group, "summaries", 9)
    assert again.read(7) is None
    again.write(7, ARRAYS)
    assert same(Records.open(group, "summaries", 9).read(7), ARRAYS)


def test_one_request_a_record() -> None:
    store = CountingStore()
    records = Records.open(zarr.create_group(store), "summaries", 9)
    store.forget()
    for number in (3, 8):
        records.write(number, ARRAYS)
    with records.reading([3, 4, 8]) as found:
        known = dict(found)
    assert known[4] is None
    assert same(known[8], ARRAYS)
    read = [("get", f"summaries/c/{number}") for number in (3, 4, 8)]
    assert store.requests == [("set", "summaries/c/3"), ("set", "summaries/c/8"), *read]


def test_many_arrays_of_long_names(records: Records) -> None:
    arrays = {f"{'name' * 50}{i}": np.array([i]) for i in range(100)}
    records.write(7, arrays)
    assert same(records.read(7), arrays)


def test_a_record_that_was_changed_is_not_there(records: Records) -> None:
    records.write(7, ARRAYS)
    whole = chunk_file(records, 7).read_bytes()
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        chunk_file(records, 7).write_bytes(changed)
        assert records.read(7) is None, place
