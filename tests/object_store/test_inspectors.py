"""Records of inspectors in object stores: from several writers, shuffled, and finished there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from dask_labelqc import InputError, OutputError, SegmentationInspector, finish_audit
from dask_labelqc.storage.objects import list_names
from dask_labelqc.storage.stores import open_store
from tests.inspectors.recording import names, put
from tests.object_store.servers import Server, serve_conditional_s3
from tests.pipeline.datasets import audit, check, write_case
from tests.strategies import Case, make_case

pytestmark = pytest.mark.usefixtures("keys")
CASE = make_case(90, (9, 6, 8), 3)


@pytest.fixture(scope="module")
def conditional() -> Iterator[Server]:
    with serve_conditional_s3() as server:
        yield server


def record(output: str, options: dict) -> None:
    """Three ranks, in a random order, with images that come twice."""
    order = np.random.default_rng(0).permutation(9)
    for rank in range(3):
        with SegmentationInspector(
            output, 3, flush_images=2, storage_options=options
        ) as inspecting:
            for image in (*order[rank::3], order[rank - 1]):
                put(inspecting, CASE, [int(image)])


def test_several_writers_to_s3(client: Client, s3: Server, bucket: Path) -> None:
    """Of a server that knows no conditional writes: no two writers have one name."""
    options = {"endpoint": s3.endpoint, "one_writer": True}
    (bucket / "here").mkdir()
    record("s3://bucket/out.zarr", options)
    with SegmentationInspector("s3://bucket/out.zarr", 3, storage_options=options) as inspecting:
        assert inspecting.missing([*names(CASE), "another"]) == ["another"]
    with pytest.raises(OutputError, match="num_classes was 3 and is 4"):
        SegmentationInspector("s3://bucket/out.zarr", 4, storage_options=options)
    report = finish_audit(
        "s3://bucket/out.zarr", client=client, storage_options=options, progress=False
    )
    assert report.num_images == 9
    found = report.open()
    assert found.image_id.values.tolist() == names(CASE)


def test_a_server_that_knows_conditional_writes(conditional: Server, tmp_path: Path) -> None:
    """The same answers as on disk; finished, added to and finished again."""
    options = {"endpoint": conditional.endpoint, "region": "us-east-1"}
    output = "s3://bucket/audit.zarr"
    with pytest.raises(InputError, match="has no records of an inspector"):
        finish_audit(output, storage_options=options, progress=False)
    record(output, options)
    finish_audit(output, storage_options=options, progress=False)
    more = Case(np.tile(CASE.labels[:1], (2, 1, 1)), np.tile(CASE.pred_probs[:1], (2, 1, 1, 1)))
    with SegmentationInspector(output, 3, storage_options=options) as inspecting:
        inspecting.update(["tile_9990", "tile_9991"], more.labels, pred_probs=more.pred_probs)
    report = finish_audit(output, storage_options=options, progress=False)
    both = Case(
        np.concatenate([CASE.labels, more.labels]),
        np.concatenate([CASE.pred_probs, more.pred_probs]),
    )
    audit(write_case(tmp_path / "in", both), tmp_path / "stored")
    expected, found = check(tmp_path / "stored", both), report.open()
    for name, variable in expected.data_vars.items():
        assert found[name].values.tobytes() == variable.values.tobytes(), name
    store = open_store(output, options)
    assert "checkpoint" not in list_names(store, "")
    assert len(list_names(store, "records")) == 1 + 3 * 2 + 1
