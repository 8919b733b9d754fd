"""A folder for the PATH of shells, in which `dask labelqc` is a fork of `tests.forks`.

The program there asks this process for the fork, which has its files, folder and environment, and
ends as that ends. Other commands of Dask, which scripts may send signals, are what is installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer

from tests.forks import BIN, Fork

PROGRAM = """
import json, os, socket, sys

command = [INSTALLED, *sys.argv[1:]]
if sys.argv[1:2] != ["labelqc"]:
    os.execv(command[0], command)
with socket.socket(socket.AF_UNIX) as server:
    server.connect(ADDRESS)
    asked = json.dumps([os.getpid(), os.getcwd(), dict(os.environ), command])
    server.sendall(asked.encode() + b"\\n")
    sys.exit(int(server.makefile().readline()))
"""


class _Handler(StreamRequestHandler):
    def handle(self) -> None:
        pid, folder, environment, command = json.loads(self.rfile.readline())
        out, err = Path(f"/proc/{pid}/fd/1"), Path(f"/proc/{pid}/fd/2")
        with Fork(*command, out=out, err=err, cwd=Path(folder), **environment) as process:
            status = process.wait(240)
        self.wfile.write(f"{status}\n".encode())


@contextmanager
def forked_commands() -> Iterator[Path]:
    """Make the folder, and serve who calls what is in it."""
    with tempfile.TemporaryDirectory() as folder:  # whose name is short enough for a socket
        address, program, script = (Path(folder, name) for name in ("socket", "dask.py", "dask"))
        names = {"INSTALLED": str(BIN / "dask"), "ADDRESS": str(address)}
        program.write_text("".join(f"{k} = {v!r}\n" for k, v in names.items()) + PROGRAM)
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{program}" "$@"\n')
        script.chmod(0o755)
        with ThreadingUnixStreamServer(str(address), _Handler) as server:
            threading.Thread(target=server.serve_forever).start()
            try:
                yield Path(folder)
            finally:
                server.shutdown()
