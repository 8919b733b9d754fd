from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.storage.fence import Claim, FencedStore, open_desk
from dask_labelqc.storage.ledger import FOLDER, HASH_BYTES, NAME, Ledger, writer_name
from dask_labelqc.storage.objects import remove_folder, write_object
from dask_labelqc.storage.stores import open_store

COMMON = {"num_classes": 3, "ignore_index": [255]}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(tmp_path / "out", read_only=False))


def write(ledger: Ledger, name: str, ids: list[str], length: int = 5) -> None:
    hashes = np.arange(len(ids) * HASH_BYTES, dtype=np.uint8).reshape(-1, HASH_BYTES)
    head, body = {"shape": np.ones((len(ids), 2))}, {"list": np.arange(length, dtype=np.float32)}
    ledger.write(name, ids, hashes, COMMON, head, body)


def test_what_is_written_is_read(ledger: Ledger) -> None:
    ledger.begin(COMMON)
    ids = ["tile 7", "größer", "\ud800", ""]
    write(ledger, "host-1-abc-000000", ids)
    write(ledger, "host-1-abc-000001", ["other"])
    assert ledger.names() == ["host-1-abc-000000", "host-1-abc-000001"]
    (head, _), entry = ledger.heads(ledger.names()), ledger.read("host-1-abc-000000")
    for found in (head, entry):
        assert found.ids == ids
        assert found.writer == "host-1-abc"
        assert found.hashes.shape == (4, HASH_BYTES)
        np.testing.assert_array_equal(found.head["shape"], np.ones((4, 2)))
    assert not head.body
    np.testing.assert_array_equal(entry.body["list"], np.arange(5))
    assert head.num_bytes == (Path(ledger.store.root) / FOLDER / entry.name).stat().st_size


def test_heads_are_read_without_the_rest(ledger: Ledger) -> None:
    ledger.begin(COMMON)
    for i in range(3):
        write(ledger, f"w-{i:06}", [f"{i}-{j}" for j in range(40 * i + 1)], length=1000)
        file = Path(ledger.store.root) / FOLDER / f"w-{i:06}"
        file.write_bytes(file.read_bytes()[:-4000])
    assert [len(entry.ids) for entry in ledger.heads(ledger.names())] == [1, 41, 81]


def test_the_first_of_many_says_what_all_have_in_common(ledger: Ledger) -> None:
    def begin(number: int) -> bool:
        try:
            ledger.begin({"num_classes": number})
        except OutputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(begin, range(2, 18)))
    assert begun.count(True) == 1
    assert ledger.parameters() == {"num_classes": 2 + begun.index(True)}


def test_a_record_made_with_other_parameters(ledger: Ledger) -> None:
    ledger.begin({**COMMON, "num_classes": 4})
    write(ledger, "w-000000", ["a"])
    with pytest.raises(OutputError, match="num_classes was 4 and is 3"):
        list(ledger.heads(ledger.names()))


def test_every_byte_counts(ledger: Ledger) -> None:
    """A record that is cut short, or one byte of which is another, is none."""
    ledger.begin(COMMON)
    write(ledger, "w-000000", ["a", "b"])
    file = Path(ledger.store.root) / FOLDER / "w-000000"
    whole = file.read_bytes()
    for place in range(len(whole)):
        for part in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            file.write_bytes(part)
            with pytest.raises(InputError, match="the record records/w-000000 is gone or damaged"):
                ledger.read("w-000000")


def test_nothing_is_there(ledger: Ledger) -> None:
    assert ledger.names() == []
    assert ledger.parameters() is None
    assert not Path(ledger.store.root).exists()
    with pytest.raises(InputError, match="is gone or damaged"):
        ledger.read("w-000000")


def test_writers_have_names_of_their_own() -> None:
    assert len({writer_name() for _ in range(100)}) == 100
    assert NAME.fullmatch(f"{writer_name()}-000000")


def test_no_job_deletes_records(ledger: Ledger) -> None:
    """Whatever it deletes: a folder that holds them, or all."""
    ledger.begin(COMMON)
    write(ledger, "w-000000", ["a"])
    claim = Claim("checkpoint/claims", "checkpoint/claims/000000", b"mine")
    write_object(ledger.store, claim.key, claim.content)
    assert open_desk(ledger.store, claim)
    fenced = FencedStore(ledger.store, claim)
    for key in ("zarr.json", "label_issues/c/0"):
        write_object(fenced, key, b"1")
    for prefix in ("label_issues", ""):
        remove_folder(fenced, prefix)
    left = [p for p in Path(ledger.store.root).rglob("*") if p.is_file()]
    assert sorted(str(p.relative_to(ledger.store.root)) for p in left) == [
        claim.key,
        "records/parameters.json",
        "records/w-000000",
    ]
