"""The job through a proxy that delays, breaks and refuses requests: the same bytes, or the key."""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from dask_labelqc.errors import LabelQCError, OutputError
from dask_labelqc.pipeline import audit_zarr
from tests.forks import Fork, run
from tests.object_store.proxy import FAULTS, Proxy, proxy
from tests.object_store.servers import LABELS, PROBS, Server
from tests.pipeline.datasets import check, files, write_case
from tests.strategies import make_case

pytestmark = pytest.mark.usefixtures("keys", "smallest_groups")
QUICK = {"init_backoff": "5ms", "max_backoff": "50ms"}
"""Retries as they are otherwise, without the waiting."""
ARGUMENTS = {
    "progress": False,
    "group_bytes": 1,
    "write_pixel_scores": True,
    "write_predicted_label": True,
}


def audit(through: Proxy | Server, output: str, **arguments: Any) -> Any:
    options = (
        {"endpoint": through.endpoint, "one_writer": True}
        | QUICK
        | arguments.pop("storage_options", {})
    )
    return audit_zarr(
        LABELS,
        PROBS,
        f"s3://bucket/{output}",
        storage_options=options,
        **(ARGUMENTS | arguments),
    )


@pytest.fixture
def case(bucket: Path) -> Any:
    case = make_case(80, (12, 16, 16), 3)
    write_case(bucket / "in.zarr", case)
    return case


@pytest.mark.parametrize("where", ["threads", "workers"])
def test_the_same_bytes_where_one_in_twenty_requests_fails(
    where: str, case: Any, s3: Server, bucket: Path, client: Client
) -> None:
    audit(s3, "whole.zarr")
    injected = 0
    with proxy(s3.port, rate=0.05, seed=1) as faulty:
        for run in range(2):
            audit(faulty, f"out{run}.zarr", client=client if where == "workers" else None)
            assert files(bucket / f"out{run}.zarr") == files(bucket / "whole.zarr")
        injected = sum(faulty.injected.values())
        assert injected > 0.02 * sum(faulty.requests.values())
    check(bucket / "out0.zarr", case)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_retried(fault: str, case: Any, s3: Server, bucket: Path) -> None:
    audit(s3, "whole.zarr")
    with proxy(s3.port, rate=0.2, faults=(fault,), seed=2) as faulty:
        audit(faulty, "out.zarr")
        assert faulty.injected[fault] > 10
    assert files(bucket / "out.zarr") == files(bucket / "whole.zarr")


@pytest.mark.parametrize("where", ["threads", "workers"])
def test_an_object_that_is_never_answered(
    where: str, case: Any, s3: Server, bucket: Path, client: Client
) -> None:
    options = {"max_retries": 1}
    with (
        proxy(s3.port, broken="in.zarr/pred_probs/c/7/") as faulty,
        pytest.raises(LabelQCError) as raised,
    ):
        audit(
            faulty,
            "out.zarr",
            client=client if where == "workers" else None,
            storage_options=options,
        )
    message = str(raised.value)
    assert "s3://bucket/in.zarr/pred_probs/c/7/0/0/0 cannot be read" in message
    assert "pred_probs of image 7" in message
    assert "503" in message
    assert "SlowDown" in message
    assert "\n" not in message
    assert str(pickle.loads(pickle.dumps(raised.value))) == message
    audit(s3, "out.zarr", resume=True)
    check(bucket / "out.zarr", case)


@pytest.mark.parametrize(
    "key",
    ["label_issues/c/3/0/0", "pixel_scores/c/3/0/0", "checkpoint/summaries/c/3", "issue_matrix/"],
)
def test_an_object_that_cannot_be_written(key: str, case: Any, s3: Server, bucket: Path) -> None:
    with (
        proxy(s3.port, broken=f"out.zarr/{key}") as faulty,
        pytest.raises((LabelQCError, OutputError)) as raised,
    ):
        audit(faulty, "out.zarr", storage_options={"max_retries": 1})
    assert f"s3://bucket/out.zarr/{key}" in str(raised.value)
    audit(s3, "out.zarr", resume=True)
    check(bucket / "out.zarr", case)


def test_a_server_that_is_gone(case: Any, s3: Server, bucket: Path) -> None:
    with proxy(1) as nothing, pytest.raises(LabelQCError, match=r"labels: s3://bucket/in\.zarr/"):
        audit(nothing, "out.zarr", storage_options={"max_retries": 1})


RUN = """
import sys
from dask_labelqc import plan as blocks
from dask_labelqc.pipeline import audit_zarr

blocks.BLOCK_BYTES = 1
options = {"endpoint": sys.argv[4], "one_writer": True}
arguments = dict(resume=True, progress=False, group_bytes=1, n_jobs=2)
audit_zarr(*sys.argv[1:4], storage_options=options, **arguments)
"""


def test_killed_and_started_again(case: Any, s3: Server, bucket: Path) -> None:
    """Killed in the middle of a stage, with requests under way; then the same command again."""
    audit(s3, "whole.zarr", write_pixel_scores=False, write_predicted_label=False)
    with proxy(s3.port, delay=0.02) as slow:
        command = [sys.executable, "-c", RUN, LABELS, PROBS, "s3://bucket/out.zarr", slow.endpoint]
        for stop in ("pred_probs/c/6/", "label_issues/c/5/"):
            with Fork(*command) as process:
                while not any(stop in path for _, path in slow.paths):
                    assert process.poll() is None
                    time.sleep(0.001)
                process.kill()
        assert sum("pred_probs/c/6/" in path for _, path in slow.paths) <= 2
        assert run(*command).status == 0
    assert files(bucket / "out.zarr") == files(bucket / "whole.zarr")
    check(bucket / "out.zarr", case)
