"""Boxes and examples are put on record in an object store, and finished there on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr
from distributed import Client

from dask_labelqc.storage.objects import list_names
from dask_labelqc.storage.stores import open_store
from tests.inspectors.columns import KINDS, finish, make, same_answers
from tests.object_store.servers import Server, serve_conditional_s3

pytestmark = pytest.mark.usefixtures("keys")


@pytest.fixture(scope="module")
def conditional() -> Iterator[Server]:
    with serve_conditional_s3() as server:
        yield server


@pytest.mark.filterwarnings("ignore:Consolidated metadata:zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_finished_added_to_and_finished_again(
    kind: str, client: Client, conditional: Server, tmp_path: Path
) -> None:
    options = {"endpoint": conditional.endpoint, "region": "us-east-1"}
    output = f"s3://bucket/{kind}.zarr"
    made = make(kind, 10)
    for items in (range(6), range(4, 10)):
        with made.inspector(output, flush=3, storage_options=options) as inspector:
            made.put(inspector, items)
        report = finish(output, client=client, n_jobs=None, storage_options=options)
    report.open().load().to_zarr(tmp_path / "found", consolidated=True)
    assert xr.open_zarr(tmp_path / "found").sizes
    same_answers(tmp_path / "found", made.stored(tmp_path))
    listed = list_names(open_store(output, options), "records")
    assert len([name for name in listed if "." in name and not name.endswith("json")]) == 1
