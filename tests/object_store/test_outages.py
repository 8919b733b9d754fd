"""A server that is gone for a while, for real: nobody listens on its port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import zarr
from distributed import Client

from dask_labelqc.errors import InputError, LabelQCError
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.progress import NoProgress
from dask_labelqc.storage.outages import is_unreachable, pauses
from dask_labelqc.storage.stores import open_store
from tests.object_store.proxy import proxy
from tests.object_store.servers import LABELS, PROBS, Server, serve_s3
from tests.pipeline.datasets import check, files, write_case
from tests.strategies import make_case

pytestmark = pytest.mark.usefixtures("keys", "smallest_groups")
SECONDS = 15.0
"""For which the server is gone: longer than obstore waits by itself."""
CASE = make_case(85, (12, 16, 16), 3)


class Gone(NoProgress):
    """Stops a server in the middle of a job, and starts it again on the same port after a while."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.count = folder, 4
        self.stack = stack
        self.server = ExitStack()
        self.port = self.server.enter_context(serve_s3(folder)).port
        stack.callback(self.server.close)

    def advance(self, num_bytes: int = 0) -> None:
        self.count -= 1
        if self.count == 0:
            self.server.close()
            back = threading.Timer(SECONDS, self.start)
            back.start()
            self.stack.callback(back.join)

    def start(self) -> None:
        self.server.enter_context(serve_s3(self.folder, port=self.port))


@pytest.mark.parametrize("where", ["threads", "workers"])
def test_it_is_waited_for(
    where: str, bucket: Path, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    write_case(bucket / "in.zarr", CASE)
    with ExitStack() as stack:
        gone = Gone(bucket.parent, stack)
        endpoint = f"http://127.0.0.1:{gone.port}"
        audit_zarr(
            LABELS,
            PROBS,
            "s3://bucket/out.zarr",
            storage_options={
                "endpoint": endpoint,
                "max_backoff": "2s",
                "max_retries": 12,
                "one_writer": True,
            },
            progress=gone,
            group_bytes=1,
            client=client if where == "workers" else None,
        )
    check(bucket / "out.zarr", CASE)
    said = [line for line in caplog.messages if "cannot be reached, for" in line]
    assert all(line.startswith("s3://bucket/") for line in said)
    assert all(f" at {endpoint} cannot be reached, for " in line for line in said)
    assert "error sending request" in said[0]
    assert any("can be reached again, after 1" in line for line in caplog.messages)
    assert files(bucket / "out.zarr")


def test_the_pauses_last_longer_than_half_a_minute() -> None:
    for _ in range(100):
        waits = list(pauses(10, 0.1, 10.0, 2.0))
        assert len(waits) == 10
        assert 30 < sum(waits) < 60
        assert max(waits) < 13


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(111, "refused"), True),
        (ValueError("Generic S3 error: ... - HTTP error: error sending request\n\ntcp"), True),
        (ValueError("Generic S3 error: ... - HTTP error: request\n\nkind: dns error"), False),
        (ValueError("... GET http://169.254.169.254/latest - HTTP error: error sending"), False),
        (PermissionError("status 403 Forbidden: <Code>AccessDenied</Code>\nHTTP error"), False),
    ],
)
def test_what_is_worth_another_try(error: Exception, expected: bool) -> None:
    assert is_unreachable(error) is expected


def test_keys_that_are_refused_are_not_tried_again(s3: Server, bucket: Path) -> None:
    write_case(bucket / "in.zarr", CASE)
    with proxy(s3.port) as counting:
        options = {"endpoint": counting.endpoint, "access_key_id": "A", "secret_access_key": "B"}
        with pytest.raises(LabelQCError, match=r"labels: s3://bucket/in\.zarr/labels"):
            audit_zarr(LABELS, PROBS, "s3://bucket/out.zarr", storage_options=options)
        assert 0 < len(counting.paths) == len(set(counting.paths))


# Headers


@contextmanager
def listening() -> Iterator[tuple[str, list[str | None]]]:
    """Serve nothing, and keep one of the headers of each request."""
    heard: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("X-Tenant"))
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("nested", [False, True])
def test_headers_are_sent(nested: bool) -> None:
    headers = {"default_headers": {"X-Tenant": "labels"}}
    with listening() as (url, heard):
        options = {"client_options": headers} if nested else headers
        with pytest.raises(FileNotFoundError):
            zarr.open_array(open_store(f"{url}/a.zarr", options), mode="r")
        with pytest.raises(FileNotFoundError):
            zarr.open_array(open_store("s3://bucket/a.zarr", options | {"endpoint": url}), mode="r")
    assert len(heard) > 1
    assert set(heard) == {"labels"}


@pytest.mark.parametrize("value", ["X-Tenant: secret-value", ["secret-value"], {"X": 3}])
def test_headers_that_are_no_mapping(value: object) -> None:
    message = 'default_headers must be a mapping of names to values, such as {"X-Tenant": "labels"}'
    with pytest.raises(InputError, match=f"storage_options: {message}; got a ") as raised:
        open_store("s3://bucket/a.zarr", {"default_headers": value})
    assert "secret-value" not in str(raised.value)


def test_an_option_that_is_many() -> None:
    with pytest.raises(InputError, match="storage_options: region is a list, it must be one value"):
        open_store("s3://bucket/a.zarr", {"region": ["a", "b"]})
