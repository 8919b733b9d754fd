"""Real servers of a folder, over TCP: rclone's S3, HTTP and FTP servers on a free port."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY_ID, SECRET = "TESTKEYID1234", "not-a-secret-5678"
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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
            process.terminate()
            process.communicate()


@contextmanager
def serve_s3(folder: Path, *options: str, port: int | None = None) -> Iterator[Server]:
    """Serve each folder of a folder as a bucket, to those who have the key.

    It remembers what it has listed: what comes into the folder other than through it is not seen.
    """
    key = ("--auth-key", f"{KEY_ID},{SECRET}")
    with serve("s3", folder, *key, "--vfs-cache-mode", "off", *options, port=port) as server:
        yield server


def _wait(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
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
    raise RuntimeError(f"rclone does not answer: {process.communicate()[1].decode()}")
