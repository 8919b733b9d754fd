"""The job from and to a real S3 server, with keys, over TCP."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client

from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.pipeline import audit_zarr, plan_audit
from tests import forks
from tests.forks import BIN
from tests.object_store.servers import Server
from tests.pipeline.datasets import check, files, write_case
from tests.strategies import make_case

pytestmark = pytest.mark.usefixtures("keys", "smallest_groups")
ONE_WRITER = ("--storage-option", "one_writer=true")
QUIET = {"progress": False, "group_bytes": 1}


def urls(bucket: Path) -> tuple[str, str, str]:
    """Labels, predictions and output in a bucket."""
    base = f"s3://{bucket.name}"
    return f"{base}/in.zarr/labels", f"{base}/in.zarr/pred_probs", f"{base}/out.zarr"


def test_from_and_to_s3_on_workers(client: Client, s3: Server, bucket: Path) -> None:
    """Stores travel to the workers, and what is written is the same as by threads."""
    case = make_case(70, (6, 8, 8), 3)
    write_case(bucket / "in.zarr", case)
    options = {"endpoint": s3.endpoint, "one_writer": True}
    plan = plan_audit(*urls(bucket)[:2], storage_options=options)
    assert plan.shape == (6, 3, 8, 8)
    report = audit_zarr(
        *urls(bucket), storage_options=options, client=client, write_pixel_scores=True, **QUIET
    )
    assert report.num_groups == 6
    check(bucket / "out.zarr", case)
    assert report.open().attrs["num_issues"] == report.num_issues > 0
    again = audit_zarr(
        *urls(bucket)[:2],
        f"s3://{bucket.name}/again.zarr",
        storage_options=options,
        write_pixel_scores=True,
        **QUIET,
    )
    assert again.num_issues == report.num_issues
    assert files(bucket / "again.zarr") == files(bucket / "out.zarr")


def test_the_command_line_with_keys_in_the_environment(s3: Server, bucket: Path) -> None:
    case = make_case(71, (4, 8, 8), 3)
    write_case(bucket / "in.zarr", case)
    option = ("--storage-option", f"endpoint={s3.endpoint}", *ONE_WRITER)
    shown = run("info", f"s3://{bucket.name}/in.zarr", *option)
    assert "4 of 8 x 8 pixels" in shown
    printed = run("audit", *urls(bucket), *option, "--quiet", "--workers", "1")
    assert urls(bucket)[2] in printed
    check(bucket / "out.zarr", case)


def run(*arguments: str, status: int = 0) -> str:
    """Run a command of the package and return what it prints."""
    ran = forks.run(BIN / "dask", "labelqc", *arguments)
    assert ran.status == status, ran.err
    return ran.out + ran.err


def test_a_failed_audit_leaves_nothing_in_the_bucket(s3: Server, bucket: Path) -> None:
    case = make_case(73, (4, 8, 8), 3)
    case.labels[:] = 77
    write_case(bucket / "in.zarr", case)
    with pytest.raises(InputError, match="the first is 77 at image"):
        audit_zarr(
            *urls(bucket), storage_options={"endpoint": s3.endpoint, "one_writer": True}, **QUIET
        )
    assert not files(bucket / "out.zarr")


def test_an_output_that_exists(s3: Server, bucket: Path) -> None:
    write_case(bucket / "in.zarr", make_case(72, (2, 8, 8), 3))
    options = {"endpoint": s3.endpoint, "one_writer": True}
    audit_zarr(*urls(bucket), storage_options=options, **QUIET)
    before = files(bucket / "out.zarr")
    with pytest.raises(OutputError, match="exists already"):
        audit_zarr(*urls(bucket), storage_options=options, **QUIET)
    audit_zarr(*urls(bucket), storage_options=options, resume=True, **QUIET)
    audit_zarr(*urls(bucket), storage_options=options, overwrite=True, **QUIET)
    assert files(bucket / "out.zarr") == before
    with pytest.raises(OutputError, match="holds the labels that are to be read"):
        audit_zarr(*urls(bucket)[:2], f"s3a://{bucket.name}/in.zarr/", storage_options=options)


def test_what_is_not_there(s3: Server, bucket: Path) -> None:
    write_case(bucket / "in.zarr", make_case(73, (2, 8, 8), 3))
    labels, pred_probs, output = urls(bucket)
    options = {"endpoint": s3.endpoint, "one_writer": True}
    with pytest.raises(InputError, match=f"labels: there is no Zarr array at '{labels}x'"):
        audit_zarr(labels + "x", pred_probs, output, storage_options=options)
    with pytest.raises(InputError, match="is a Zarr group; name the array in it"):
        audit_zarr(f"s3://{bucket.name}/in.zarr", pred_probs, output, storage_options=options)
    with pytest.raises(InputError, match="labels: there is no Zarr array at 's3://nobucket/l"):
        audit_zarr("s3://nobucket/labels", pred_probs, output, storage_options=options)
