"""Keys are nowhere but in the environment, a profile, and the stores that use them."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import zarr
from distributed import Client

from dask_labelqc.errors import InputError, LabelQCError
from dask_labelqc.pipeline import audit_zarr, plan_audit
from dask_labelqc.segmentation import find_label_issues
from dask_labelqc.storage.arrays import open_array
from dask_labelqc.storage.connections import parse_storage_options
from dask_labelqc.storage.stores import open_store
from tests.forks import BIN, run
from tests.object_store.servers import KEY_ID, SECRET, Server
from tests.pipeline.datasets import check, files, write_case
from tests.strategies import make_case

LABELS, PROBS, OUTPUT = (
    f"s3://bucket/{n}" for n in ("in.zarr/labels", "in.zarr/pred_probs", "out")
)
COMMAND = [BIN / "dask", "labelqc"]


@pytest.fixture
def case(bucket: Path) -> Any:
    case = make_case(90, (4, 8, 8), 3)
    write_case(bucket / "in.zarr", case)
    return case


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key in the environment of this process; the workers have none either way."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def given(s3: Server, **more: object) -> dict[str, object]:
    key = {"access_key_id": KEY_ID, "secret_access_key": SECRET}
    return {"endpoint": s3.endpoint, "one_writer": True, **key, **more}


def no_secret(text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    assert SECRET.encode() not in data
    assert KEY_ID.encode() not in data


def test_nowhere_in_an_output_a_name_or_a_log(
    case: Any,
    s3: Server,
    bucket: Path,
    client: Client,
    no_keys: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Keys in `storage_options` travel to the workers, and are not to be seen on the way."""
    caplog.set_level(logging.DEBUG)

    report = audit_zarr(
        LABELS, PROBS, OUTPUT, storage_options=given(s3), client=client, group_bytes=1
    )
    check(bucket / "out", case)
    no_secret(repr(report))
    no_secret(repr(report.open()))
    no_secret(str(report.open().attrs))
    for data in files(bucket / "out").values():
        no_secret(data)
    no_secret(caplog.text)
    no_secret("".join(capfd.readouterr()))


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "by protocol"])
def test_nowhere_in_a_pickled_report(
    nested: bool, case: Any, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is unpickled the endpoint is known, and keys are those of the environment."""
    options = {"s3": given(s3)} if nested else given(s3, proxy_excludes="a@b")
    report = audit_zarr(LABELS, PROBS, OUTPUT, storage_options=options, progress=False)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        no_secret(pickle.dumps(report, protocol))
    no_secret(cloudpickle.dumps(report))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    again = pickle.loads(pickle.dumps(report))
    assert again.open().identical(report.open())
    assert again.summary() == report.summary()
    assert report.storage_options == options


def test_nowhere_in_the_records_of_a_job_that_failed(
    case: Any, s3: Server, bucket: Path, no_keys: None
) -> None:
    (bucket / "in.zarr" / "pred_probs" / "c" / "2" / "0" / "0" / "0").write_bytes(b"short")
    with pytest.raises(LabelQCError) as raised:
        audit_zarr(LABELS, PROBS, OUTPUT, storage_options=given(s3), group_bytes=1, progress=False)
    no_secret(str(raised.value))
    stored = files(bucket / "out")
    assert any(name.startswith("checkpoint/") for name in stored)
    for data in stored.values():
        no_secret(data)


def test_nowhere_in_a_graph(case: Any, s3: Server, no_keys: None) -> None:
    labels, pred_probs = (open_array(url, "x", given(s3)) for url in (LABELS, PROBS))
    mask = find_label_issues(labels, pred_probs)
    graph = dict(mask.__dask_graph__())
    no_secret(repr(mask) + repr(graph) + str(mask.__dask_graph__()))
    for array in (labels, pred_probs):
        no_secret(repr(array) + str(array.store) + repr(array.store) + str(array.store_path))
        again = pickle.loads(pickle.dumps(array))
        assert (again[:] == array[:]).all()
        assert again.store == array.store
    assert mask.sum().compute() > 0


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_nowhere_in_an_error(wrong: str, case: Any, s3: Server, no_keys: None) -> None:
    """The server's answer quotes what it was asked with; the message does not."""
    name, value = {
        "key": ("access_key_id", "WRONGKEYID9999"),
        "secret": ("secret_access_key", "wrong-secret-9999"),
    }[wrong]
    with pytest.raises(
        InputError, match=r"labels: s3://bucket/in.zarr/labels/.* cannot be read"
    ) as e:
        plan_audit(LABELS, PROBS, storage_options=given(s3, **{name: value}))
    text = str(e.value)
    no_secret(text)
    assert value not in text
    assert "\n" not in text


def test_a_key_in_a_url_is_refused() -> None:
    for url in (
        f"s3://{KEY_ID}:{SECRET}@bucket/in.zarr",
        f"https://user:{SECRET}@host/in.zarr",
        f"ftp://user:{SECRET}@host/in.zarr",
        f"simplecache::s3://{KEY_ID}:{SECRET}@bucket/in.zarr",
        f"abfss://user:{SECRET}@account.dfs.core.windows.net/in.zarr",
    ):
        with pytest.raises(InputError, match=r"labels: a .*:// URL has a user or a key in it") as e:
            plan_audit(url, PROBS)
        no_secret(str(e.value))
    with pytest.raises(InputError, match="has a query or a fragment") as raised:
        plan_audit(f"https://host/in.zarr?X-Amz-Signature={SECRET}", PROBS)
    no_secret(str(raised.value))


@pytest.mark.parametrize(
    "name",
    [
        "access_key_id",
        "secret_access_key",
        "aws_session_token",
        "account_key",
        "sas_token",
        "bearer_token",
        "password",
        "service_account_key",
        "default_headers",
    ],
)
def test_a_secret_on_the_command_line_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"storage_options: {name} is a secret") as raised:
        parse_storage_options([f"{name}={SECRET}"])
    no_secret(str(raised.value))


