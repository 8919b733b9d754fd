"""Every executor answers the same of the same regions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client

from dask_labelqc.engine.graph import LazyGraph, ScheduledGraph
from dask_labelqc.engine.regions import Eager, Scanned
from dask_labelqc.engine.threads import Threads
from dask_labelqc.extent import Extent
from dask_labelqc.graph.objects import from_positions, to_blocks
from dask_labelqc.progress import NoProgress

NUMBERS = np.arange(24) * 7 % 24
PARTS = 4
SIZE = NUMBERS.size // PARTS


def scan_part(limit: int, part: int) -> Scanned:
    """Keep the numbers of a part up to a limit; the total is that of all of its numbers."""
    numbers = NUMBERS[part * SIZE : (part + 1) * SIZE]
    return Scanned(int(numbers.sum()), (part, numbers[numbers <= limit]))


def scan_extent(limit: int, extent: Extent) -> Scanned:
    return scan_part(limit, extent.start[0])


def scan_position(limit: int, block_id: tuple[int, ...]) -> Scanned:
    return scan_part(limit, int(block_id[0]))


def as_array(limit: int) -> da.Array:
    return from_positions(partial(scan_position, limit), (PARTS,))


def again(limit: int, kept: tuple[int, np.ndarray]) -> Scanned:
    return scan_part(limit, kept[0])


def count(kept: tuple[int, np.ndarray], factor: int) -> int:
    return factor * kept[1].size


def doubled(value: int) -> int:
    return 2 * value


def limit_or_none(limit: int | None, value: int) -> int | None:
    return limit


def up_to_100(value: int) -> int:
    return min(3 * value, 100)


def is_100(value: int) -> bool:
    return value == 100


class Told(NoProgress):
    def __init__(self) -> None:
        self.told: list = []

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.told.append((name, total))

    def advance(self, num_bytes: int = 0) -> None:
        self.told.append(num_bytes)


@pytest.fixture(params=["threads", "scheduled", "lazy"])
def regions(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "threads":
        extents = [Extent((i,), (i + 1,)) for i in range(PARTS)]
        with ThreadPoolExecutor(2) as pool:
            yield Threads(extents, scan_extent, pool, NoProgress())
    elif request.param == "scheduled":
        yield ScheduledGraph(as_array, NoProgress(), 100)
    else:
        yield LazyGraph(as_array, again)


def plain(value: Any) -> Any:
    """The value, computed if it is lazy."""
    if not isinstance(value, da.Array):
        return value
    block = to_blocks(partial(np.full, (1,)), value, ((1,),), np.int64, 1)
    return int(block.compute(scheduler="sync")[0])


def test_scan_and_reduce(regions: Any) -> None:
    total = regions.scan(10)
    assert plain(total) == NUMBERS.sum()
    assert plain(regions.reduce("count", count, regions.apply(doubled, total))) == 2 * 276 * 11


@pytest.mark.parametrize(("limit", "kept"), [(None, 11), (20, 21)])
def test_a_second_scan_where_it_is_needed(regions: Any, limit: Any, kept: int) -> None:
    total = regions.scan(10)
    how = regions.apply(partial(limit_or_none, limit), total)
    known = regions.scan_again(how, total)
    assert plain(known) == NUMBERS.sum()
    assert plain(regions.reduce("count", count, 1)) == kept


def test_repeat_stops_at_what_is_done(regions: Any) -> None:
    start = regions.apply(doubled, regions.scan(10))
    found = regions.repeat(partial(regions.apply, up_to_100), start, is_100, 3)
    assert plain(found) == 100


def test_the_total_is_seen_once(regions: Any) -> None:
    seen: list[int] = []

    def see(total: int) -> int:
        seen.append(total)
        return total

    total = regions.scan(10, see)
    count_twice = regions.reduce("count", count, regions.apply(doubled, total))
    both = regions.reduce("count", count, count_twice)
    assert plain(both) == 11 * 11 * 552
    assert seen == [276]


def test_eager_values_are_not_stepped_on_once_they_are_done() -> None:
    steps = []
    found = Eager().repeat(lambda v: steps.append(v) or v + 1, 0, lambda v: v == 2, 10)
    assert (found, steps) == (2, [0, 1])


def test_threads_run_over_what_was_kept_in_order() -> None:
    extents = [Extent((i,), (i + 1,)) for i in range(PARTS)]
    progress = Told()
    with ThreadPoolExecutor(2) as pool:
        regions = Threads(extents, scan_extent, pool, progress)
        regions.scan(3)
        found = list(regions.each("paint", lambda kept: kept[0]))
    assert found == [0, 1, 2, 3]
    assert progress.told == [("summarize", 4), *[0] * 4, ("paint", 4), *[0] * 4]


def test_regions_stay_on_the_workers() -> None:
    progress = Told()
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None):
        regions = ScheduledGraph(as_array, progress, 100)
        regions.scan(10)
        assert regions.reduce("count", count, 1) == 11
        assert regions.scan(20) == 276
        assert regions.reduce("count", count, 1) == 21
    assert progress.told == [("summarize", 4), *[25] * 4] * 2


def test_nothing_runs_while_a_lazy_graph_is_built() -> None:
    def never(limit: int, block_id: tuple[int, ...]) -> Scanned:
        raise AssertionError("it ran")

    graph = LazyGraph(lambda limit: from_positions(partial(never, limit), (PARTS,)), again)
    total = graph.scan(10)
    graph.scan_again(graph.apply(partial(limit_or_none, 3), total), total)
    value = graph.reduce("count", count, 1)
    with pytest.raises(AssertionError, match="it ran"):
        plain(value)


def test_a_region_weighs_what_is_kept_of_it() -> None:
    assert Scanned(np.zeros(10**6), b"kept").__sizeof__() == b"kept".__sizeof__()
