"""Claims in object stores: those that can create an object in one step, and those that cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask
import pytest
from click.testing import CliRunner

from dask_labelqc.cli import labelqc
from dask_labelqc.errors import BlockError, LabelQCError, OutputError
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.pipeline.lease import CLAIMS
from dask_labelqc.storage.objects import create_object, list_names, read_object, write_object
from dask_labelqc.storage.stores import open_store
from tests.object_store.proxy import proxy
from tests.object_store.servers import Server, serve_conditional_s3
from tests.pipeline.datasets import Stored, audit, write_case
from tests.pipeline.progress import At, Stop
from tests.strategies import make_case

pytestmark = pytest.mark.usefixtures("keys", "smallest_groups")
CASE = make_case(85, (8, 8, 8), 3)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in", CASE)


@pytest.fixture(scope="module")
def conditional() -> Iterator[Server]:
    with serve_conditional_s3() as server:
        yield server


def options(server: Server) -> dict:
    return {"endpoint": server.endpoint, "region": "us-east-1"}


def test_one_of_many_creates_an_object(conditional: Server) -> None:
    store = open_store("s3://bucket/many", options(conditional), read_only=False)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: create_object(store, "one", str(i).encode()), range(16)))
    assert won.count(True) == 1
    assert read_object(store, "one") == str(won.index(True)).encode()


def test_one_of_many_creates_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a link, and where there are none by opening it exclusively."""
    import os

    def refuse(*args: object) -> None:
        raise PermissionError("no links here")

    store = open_store(tmp_path, read_only=False)
    for name in ("linked", "opened"):
        with ThreadPoolExecutor(8) as pool:
            contents = [str(i).encode() for i in range(64)]
            won = list(pool.map(partial(create_object, store, name), contents))
        assert won.count(True) == 1
        assert read_object(store, name) == str(won.index(True)).encode()
        monkeypatch.setattr(os, "link", refuse)
    assert sorted(list_names(store, "")) == ["linked", "opened"]


def test_a_store_that_ignores_the_condition_is_refused(
    s3: Server, stored: Stored, bucket: Path
) -> None:
    """And nothing stays behind; who promises that there is one writer may use it."""
    with pytest.raises(OutputError, match=r"cannot create an object only if .*'one_writer': True"):
        audit(stored, "s3://bucket/out", storage_options={"endpoint": s3.endpoint})
    arguments = ["audit", *map(str, stored), "s3://bucket/out", "--workers=0", "--quiet"]
    endpoint = f"--storage-option=endpoint={s3.endpoint}"
    said = CliRunner().invoke(labelqc, [*arguments, endpoint]).stderr
    assert "say so: --storage-option one_writer=true" in said
    assert not [path for path in bucket.rglob("*") if path.is_file()]
    promised = {"endpoint": s3.endpoint, "one_writer": True}
    audit(stored, "s3://bucket/out", storage_options=promised)
    with pytest.raises(OutputError, match="exists already"):
        audit(stored, "s3://bucket/out", storage_options=promised)
    with dask.config.set({"labelqc.one-writer": True}):
        audit(stored, "s3://bucket/set", storage_options={"endpoint": s3.endpoint})


def test_a_store_that_knows_no_condition_is_refused(
    conditional: Server, stored: Stored, tmp_path: Path
) -> None:
    disabled = options(conditional) | {"conditional_put": "disabled"}
    with pytest.raises(OutputError, match="cannot create an object only if there is none"):
        audit(stored, "s3://bucket/disabled", storage_options=disabled)
    with pytest.raises(OutputError, match="cannot create an object only if there is none"):
        audit(stored, f"local://{tmp_path}/out", storage_options={"auto_mkdir": True})


@pytest.mark.parametrize("again", [{"resume": True}, {"overwrite": True}])
def test_the_second_of_two_jobs_is_refused(
    again: dict, conditional: Server, stored: Stored
) -> None:
    output = f"s3://bucket/second-{'resume' in again}"

    def second() -> None:
        with pytest.raises(OutputError, match="is being written by another job"):
            audit(stored, output, storage_options=options(conditional), **again)

    asked = At(4, second)
    audit(stored, output, storage_options=options(conditional), progress=asked)
    assert asked.count < 0
    audit(stored, output, storage_options=options(conditional), **again)
    store = open_store(output, options(conditional))
    assert list_names(store, "checkpoint") == []


def test_what_was_taken_over_writes_nothing(conditional: Server, stored: Stored) -> None:
    output = "s3://bucket/taken"
    store = open_store(output, options(conditional), read_only=False)

    def take_over() -> None:
        write_object(store, f"{CLAIMS}/000000", json.dumps({"id": "another"}).encode())

    with pytest.raises(OutputError, match="was taken over by another job"):
        audit(
            stored,
            output,
            storage_options=options(conditional),
            progress=At(4, take_over),
            n_jobs=1,
        )
    assert json.loads(read_object(store, f"{CLAIMS}/000000") or b"") == {"id": "another"}
    assert len(list_names(store, "checkpoint/summaries/c")) <= 6


def test_changed_inputs_by_their_etags(s3: Server, bucket: Path) -> None:
    """The same bytes written again are no change, whenever they were written."""
    stored = write_case(bucket / "in.zarr", CASE)
    urls = [f"s3://bucket/in.zarr/{name}" for name in ("labels", "pred_probs")]
    about = {"endpoint": s3.endpoint, "one_writer": True}
    quiet = {"progress": False, "group_bytes": 1, "storage_options": about}
    with pytest.raises(KeyboardInterrupt):
        audit_zarr(*urls, "s3://bucket/out", **quiet | {"progress": Stop("paint", 1)})
    store = open_store(urls[0], about, read_only=False)
    keys = [f"c/{image}/0/0" for image in range(3)]
    for key in keys:
        write_object(store, key, (stored.labels / key).read_bytes())
    other = (stored.labels / "c/7/0/0").read_bytes()
    write_object(store, keys[1], other)
    report = audit_zarr(*urls, "s3://bucket/out", resume=True, **quiet)
    assert report.num_resumed == 7


def test_the_cause_comes_first_where_keys_are_refused(
    s3: Server, stored: Stored, bucket: Path
) -> None:
    """In the middle of a job nothing is answered any more: the images, and the way on."""
    with proxy(s3.port) as faulty:
        about = {"endpoint": faulty.endpoint, "one_writer": True, "max_retries": 0}

        def refuse() -> None:
            faulty.broken = "/bucket/out"

        with pytest.raises(LabelQCError) as raised:
            audit(stored, "s3://bucket/out", storage_options=about, progress=At(2, refuse))
    message = str(raised.value)
    assert isinstance(raised.value, BlockError)
    assert message.startswith("summarize: image")
    assert "cannot be written" in message
    assert "resume=True goes on from here" in message
    assert "(the claim on the output could not be taken back either: " in message
    assert "\n" not in message
