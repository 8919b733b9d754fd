"""Put images on record, or finish, in processes that are killed (SIGKILL) at given writes.

Started as a program of `tests.forks`; each run is a fork of it. The argument is JSON, a list of
runs. Prints JSON: the exit status of each run, negative for a signal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.forks import run, status_of_fork
from tests.inspectors.recording import finish, inspector, names, put
from tests.pipeline.killing import die_at_write
from tests.strategies import Case, make_case

KINDS = ("half", "put", "deleted")


def make() -> Case:
    return make_case(40, (6, 4, 6), 3)


def record_missing(output: Path, images: Sequence[int]) -> None:
    """Do as a loop over a loader does that goes on where it was."""
    case = make()
    ids = names(case)
    with inspector(output, case, flush_images=2) as inspecting:
        missing = set(inspecting.missing([ids[i] for i in images]))
        for i in images:
            if ids[i] in missing:
                put(inspecting, case, [i])


def run_killed(runs: Sequence[dict[str, Any]]) -> list[int]:
    """Return the exit status of each run.

    Keys are output, kill_at, and images to put on record; without any, it is finished.
    """
    ran = run(sys.executable, "-m", "tests.inspectors.killing", json.dumps(runs))
    print(ran.err)
    assert ran.status == 0
    statuses: list[int] = json.loads(ran.out)
    return statuses


def _run(output: str, kill_at: int = 0, images: Sequence[int] = ()) -> None:
    if kill_at:
        die_at_write(kill_at, KINDS)
    if images:
        record_missing(Path(output), images)
    else:
        finish(Path(output))


def main() -> None:
    print(json.dumps([status_of_fork(partial(_run, **each)) for each in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
