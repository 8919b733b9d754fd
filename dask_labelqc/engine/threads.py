"""Regions of arrays in this process, on its threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar

from dask_labelqc.engine.regions import Eager
from dask_labelqc.extent import Region
from dask_labelqc.progress import Progress

__all__ = ["Threads"]

T = TypeVar("T")


class Threads(Eager):
    """Regions that threads scan; see `engine.regions.Regions`.

    Parameters
    ----------
    extents
        The regions.
    scan
        Scans one of them: ``scan(how, extent)`` is a `Scanned`, or has more than that.
    pool, progress
        The threads, and who is told of regions that are done.

    Attributes
    ----------
    scanned
        What the last scan returned of each region.
    """

    def __init__(
        self,
        extents: Iterable[Region],
        scan: Callable[[Any, Any], Any],
        pool: Executor,
        progress: Progress,
    ) -> None:
        self._extents, self._scan = list(extents), scan
        self._pool, self._progress = pool, progress
        self.scanned: list[Any] = []

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> Any:
        self.scanned = []  # before others take their place in memory
        self.scanned = list(self._run("summarize", partial(self._scan, how), self._extents))
        total = reduce(add, (region.total for region in self.scanned))
        return total if then is None else then(total)

    def reduce(self, stage: str, function: Callable[..., T], *values: Any) -> T:
        kept = [region.kept for region in self.scanned]
        return reduce(add, self._pool.map(lambda each: function(each, *values), kept))

    def each(self, stage: str, function: Callable[..., T], *values: Any) -> Iterator[T]:
        """Yield the function of what was kept of each region, in their order."""
        return self._run(stage, lambda region: function(region.kept, *values), self.scanned)

    def _run(self, stage: str, function: Callable[[Any], T], items: list[Any]) -> Iterator[T]:
        self._progress.stage(stage, len(items))
        for result in self._pool.map(function, items):
            self._progress.advance()
            yield result
