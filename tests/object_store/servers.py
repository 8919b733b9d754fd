"""Real servers over TCP, on a free port: rclone's S3, HTTP and FTP servers of a folder, and moto's.

rclone's S3 server writes whatever the condition of a request is; moto's knows conditional writes.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

KEY_ID, SECRET = "TESTKEYID1234", "not-a-secret-5678"
LABELS, PROBS = "s3://bucket/in.zarr/labels", "s3://bucket/in.zarr/pred_probs"
RCLONE = Path(sys.executable).parent / "rclone"


@dataclass(frozen=True)
class Server:
    """A server that runs; `folder` is what it serves, each folder in it a bucket."""

    folder: Path
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    """Return a port that stays free: none of those that the system gives to connections."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def serve(protocol: str, folder: Path, *options: str, port: int | None = None) -> Iterator[Server]:
    """Serve a folder until the context ends."""
    port = port or free_port()
    command = [RCLONE, "serve", protocol, "--addr", f"127.0.0.1:{port}", *options, folder]
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            _wait(port, process)
            yield Server(folder, port)
        finally:
            process.kill()  # asked to end, it waits for its clients to hang up
            process.communicate()


@contextmanager
def serve_s3(folder: Path, *options: str, port: int | None = None) -> Iterator[Server]:
    """Serve each folder of a folder as a bucket, to those who have the key.

    It remembers what it has listed: what comes into the folder other than through it is not seen.
    """
    key = ("--auth-key", f"{KEY_ID},{SECRET}")
    with serve("s3", folder, *key, "--vfs-cache-mode", "off", *options, port=port) as server:
        yield server


CONDITIONAL = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

# One request after the other: its condition is looked at and its object written in one step.
application = DomainDispatcherApplication(create_backend_app)
run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=False)
"""


@contextmanager
def serve_conditional_s3() -> Iterator[Server]:
    """Serve an empty bucket called "bucket" from memory, to all."""
    import boto3

    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", CONDITIONAL, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait(port, process)
            server = Server(Path("bucket"), port)
            about = {"endpoint_url": server.endpoint, "region_name": "us-east-1"}
            keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
            boto3.client("s3", **about, **keys).create_bucket(Bucket="bucket")
            yield server
        finally:
            process.kill()
            process.communicate()


def _wait(port: int, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until it answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    process.kill()
    said = process.communicate()[1] or b""
    raise RuntimeError(f"the server does not answer: {said.decode()}")
