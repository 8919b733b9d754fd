"""URLs of every protocol, and real servers of those that need no cloud."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore

from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.errors import InputError
from dask_labelqc.object_detection import audit as audit_boxes
from dask_labelqc.object_detection.dataset import from_lists
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.segmentation import common_label_issues, find_label_issues
from dask_labelqc.storage.arrays import open_array, siblings
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.storage.stores import RemoteStore, is_remote, open_store, store_url
from tests.object_detection.boxes import make_lists
from tests.object_store.servers import Server, serve
from tests.pipeline.datasets import check, write_case
from tests.strategies import make_case

URLS = {
    "s3://bucket/a.zarr": (S3Store, "s3://bucket/a.zarr"),
    "s3a://bucket/a.zarr/": (S3Store, "s3://bucket/a.zarr"),
    "gs://bucket/a.zarr": (GCSStore, "gs://bucket/a.zarr"),
    "az://container/a.zarr": (AzureStore, "az://container/a.zarr"),
    "abfss://container@account.dfs.core.windows.net/a.zarr": (
        AzureStore,
        "az://container/a.zarr",
    ),
    "http://host:8080/a.zarr": (HTTPStore, "http://host:8080/a.zarr"),
    "https://host/a.zarr": (HTTPStore, "https://host/a.zarr"),
}


@pytest.mark.parametrize("url", URLS)
def test_the_store_of_a_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Google or Azure here: this is as far as it goes without them."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    kind, place = URLS[url]
    options = {"anonymous": True, "region": "eu-central-1", "timeout": "9s", "max_retries": "2"}
    store = open_store(url, options)
    assert isinstance(store, RemoteStore)
    assert isinstance(store.inside, ObjectStore)
    assert isinstance(store.inside.store, kind)
    assert store_url(store) == place
    assert store_url(store.inside) == place
    assert is_remote(store)
    assert store.read_only
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert again.inside.store is store.inside.store  # one set of connections in a process
    if kind is not HTTPStore:
        assert store.inside.store.config["skip_signature"] in ("true", True)
    assert store.inside.store.retry_config["max_retries"] == 2


def test_options_of_each_protocol() -> None:
    """One mapping serves all URLs of a call, which may lie in different places."""
    options = {
        "s3": {"endpoint": "http://127.0.0.1:9000"},
        "gs": {"endpoint": "http://127.0.0.1:9001"},
        "max_retries": 1,
    }
    s3 = open_store("s3://bucket/a", options).inside.store
    assert s3.config["endpoint"] == "http://127.0.0.1:9000"
    assert s3.client_options["allow_http"] in ("true", True)
    assert open_store("gs://bucket/a", options).inside.store.config["base_url"].endswith(":9001")
    assert isinstance(open_store("https://host/a", options).inside.store, HTTPStore)


def test_local_stores(tmp_path: Path) -> None:
    for path in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        store = open_store(path)
        assert isinstance(store, LocalStore)
        assert store.root == tmp_path
        assert store_url(store) == f"file://{tmp_path}"
    assert not is_remote(store)
    assert not is_remote(MemoryStore())


def test_a_file_url_for_the_output(tmp_path: Path) -> None:
    case = make_case(60, (2, 8, 8), 3)
    stored = write_case(tmp_path / "in", case)
    urls = [f"file://{path}" for path in (*stored, tmp_path / "made" / "out")]
    report = audit_zarr(*urls, progress=False)
    check(tmp_path / "made" / "out", case)
    assert report.open().attrs["num_issues"] == report.num_issues


def test_inputs_over_http(tmp_path: Path) -> None:
    case = make_case(61, (4, 8, 8), 3)
    write_case(tmp_path / "served" / "in", case)
    with serve("http", tmp_path / "served") as server:
        labels, pred_probs = (f"{server.endpoint}/in/{n}" for n in ("labels", "pred_probs"))
        audit_zarr(labels, pred_probs, tmp_path / "out", progress=False)
        check(tmp_path / "out", case)
        beside = siblings(open_array(labels, "labels", {"timeout": "9s"}))
        assert beside["pred_probs"].shape == (4, 3, 8, 8)
        # Opened as the array was: another server would be asked without its options.
        own = open_array(labels, "labels", {"timeout": "9s"}).store.inside.store
        assert beside.store.inside.store.client_options == own.client_options
        with pytest.raises(InputError, match="labels: there is no Zarr array at"):
            audit_zarr(labels + "x", pred_probs, tmp_path / "out")
        with pytest.raises(InputError, match=r"output: 'http.*' can only be read, over HTTP"):
            audit_zarr(labels, pred_probs, f"{server.endpoint}/out")


def test_any_other_protocol_by_fsspec(tmp_path: Path, client: Client) -> None:
    """The one of its protocols that several processes can write without another package."""
    case = make_case(62, (4, 8, 8), 3)
    write_case(tmp_path / "in", case)
    options = {"auto_mkdir": True, "one_writer": True}
    urls = [f"local://{tmp_path / name}" for name in ("in/labels", "in/pred_probs", "out")]
    store = open_store(urls[0], options)
    assert isinstance(store, RemoteStore)
    assert isinstance(store.inside, FsspecStore)
    report = audit_zarr(*urls, storage_options=options, progress=False, client=client)
    check(tmp_path / "out", case)
    assert report.open().attrs["num_issues"] == report.num_issues
    with pytest.raises(InputError, match=f"labels: there is no Zarr array at '{urls[0]}x'"):
        open_array(f"{urls[0]}x", "labels", options)


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(InputError, match=r"labels: nosuch://host/a cannot be opened: .*nosuch"):
        open_array("nosuch://host/a", "labels")


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(InputError, match=r'pip install "dask-labelqc\[cloud\]"'):
        open_store("s3://bucket/never-opened-before")


@pytest.mark.usefixtures("keys")
def test_the_python_functions(s3: Server, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the environment are enough for what takes a URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    case = make_case(63, (4, 8, 8), 3)
    write_case(bucket / "in.zarr", case)
    rng = np.random.default_rng(0)
    probs = rng.dirichlet((1, 1, 1), 40)
    examples = zarr.open_group(bucket / "examples.zarr", mode="w")
    examples.create_array("labels", data=rng.integers(0, 3, 40))
    examples.create_array("pred_probs", data=probs)
    box = np.array([[10.0, 10.0, 50.0, 50.0]])
    boxes = from_lists(
        [{"bboxes": box, "labels": np.array([0])}], [[np.c_[box + 1, [[0.9]]], np.zeros((0, 5))]]
    )
    boxes.to_zarr(bucket / "boxes.zarr", consolidated=False)
    report = audit_zarr(
        "s3://bucket/in.zarr/labels",
        "s3://bucket/in.zarr/pred_probs",
        "s3://bucket/out.zarr",
        progress=False,
        storage_options={"one_writer": True},
    )
    group = zarr.open_group(open_store("s3://bucket/in.zarr"), mode="r")
    mask = find_label_issues(group["labels"], group["pred_probs"]).compute()
    np.testing.assert_array_equal(mask, report.open().label_issues)
    common = common_label_issues("s3://bucket/out.zarr", verbose=False)
    assert common.num_pixel_issues.sum() == report.num_issues

    issues = find_label_issues_batched(
        labels_file="s3://bucket/examples.zarr/labels",
        pred_probs_file="s3://bucket/examples.zarr/pred_probs",
    )
    np.testing.assert_array_equal(
        issues, find_label_issues_batched(examples["labels"][:], examples["pred_probs"][:])
    )

    found = audit_boxes("s3://bucket/boxes.zarr").compute()
    assert found.equals(audit_boxes(bucket / "boxes.zarr").compute())


def test_boxes_over_plain_http(bucket: Path) -> None:
    """Which answers no request for a list: not of the arrays, nor of their chunks."""
    boxes = from_lists(*make_lists(0))
    for name in ("boxes.zarr", "torn.zarr"):
        boxes.to_zarr(bucket / name, consolidated=False)
        consolidate(zarr.open_group(bucket / name))
    shutil.rmtree(bucket / "torn.zarr" / "given_boxes" / "c" / "0")
    with serve("http", bucket) as server:
        found = audit_boxes(f"{server.endpoint}/boxes.zarr").compute()
        with pytest.raises(InputError, match="given_boxes: 1 of 1 chunks are not in the store"):
            audit_boxes(f"{server.endpoint}/torn.zarr")
    assert found.equals(audit_boxes(boxes))
