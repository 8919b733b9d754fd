"""What a job cannot use, in one clear error before it does anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

from dask_labelqc.errors import InputError, OutputError
from tests.clusters import local_cluster
from tests.pipeline.datasets import Stored, audit, check, write_case
from tests.strategies import make_case

CASE = make_case(140, (6, 4, 6), 3)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return write_case(tmp_path / "in.zarr", CASE)


def test_an_asynchronous_client(stored: Stored, tmp_path: Path) -> None:
    message = "client: it was made with asynchronous=True, and a job waits"

    async def run() -> None:
        async with (
            LocalCluster(
                n_workers=1, processes=False, dashboard_address=":0", asynchronous=True
            ) as cluster,
            Client(cluster, asynchronous=True, set_as_default=False) as client,
        ):
            with pytest.raises(InputError, match=message):
                audit(stored, tmp_path / "out", client=client)

    asyncio.run(run())
    assert not (tmp_path / "out").exists()


def test_what_is_no_client_or_is_none_any_more(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"client: got a str, it must be a dask\.distributed\.Cl"):
        audit(stored, tmp_path / "out", client="tcp://127.0.0.1:8786")
    with local_cluster(processes=False) as other:
        client = Client(other.cluster, set_as_default=False)
        client.close()
        with pytest.raises(InputError, match="client: its status is 'closed'; make a new one"):
            audit(stored, tmp_path / "out", client=client)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_an_output_in_an_input(name: str, stored: Stored) -> None:
    place = getattr(stored, name)
    for output in (place / "audit.zarr", f"file://{place}/c/audit.zarr"):
        with pytest.raises(OutputError, match=f"audit.zarr' lies in the array of the {name}, file"):
            audit(stored, output)
    assert not (place / "audit.zarr").exists()


def test_an_output_beside_the_inputs(stored: Stored) -> None:
    output = stored.labels.with_name("labels-audit")
    audit(stored, output)
    check(output, CASE)


@pytest.mark.parametrize(("name", "size"), [("image", 6), ("class", 3)])
def test_a_coordinate_that_cannot_be_decoded(
    name: str, size: int, stored: Stored, tmp_path: Path
) -> None:
    group = zarr.open_group(stored.labels.parent)
    group.create_array(name, data=np.arange(size), chunks=(size,), dimension_names=(name,))
    chunk = stored.labels.parent / name / "c/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-3])
    place = stored.labels.parent / name
    message = f"the coordinate '{name}' beside it, file://{place}, cannot be read"
    with pytest.raises(InputError, match=message) as raised:
        audit(stored, tmp_path / "out")
    assert "write it again or delete it, and then go on with resume=True" in str(raised.value)
    chunk.write_bytes(whole)
    found = check_with(stored, tmp_path / "out")
    np.testing.assert_array_equal(found[name], np.arange(size))


def check_with(stored: Stored, output: Path) -> Any:
    audit(stored, output, resume=True)
    return check(output, CASE)


def test_a_coordinate_of_any_size(stored: Stored, tmp_path: Path) -> None:
    group = zarr.open_group(stored.labels.parent)
    group.create_array(
        "image", shape=(10**13,), chunks=(10,), dtype="i8", dimension_names=("image",)
    )
    with pytest.raises(
        InputError, match=r"the coordinate 'image' at file://.* in memory at a time"
    ):
        audit(stored, tmp_path / "out")
