"""Who a process is, by what does not move: clocks and host names do."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["is_alive", "own_identity"]

PROC = Path("/proc")
MACHINE = ("host", "boot", "pid_namespace")


def own_identity() -> dict[str, Any]:
    """Return what tells this process from every other, as plain JSON.

    The boot and the PID namespace in which its number counts are None where there is no /proc.
    """
    boot = namespace = None
    with suppress(OSError):
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(PROC / "self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot,
        "pid_namespace": namespace,
        "pid": os.getpid(),
        "started": _state_and_start(os.getpid())[1],
    }


def is_alive(other: Mapping[str, Any]) -> bool | None:
    """Say if the process of an identity lives, None if that cannot be looked up from here."""
    here = own_identity()
    if None in here.values() or any(other.get(name) != here[name] for name in MACHINE):
        return None
    pid, started = other.get("pid"), other.get("started")
    if not isinstance(pid, int) or not isinstance(started, int):
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    state, start = _state_and_start(pid)
    return None if start is None else start == started and state != "Z"


def _state_and_start(pid: int) -> tuple[str, int | None]:
    """Return the state of a process, and when it started, in ticks since the machine did."""
    try:
        # The name of the program, in parentheses, may have anything in it.
        fields = (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return fields[0], int(fields[19])
