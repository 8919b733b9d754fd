"""Python programs as processes of their own, without the seconds that their imports take.

Each is a fork of one process that has the packages and the kernels loaded: the server of the
standard library's "forkserver". From then on it is a program like any other: with its own
arguments, environment, files, terminal and session, to be signalled, killed and waited for.

What is about the start of Python itself, its imports or its allocator, needs `subprocess` instead.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(["tests.loaded"])


def ensure_server() -> None:
    """Start the process from which others are forked, if there is none yet.

    Who uses the same method of `multiprocessing` after that, as Dask may, has forks of it too.
    """
    forkserver.ensure_running()


class Fork:
    """A program that runs, with what `subprocess.Popen` has of it."""

    def __init__(
        self,
        *command: object,
        out: Path | str = os.devnull,
        err: Path | str | None = None,
        cwd: Path = ROOT,
        session: bool = False,
        **environment: str,
    ) -> None:
        here, there = SERVER.Pipe(duplex=False)
        files = (str(out), str(out if err is None else err))
        settings = dict(os.environ) | environment
        arguments = ([str(part) for part in command], files, str(cwd), session, settings, there)
        self._process = SERVER.Process(target=_become, args=arguments)
        self._process.start()
        there.close()
        here.recv()  # when it is in its own session, say
        here.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it may end meanwhile
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.wait()


@dataclass(frozen=True)
class Ran:
    """How a program ended, and what it said."""

    status: int
    out: str
    err: str


def run(*command: object, timeout: float = 240, **options: Any) -> Ran:
    """Run a program to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with Fork(*command, out=out, err=err, **options) as process:
            status = process.wait(timeout)
        return Ran(status, out.read_text(), err.read_text())


def status_of_fork(function: Callable[[], object]) -> int:
    """Call a function in a fork of this process; return its exit status, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    faulthandler.dump_traceback_later(120, exit=True)  # one that hangs says where
    try:
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _become(
    command: Sequence[str],
    files: tuple[str, str],
    folder: str,
    session: bool,
    environment: dict[str, str],
    ready: Connection,
) -> NoReturn:
    """Turn this fork into the program, and end as it ends."""
    import dask.config

    if session:
        os.setsid()
    for number, file in ((1, files[0]), (2, files[1])):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    dask.config.refresh()
    ready.send(None)
    ready.close()
    status = 1
    try:
        _run(command)
        status = 0
    except SystemExit as exit:
        status = _status_of(exit.code)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _status_of(code: object) -> int:
    """As Python ends with what is given to `sys.exit`."""
    if code is None or isinstance(code, int):
        return int(code or 0)
    print(code, file=sys.stderr)
    return 1


def _run(command: Sequence[str]) -> None:
    """Do what Python would: a script that is installed, ``-m``, ``-c`` or a file."""
    program, *arguments = command
    if Path(program) != Path(sys.executable):
        (script,) = entry_points(group="console_scripts", name=Path(program).name)
        sys.argv = list(command)
        sys.exit(script.load()())
    what, *rest = arguments
    if what == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.argv = arguments
        runpy.run_path(what, run_name="__main__")
