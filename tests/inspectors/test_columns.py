"""Examples and boxes on record are audited as if they had been stored, however they came there."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore

from dask_labelqc import InputError, OutputError, StoreError
from dask_labelqc.inspectors import lay_down
from dask_labelqc.storage.ledger import Ledger
from tests.commands import run, table
from tests.inspectors.columns import KINDS, SECOND, finish, make, record, same_answers
from tests.pipeline.datasets import files
from tests.strategies import examples

ID = {"boxes": "image_id", "facts": "example_id", "rows": "example_id"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KINDS[:2])
def writer(request: pytest.FixtureRequest) -> str:
    """Of the kinds those that are written in ways of their own."""
    return str(request.param)


@examples(6)
@given(data=st.data(), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**16))
def test_any_batches_writers_and_order(data: st.DataObject, kind: str, seed: int) -> None:
    """Items come more than once, to any of three writers."""
    made = make(kind, data.draw(st.integers(1, 12), label="items"), seed)
    every = range(len(made.ids))
    waiting = data.draw(st.permutations(every), label="order")
    waiting = [*waiting, *data.draw(st.lists(st.sampled_from(every), max_size=4), label="again")]
    with TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        writers = [made.inspector(output, flush=3) for _ in range(3)]
        while waiting:
            size = data.draw(st.integers(1, len(waiting)), label="batch")
            batch, waiting = waiting[:size], waiting[size:]
            made.put(data.draw(st.sampled_from(writers)), list(dict.fromkeys(batch)))
        for writer in writers:
            writer.close()
        finish(output)
        found = same_answers(output, made.stored(Path(folder)))
        assert found[ID[kind]].values.tolist() == made.ids


def test_ranks_whose_samplers_pad(kind: str, tmp_path: Path) -> None:
    """Two ranks take turns; the last batches are filled up with items from the beginning."""
    made = make(kind, 11)
    for rank in range(2):
        record(tmp_path / "out", made, *((i % 11, (i + 2) % 11) for i in range(rank, 12, 4)))
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_folds_of_a_cross_validation(kind: str, tmp_path: Path) -> None:
    made = make(kind, 15)
    for fold in range(3):
        record(tmp_path / "out", made, range(fold, 15, 3))
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_few_at_a_time_are_put_in_order(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shuffled loader's records have items of every part of the columns."""
    monkeypatch.setattr(lay_down, "AT_ONCE", 600)
    made = make(kind, 24)
    order = np.random.default_rng(0).permutation(24)
    record(tmp_path / "out", made, *order.reshape(8, 3).tolist(), flush=3)
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_the_order_is_that_of_the_manifest(kind: str, tmp_path: Path) -> None:
    made = make(kind, 9)
    order = [3, 0, 8, 5, 1, 7, 4, 2, 6]
    record(tmp_path / "out", made)
    manifest = [made.ids[i] for i in order]
    finish(tmp_path / "out", manifest=manifest)
    found = same_answers(tmp_path / "out", made.stored(tmp_path, order))
    assert found[ID[kind]].values.tolist() == manifest