def test_the_command_refuses_a_secret(s3: Server) -> None:
    for option in (f"secret_access_key={SECRET}", f"endpoint=http://u:{SECRET}@host"):
        command = [*COMMAND, "info", "s3://bucket/in.zarr", "--storage-option", option]
        ran = run(*command)
        assert ran.status == 1
        assert "does not belong on a command line" in ran.err
        no_secret(ran.out + ran.err)


def test_what_is_no_option() -> None:
    with pytest.raises(InputError, match="storage_options: got 'region', it must be KEY=VALUE"):
        parse_storage_options(["region"])
    with pytest.raises(InputError, match="'bogus' is not valid for store 'S3'"):
        open_store("s3://bucket/in.zarr", {"bogus": "1"})
    with pytest.raises(InputError, match=r'timeout is .soon., it must be a time such as "30s"'):
        open_store("s3://bucket/in.zarr", {"timeout": "soon"})
    with pytest.raises(InputError, match="anonymous is 'perhaps', it must be true or false"):
        open_store("s3://bucket/in.zarr", {"anonymous": "perhaps"})


@pytest.mark.parametrize("how", ["option", "environment"])
def test_keys_of_a_profile(
    how: str, case: Any, s3: Server, tmp_path: Path, no_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    options = {"endpoint": s3.endpoint, "region": "us-east-1"}
    if how == "environment":
        monkeypatch.setenv("AWS_PROFILE", "mine")
    else:
        options["profile"] = "mine"
    assert plan_audit(LABELS, PROBS, storage_options=options).shape == (4, 3, 8, 8)
    array = pickle.loads(pickle.dumps(open_array(LABELS, "labels", options)))
    assert array[:].shape == (4, 8, 8)
    with pytest.raises(InputError, match="profile: 'other' cannot be used"):
        plan_audit(LABELS, PROBS, storage_options=options | {"profile": "other"})


def test_no_key_at_all(case: Any, s3: Server, no_keys: None) -> None:
    """Without a signature, where the server wants one."""
    options = {"endpoint": s3.endpoint, "anonymous": "true"}
    with pytest.raises(InputError, match=r"labels: s3://bucket/in.zarr/labels/"):
        plan_audit(LABELS, PROBS, storage_options=options)
    assert isinstance(open_store(LABELS, options), zarr.abc.store.Store)
