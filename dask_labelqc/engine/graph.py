"""Regions that are objects of a graph of public Dask arrays.

In a `LazyGraph` nothing runs before something is computed, and values are lazy objects. In a
`ScheduledGraph` the Dask scheduler in use scans the regions when asked, and values are plain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import add, attrgetter
from typing import Any, TypeVar

import dask
import dask.array as da
import distributed
from dask.callbacks import Callback

from dask_labelqc.engine.regions import Eager, Scanned
from dask_labelqc.graph.objects import map_objects, reduce_objects
from dask_labelqc.progress import Progress

__all__ = ["LazyGraph", "ScheduledGraph"]

T = TypeVar("T")


class LazyGraph:
    """Regions that are scanned when something is computed; see `engine.regions.Regions`.

    Parameters
    ----------
    scan
        Returns the array of what is found in each region, by how they are to be scanned: objects
        of `Scanned`, or with more than that.
    again
        ``again(how, kept)`` scans a region again of which that was kept.

    Attributes
    ----------
    scanned
        What `scan` returned.
    """

    scanned: da.Array

    def __init__(self, scan: Callable[[Any], da.Array], again: Callable[[Any, Any], Any]) -> None:
        self._scan, self._again = scan, again

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> da.Array:
        self.scanned = self._scan(how)
        # Only this is held until the selection is known, and no other output of a region.
        self._regions = map_objects(_only_scanned, self.scanned)
        return reduce_objects(add, map_objects(attrgetter("total"), self._regions), then)

    def scan_again(self, how: da.Array, known: da.Array) -> da.Array:
        self._regions = map_objects(partial(_scan_again, self._again), self._regions, how)
        return reduce_objects(add, map_objects(attrgetter("total"), self._regions))

    def apply(self, function: Callable[..., Any], *values: Any) -> Any:
        return map_objects(function, *values)

    def reduce(self, stage: str, function: Callable[..., Any], *values: Any) -> Any:
        return reduce_objects(add, self.each(function, *values))

    def each(self, function: Callable[..., Any], *values: Any) -> da.Array:
        """Return the array of the function of what is kept of each region."""
        return map_objects(partial(_of_kept, function), self._regions, *values)

    def repeat(self, step: Callable[[T], T], value: T, done: Callable[[T], bool], most: int) -> T:
        for _ in range(most):
            value = step(value)
        return value


class ScheduledGraph(Eager):
    """Regions that stay where they were scanned, on the workers of a cluster.

    Parameters
    ----------
    scan
        As of `LazyGraph`.
    progress, num_bytes
        Who is told of regions that are done, and how much is read of all of them.
    """

    def __init__(self, scan: Callable[[Any], da.Array], progress: Progress, num_bytes: int) -> None:
        self._scan, self._progress, self._num_bytes = scan, progress, num_bytes
        self._regions: da.Array | None = None

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> Any:
        self._regions = None  # before others take their place in memory
        self._regions = self._watched(self._scan(how))
        return reduce_objects(add, map_objects(attrgetter("total"), self._regions), then).compute()

    def reduce(self, stage: str, function: Callable[..., T], *values: Any) -> T:
        assert self._regions is not None  # they have been scanned
        called = partial(_of_kept, partial(_with_values, function, values))
        result: T = reduce_objects(add, map_objects(called, self._regions)).compute()
        return result

    def _watched(self, regions: da.Array) -> da.Array:
        """Compute the regions where they are to stay, and tell the progress of each."""
        number = regions.numblocks[0]
        share = self._num_bytes // number
        self._progress.stage("summarize", number)
        with _Watch(regions.name, partial(self._progress.advance, share)):
            (persisted,) = dask.persist(regions)
        futures = distributed.futures_of(persisted)
        for _ in distributed.as_completed(futures) if futures else ():
            self._progress.advance(share)
        result: da.Array = persisted
        return result


class _Watch(Callback):
    """Call a function whenever a block of an array is done by a scheduler of this process."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        super().__init__(posttask=self._after)  # type: ignore[no-untyped-call]
        self._name, self._function = name, function

    def _after(self, key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == self._name:
            self._function()


def _only_scanned(region: Scanned) -> Scanned:
    return Scanned(region.total, region.kept)


def _scan_again(again: Callable[[Any, Any], Any], region: Scanned, how: Any) -> Scanned:
    return region if how is None else _only_scanned(again(how, region.kept))


def _of_kept(function: Callable[..., T], region: Scanned, *values: Any) -> T:
    return function(region.kept, *values)


def _with_values(function: Callable[..., T], values: tuple[Any, ...], kept: Any) -> T:
    return function(kept, *values)