def test_what_the_manifest_has_and_the_records_lack(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(kind, 9)
    record(tmp_path / "out", made, range(7))
    manifest = [*made.ids[1:4], "absent"]
    item = "image" if kind == "boxes" else "example"
    with pytest.raises(InputError, match=rf"1 {item} \('absent'\) of it .*; 4 {item}s \('"):
        finish(tmp_path / "out", manifest=manifest)
    with caplog.at_level(logging.WARNING):
        finish(tmp_path / "out", manifest=manifest, allow_missing=True)
    assert f"4 {item}s on record are not in it" in caplog.text
    same_answers(tmp_path / "out", made.stored(tmp_path, [1, 2, 3]))


def test_finish_twice_add_and_finish(kind: str, tmp_path: Path) -> None:
    made, output = make(kind, 12), tmp_path / "out"
    record(output, made, range(8))
    finish(output)
    same_answers(output, made.stored(tmp_path / "a", range(8)))
    before = files(output)
    finish(output)
    assert files(output) == before
    record(output, made, range(6, 12))
    finish(output)
    same_answers(output, made.stored(tmp_path / "b"))
    laid = [path for path in (output / "records").iterdir() if path.is_dir()]
    assert len(laid) == 1  # what was put down of the first eight is gone


@pytest.mark.parametrize(
    ("damaged", "name"),
    [("boxes", "predicted_boxes"), ("boxes", "given_offsets"), ("facts", "labels")],
)
def test_what_is_damaged_of_the_columns_is_put_down_again(
    damaged: str, name: str, tmp_path: Path
) -> None:
    made, output = make(damaged, 12), tmp_path / "out"
    record(output, made, range(8))
    finish(output)
    (laid,) = (path for path in (output / "records").iterdir() if path.is_dir())
    chunks = [path for path in (laid / name / "c").rglob("*") if path.is_file()]
    assert chunks
    for chunk in chunks:
        chunk.unlink()
    finish(output)
    assert all(chunk.exists() for chunk in chunks)
    same_answers(output, made.stored(tmp_path, range(8)))


def test_the_same_item_with_something_else(kind: str, tmp_path: Path) -> None:
    made, other = make(kind, 4), make(kind, 4, **SECOND)
    record(tmp_path / "out", made)
    record(tmp_path / "out", other, [2])
    first, second = Ledger(LocalStore(tmp_path / "out")).names()
    with pytest.raises(InputError, match="is on record twice") as caught:
        finish(tmp_path / "out")
    assert repr(made.ids[2]) in caught.value.message
    for name in (first, second):
        assert name.rpartition("-")[0] in caught.value.message


def test_what_is_missing(writer: str, tmp_path: Path) -> None:
    made = make(writer, 6)
    record(tmp_path / "out", made, [4, 1])
    with made.inspector(tmp_path / "out") as inspector:
        made.put(inspector, [0])
        assert inspector.missing(made.ids) == [made.ids[i] for i in (2, 3, 5)]
        record(tmp_path / "out", made, [3])
        assert inspector.missing(made.ids) == [made.ids[i] for i in (2, 5)]


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda inspector: pickle.loads(pickle.dumps(inspector)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_are_writers_of_their_own(
    writer: str, copied: Callable[[Any], Any], tmp_path: Path
) -> None:
    made = make(writer, 6)
    first = made.inspector(tmp_path / "out")
    made.put(first, [0, 1])
    second = copied(first)
    made.put(second, [2, 3, 4, 5])
    second.close()
    assert second.missing(made.ids) == made.ids[:2]
    first.close()
    assert len(list((tmp_path / "out/records").glob("*-000000"))) == 2
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_threads_share_one(writer: str, tmp_path: Path) -> None:
    made = make(writer, 24)
    with made.inspector(tmp_path / "out", flush=4) as inspector, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(made.put, inspector, [i, (i + 5) % 24]) for i in range(24)]:
            done.result()
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_what_could_not_be_written_is_written_later(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(writer, 6)
    inspector = made.inspector(tmp_path / "out", flush=2)

    def fail(*_: Any) -> None:
        raise StoreError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "write", fail)
        with pytest.raises(StoreError):
            made.put(inspector, [0, 1, 2])
    made.put(inspector, [3, 4, 5])
    inspector.close()
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_a_closed_inspector_takes_nothing(writer: str, tmp_path: Path) -> None:
    made = make(writer, 2)
    inspector = made.inspector(tmp_path / "out")
    inspector.close()
    with pytest.raises(InputError, match="this inspector is closed"):
        made.put(inspector, [0])


def test_parameters_must_be_those_of_the_first(writer: str, tmp_path: Path) -> None:
    made = make(writer, 2)
    record(tmp_path / "out", made)
    made.options = (
        {"alpha": 0.5} if writer == "boxes" else {"method": "confidence_weighted_entropy"}
    )
    with pytest.raises(OutputError, match=r"made with other parameters: .*was .* and is"):
        made.inspector(tmp_path / "out")


def test_an_output_of_another_kind_is_left_alone(writer: str, tmp_path: Path) -> None:
    made = make(writer, 4)
    stored = made.stored(tmp_path)
    before = files(stored)
    with pytest.raises(OutputError, match="is no output of an inspector"):
        made.inspector(stored)
    assert files(stored) == before
    with pytest.raises(InputError, match="output: "):
        made.inspector("s3://bucket/out", storage_options={"nonsense": 1})


def test_nothing_is_on_record(writer: str, tmp_path: Path) -> None:
    make(writer, 4).inspector(tmp_path / "out").close()
    with pytest.raises(InputError, match="has no records"):
        finish(tmp_path / "out")


def test_the_command_finishes_them(writer: str, tmp_path: Path) -> None:
    made = make(writer, 8)
    record(tmp_path / "out", made)
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("\n".join(made.ids))
    ran = run("dask", "labelqc", "finish", tmp_path / "out", "--manifest", manifest, "--quiet")
    assert (ran.status, ran.err) == (0, "")
    what = "images" if writer == "boxes" else "examples"
    assert table(ran.out)[what] == "8"
    same_answers(tmp_path / "out", made.stored(tmp_path))


def test_reports_name_items_by_their_ids(writer: str, tmp_path: Path) -> None:
    made = make(writer, 24)
    record(tmp_path / "out", made)
    report = finish(tmp_path / "out")
    found = report.open()
    if writer == "boxes":
        worst = found.image_id.values[np.argsort(found.image_score.values, kind="stable")[:5]]
        assert [name for name, _ in report.worst_images] == worst.tolist()
    else:
        worst = found.example_id.values[found.issue_index.values[:5]]
        assert list(report.worst_examples) == worst.tolist()
    assert worst[0] in report.summary()["worst images" if writer == "boxes" else "worst examples"]
