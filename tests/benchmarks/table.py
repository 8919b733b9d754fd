"""Rows of the benchmarks' table, and how times are taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One line: what was measured, what to reach, what was reached, and how."""

    what: str
    target: str
    measured: str
    how: str


def print_rows(rows: Iterable[Row], title: str) -> None:
    table = Table("what", "reach", "measured", "how", title=title, show_lines=True)
    for row in rows:
        table.add_row(row.what, row.target, row.measured, row.how)
    Console().print(table)


def seconds(function: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def medians(runs: int, **functions: Callable[[], Any]) -> dict[str, float]:
    """Return the median seconds of each function; they take turns, so that both see the same."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            taken[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in taken.items()}
