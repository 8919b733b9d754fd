"""What a job holds: memory of a worker, reads of each chunk, tasks, memory of the scheduler."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from distributed import Client, LocalCluster
from zarr.storage import LocalStore, WrapperStore

from dask_labelqc.pipeline import audit_zarr, plan_audit
from dask_labelqc.pipeline.memory import peak_bytes
from dask_labelqc.segmentation import audit
from tests.benchmarks.data import IMAGE_BYTES, first_images, write_zarr
from tests.benchmarks.table import Row, print_rows


class CountingStore(WrapperStore[LocalStore]):
    """Counts how often each key is read."""

    def __init__(self, store: LocalStore, reads: Counter[str]) -> None:
        super().__init__(store)
        self.reads = reads

    def _with_store(self, store: LocalStore) -> CountingStore:
        return type(self)(store, self.reads)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        self.reads[key] += 1
        return await self._store.get(key, *args, **kwargs)


def reads_row(root: Path) -> Row:
    """Count the reads of each chunk, in the job and in one compute of all lazy outputs."""
    path = root / "reads.zarr"
    write_zarr(path, 16)
    counts: dict[str, Counter[str]] = {}
    for front in ("job", "lazy"):
        counts[front] = Counter()
        store = CountingStore(LocalStore(path, read_only=True), counts[front])
        labels, pred_probs = (
            zarr.open_array(store, path=name, mode="r") for name in ("labels", "pred_probs")
        )
        if front == "job":
            audit_zarr(labels, pred_probs, root / "out.zarr", overwrite=True, progress=False)
        else:
            audit(labels, pred_probs, pixel_scores=True, predicted_label=True).compute()
    shutil.rmtree(root / "out.zarr")
    chunks = {
        front: sorted({n for key, n in reads.items() if key.startswith("pred_probs/c/")})
        for front, reads in counts.items()
    }
    seen = {front: sum(key.startswith("pred_probs/c/") for key in r) for front, r in counts.items()}
    return Row(
        "reads of each chunk of pred_probs",
        "1",
        f"lazy {chunks['lazy']}, job {chunks['job']}",
        f"a counting store around {seen['job']} chunks; lazy: all outputs in one compute",
    )


def peak_memory(path: Path, output: Path) -> tuple[int, float]:
    """Return the highest memory of a worker of 1 GB during a job, and the job's seconds."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        begun = time.perf_counter()
        audit_zarr(
            path / "labels",
            path / "pred_probs",
            output,
            overwrite=True,
            client=client,
            progress=False,
        )
        taken = time.perf_counter() - begun
        return max(client.run(peak_bytes).values()), taken


def memory_row(root: Path, whole: Path) -> Row:
    """Compare the peak memory of a worker for 3 GB and 12 GB of predictions."""
    small = root / "job-3.zarr"
    shutil.rmtree(small, ignore_errors=True)
    first_images(whole, small, int(3e9 / IMAGE_BYTES))
    plan = plan_audit(whole / "labels", whole / "pred_probs")
    formula = (plan.process_bytes + plan.worker_bytes) / 1e6
    peaks = {path: peak_memory(path, root / "out.zarr") for path in (small, whole)}
    shutil.rmtree(root / "out.zarr")
    (low, _), (high, seconds) = peaks[small], peaks[whole]
    return Row(
        "peak memory of a worker, 12 GB / 3 GB, limit 1 GB",
        "within 15 %, below the formula",
        f"{high / low:.2f}; {max(low, high) / 1e6:.0f} MB of {formula:.0f} MB",
        f"two processes of one thread: {low / 1e6:.0f} and {high / 1e6:.0f} MB; "
        f"12 GB took {seconds:.0f} s",
    )


@dataclass
class _Watch:
    """Watches the scheduler: tasks it ever saw, most at once, and memory of its process."""

    most: int = 0
    seen: int = 0

    def setup(self, scheduler: Any) -> None:
        from distributed.diagnostics.plugin import SchedulerPlugin

        watch = self

        class Plugin(SchedulerPlugin):  # type: ignore[misc]
            def transition(self, key: Any, start: str, finish: str, *a: Any, **kw: Any) -> None:
                watch.seen += start == "released"
                watch.most = max(watch.most, len(scheduler.tasks))

        scheduler.add_plugin(Plugin(), name="watch")


def scheduler_row(root: Path, few: int, many: int) -> Row:
    """Run jobs of small groups; the scheduler lives in this process, with the client."""
    path = root / "groups.zarr"
    rng = np.random.default_rng(0)
    found = {}
    for count in (few, many):
        group = zarr.open_group(path, mode="w")
        pred_probs = rng.dirichlet(np.ones(2), (count, 4, 4)).astype(np.float32)
        group.create_array("labels", data=rng.integers(0, 2, (count, 4, 4)), chunks=(count, 4, 4))
        group.create_array("pred_probs", data=np.moveaxis(pred_probs, -1, 1), chunks=(1, 2, 4, 4))
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            watch = _Watch()
            watch.setup(cluster.scheduler)
            before = psutil.Process(os.getpid()).memory_info().rss
            begun = time.perf_counter()
            report = audit_zarr(
                path / "labels",
                path / "pred_probs",
                root / "out.zarr",
                overwrite=True,
                client=client,
                group_bytes=1,
                progress=False,
            )
            taken = time.perf_counter() - begun
            grown = psutil.Process(os.getpid()).memory_info().rss - before
        found[count] = (watch, grown, taken, report)
    shutil.rmtree(root / "out.zarr")
    shutil.rmtree(path)
    text = "; ".join(
        f"{count:,} groups: {watch.seen / count:.2f} tasks a group, {watch.most} at once, "
        f"{grown / 1e6:.0f} MB more in scheduler and client, {taken / count * 1e3:.1f} ms a group"
        for count, (watch, grown, taken, _) in found.items()
    )
    return Row(
        "tasks of the job; memory of the scheduler at 10,000 groups",
        "constant; flat",
        f"{found[few][0].seen / few:.2f} and {found[many][0].seen / many:.2f} a group; "
        f"{found[few][1] / 1e6:.0f} and {found[many][1] / 1e6:.0f} MB",
        text,
    )


def rows(root: Path) -> list[Row]:
    whole = root / "job-12.zarr"
    write_zarr(whole, int(12e9 / IMAGE_BYTES))
    return [reads_row(root), memory_row(root, whole), scheduler_row(root, 1_000, 10_000)]


if __name__ == "__main__":
    data = Path("benchmark-data")
    data.mkdir(exist_ok=True)
    print_rows(rows(data), "scale")
