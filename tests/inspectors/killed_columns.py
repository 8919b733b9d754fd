"""Put items on record, or finish them, in processes that are killed at given writes.

Started as a program of `tests.forks`; each run is a fork of it. The argument is JSON: a list of
runs. Prints JSON: the exit status of each, negative for a signal.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.forks import run, status_of_fork
from tests.inspectors.columns import finish, make
from tests.pipeline.killing import die_at_write

KINDS = ("half", "put", "deleted")


def run_killed(runs: list[dict[str, Any]]) -> list[int]:
    """Return the exit status of each run, whose keys are kind, output, kill_at and finishing."""
    ran = run(sys.executable, "-m", "tests.inspectors.killed_columns", json.dumps(runs))
    print(ran.err)
    assert ran.status == 0
    statuses: list[int] = json.loads(ran.out)
    return statuses


def _run(kind: str, output: str, kill_at: int, finishing: bool) -> None:
    made = make(kind)
    if kill_at:
        die_at_write(kill_at, KINDS)
    if finishing:
        finish(Path(output))
        return
    with made.inspector(output, flush=4) as inspector:
        number = {each: i for i, each in enumerate(made.ids)}
        left = [number[each] for each in inspector.missing(made.ids)]
        for first in range(0, len(left), 3):
            made.put(inspector, left[first : first + 3])


def main() -> None:
    print(json.dumps([status_of_fork(partial(_run, **each)) for each in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
