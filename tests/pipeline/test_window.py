"""Tasks run with a bounded number of them submitted."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from dask_labelqc.errors import ClusterError, InputError, OutputError
from dask_labelqc.pipeline.window import Outcome, Threads, open_workers, run_window
from dask_labelqc.progress import NoProgress
from tests.clusters import local_cluster
from tests.pipeline.datasets import audit, write_case
from tests.strategies import make_case


class Watched(Threads):
    """Knows how many tasks were submitted, and follows a window of the test's."""

    def __init__(self, threads: int, window: Callable[[], int]) -> None:
        self.pool = ThreadPoolExecutor(threads)
        super().__init__(self.pool, threads)
        self.window = window
        self.submitted = 0
        self.avoided: list[tuple[int, tuple[str, ...]]] = []

    def submit(self, function: Any, items: Any, avoid: Any = ()) -> None:
        self.submitted += len(items)
        self.avoided += [(item, avoid) for item in items if avoid]
        super().submit(function, items, avoid)

    def take(self) -> list[tuple[int, Outcome]]:
        return [
            (item, replace(outcome, workers=(f"worker {item}",)))
            for item, outcome in super().take()
        ]

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pool.shutdown()


class Dropping(Client):
    """Drops the tasks between their end and the fetch of what they returned."""

    def gather(self, futures: Any, *arguments: Any, **options: Any) -> Any:
        self.cancel(futures)
        return super().gather(futures, *arguments, **options)


def test_tasks_that_are_dropped_before_they_are_fetched() -> None:
    with (
        local_cluster(processes=False) as usual,
        Dropping(usual.cluster, set_as_default=False) as client,
        open_workers(client) as workers,
        pytest.raises(ClusterError, match="is gone, or has dropped the tasks"),
    ):
        list(run_window(workers, abs, range(3)))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_never_more_than_the_window(size: int) -> None:
    taken, most = 0, 0
    with Watched(2, lambda: size) as workers:
        for item, outcome in run_window(workers, lambda n: n * n, iter(range(50))):
            most = max(most, workers.submitted - taken)
            taken += 1
            assert outcome.result == item * item
    assert taken == workers.submitted == 50
    assert most == size


def test_the_window_follows_the_cluster() -> None:
    sizes = iter([1, 1, 4, 4, 4, *[2] * 100])
    taken, seen = 0, []
    with Watched(2, lambda: next(sizes)) as workers:
        for _ in run_window(workers, abs, range(30)):
            seen.append(workers.submitted - taken)
            taken += 1
    assert max(seen) == 4
    assert seen[0] == 1
    assert max(seen[12:]) == 2
    assert taken == 30


def test_results_come_as_they_finish() -> None:
    first = threading.Event()

    def wait(n: int) -> int:
        if n == 0:
            assert first.wait(120)
        return n

    order = []
    with Watched(2, lambda: 2) as workers:
        for item, _ in run_window(workers, wait, range(4)):
            order.append(item)
            if len(order) == 3:
                first.set()
    assert order == [1, 2, 3, 0]


def test_items_are_taken_as_they_are_needed() -> None:
    drawn = []

    def items() -> Iterator[Any]:
        for n in range(20):
            drawn.append(n)
            yield n

    with Watched(1, lambda: 3) as workers:
        running = run_window(workers, abs, items())
        next(running)
        assert len(drawn) == 3
        running.close()
    assert len(drawn) == 3


def test_who_stops_cancels_what_waits() -> None:
    ran = []

    def fail(n: int) -> None:
        ran.append(n)
        time.sleep(0.01)
        raise InputError(f"item {n}")

    with Watched(1, lambda: 10) as workers:
        for item, outcome in run_window(workers, fail, range(100)):
            assert str(outcome.error) == f"item {item}"
            break
    assert len(ran) <= 3


def test_what_fails_is_tried_again_elsewhere() -> None:
    tries: Counter[int] = Counter()

    def sometimes(n: int) -> int:
        tries[n] += 1
        if tries[n] <= n:
            raise OSError(f"try {tries[n]}")
        return n

    with Watched(2, lambda: 2) as workers:
        outcomes = dict(run_window(workers, sometimes, range(5)))
    assert [outcomes[n].result for n in range(5)] == [0, 1, 2, None, None]
    assert [len(outcomes[n].workers) for n in range(5)] == [1, 2, 3, 3, 3]
    assert str(outcomes[4].error) == "try 3"
    assert sorted(workers.avoided)[:3] == [
        (1, ("worker 1",)),
        (2, ("worker 2",)),
        (2, ("worker 2",) * 2),
    ]


@pytest.mark.parametrize(("error", "times"), [(InputError, 1), (OutputError, 3), (KeyError, 3)])
def test_what_would_be_wrong_again_is_not_tried_again(error: type, times: int) -> None:
    def fail(n: int) -> None:
        raise error("no")

    with open_workers(None, 1) as workers:
        ((_, outcome),) = run_window(workers, fail, [0])
    assert len(outcome.workers) == times
    assert isinstance(outcome.error, error)


def test_an_error_that_does_not_pickle() -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    def fail(n: int) -> None:
        raise OddError(1, 2)

    with open_workers(None, 1) as workers:
        ((_, outcome),) = run_window(workers, fail, [0])
    assert repr(outcome.error) == "RuntimeError('OddError: 1 2')"


def test_nothing_to_do() -> None:
    with Watched(1, lambda: 2) as workers:
        assert list(run_window(workers, abs, [])) == []


def test_two_tasks_a_thread() -> None:
    with open_workers(None, 3) as workers:
        assert workers.window() == 6


def test_what_a_task_took() -> None:
    with open_workers(None, 1) as workers:
        ((_, outcome),) = run_window(workers, time.sleep, [0.05])
    assert 0.05 <= outcome.seconds < 5
    assert 10e6 < outcome.peak_bytes < 100e9
    assert outcome.workers == ("",)


class Recorded(NoProgress):
    """Keeps the number of blocks of each stage."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.stages.append((name, total))


def test_tasks_of_a_stage(
    smallest_groups: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One a group where the predictions are read, fewer where records are."""
    stored = write_case(tmp_path / "in", make_case(80, (40, 2, 3), 3, resolution=2))
    progress = Recorded()
    with caplog.at_level("DEBUG", "dask_labelqc"):
        audit(stored, tmp_path / "out", progress=progress, n_jobs=2)
    stages = [name for name, _ in progress.stages]
    assert list(dict.fromkeys(stages)) == ["summarize", "count", "select", "paint"]
    assert len(stages) <= 5
    assert {total for _, total in progress.stages} == {40}
    tasks = Counter(re.findall(r"stage=(\w+) block=", "\n".join(caplog.messages)))
    assert tasks == {"summarize": 40, "count": 8, "select": 8 * stages.count("select"), "paint": 8}
