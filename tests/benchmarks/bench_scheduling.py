"""What a cluster costs: two workers against one, and jobs of blocks that are nothing to read."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import zarr
from distributed import Client, LocalCluster

from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.pipeline.memory import peak_bytes
from tests.benchmarks.data import IMAGE_BYTES, write_zarr
from tests.benchmarks.table import Row, medians, print_rows

ROOT = Path(__file__).parents[2]


def speed_up_row(root: Path, gigabytes: float = 8, runs: int = 3) -> Row:
    """Run the same job on one worker process and on two."""
    path = root / "job-zstd.zarr"
    write_zarr(path, math.ceil(gigabytes * 1e9 / IMAGE_BYTES))
    # A worker is one core, as on a cluster: Zarr is not to decode on others meanwhile.
    with (
        zarr.config.set({"threading.max_workers": 1}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as one,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as two,
        Client(one, set_as_default=False) as alone,
        Client(two, set_as_default=False) as pair,
    ):

        def audit(client: Client) -> None:
            audit_zarr(
                path / "labels",
                path / "pred_probs",
                root / "out.zarr",
                overwrite=True,
                client=client,
                progress=False,
            )

        for client in (alone, pair):
            client.run(zarr.config.set, {"threading.max_workers": 1})
            audit(client)  # the kernels are loaded, and the files in the page cache
        taken = medians(runs, one=lambda: audit(alone), two=lambda: audit(pair))
    shutil.rmtree(root / "out.zarr")
    return Row(
        "two workers against one, blocks from a local store",
        "1.8 x",
        f"{taken['one'] / taken['two']:.2f} x",
        f"{gigabytes:.1f} GB, zstd, processes of one thread, medians of {runs}: "
        f"{taken['one']:.1f} s and {taken['two']:.1f} s",
    )


def schedule(root: Path, count: int) -> dict[str, float]:
    """Run a job of so many blocks that hold next to nothing: zeros and halves."""
    path = root / "nothing.zarr"
    shutil.rmtree(path, ignore_errors=True)
    group = zarr.open_group(path, mode="w")
    for name, shape, dtype, value in (
        ("labels", (count, 4, 4), "u1", 0),
        ("pred_probs", (count, 2, 4, 4), "f4", 0.5),
    ):
        _write_alike(group, name, shape, dtype, value)
    output = root / "scheduled.zarr"
    shutil.rmtree(output, ignore_errors=True)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        begun, used = time.perf_counter(), cpu_seconds(client)
        report = audit_zarr(
            path / "labels",
            path / "pred_probs",
            output,
            client=client,
            group_bytes=1,
            progress=False,
        )
        taken, used = time.perf_counter() - begun, cpu_seconds(client) - used
    assert report.num_groups == count
    peak = peak_bytes()
    shutil.rmtree(path)
    shutil.rmtree(output)
    stages = sum(report.seconds.values())
    return {"seconds": taken, "stages": stages, "cpu": used, "peak": peak}


def cpu_seconds(client: Client) -> float:
    """Return what client and scheduler, which are this process, and the workers have used."""
    return time.process_time() + sum(client.run(time.process_time).values())


def _write_alike(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, value: float
) -> None:
    """Write an array of one value, the file of its first image as that of every other one."""
    array = group.create_array(
        name,
        shape=shape,
        chunks=(1, *shape[1:]),
        dtype=dtype,
        chunk_key_encoding={"name": "v2", "separator": "."},
        config={"write_empty_chunks": True},
    )
    array[0] = value
    first = Path(str(array.store_path).removeprefix("file://")) / ".".join("0" * len(shape))
    data = first.read_bytes()
    for image in range(1, shape[0]):
        first.with_name(f"{image}{first.name[1:]}").write_bytes(data)


def scheduling_rows(root: Path, few: int = 10_000, many: int = 100_000) -> list[Row]:
    """Run both jobs, each with a scheduler and a client in a process of their own."""
    found = {count: _apart(root, count) for count in (few, many)}
    low, high = found[few], found[many]
    cost = {count: it["stages"] / count * 1e3 for count, it in found.items()}
    return [
        Row(
            "scheduling cost",
            "3 ms a block or less, flat",
            f"{cost[few]:.2f} and {cost[many]:.2f} ms",
            f"all stages of {few:,} and {many:,} groups of one block, each with a record; two "
            f"workers of one thread, scheduler and client on the same machine; "
            f"{high['seconds']:.0f} s with the end, at which the records are deleted",
        ),
        Row(
            f"CPU of client, scheduler and workers, a block of {many:,}",
            "2 ms",
            f"{high['cpu'] / many * 1e3:.2f} ms",
            f"of the same job, its start and end too; {low['cpu'] / few * 1e3:.2f} ms of {few:,}",
        ),
        Row(
            f"scheduler and client memory at {many:,} blocks",
            f"within 20 % of {few:,}",
            f"{high['peak'] / low['peak']:.2f}",
            f"the most that their process held: {low['peak'] / 1e6:.0f} and "
            f"{high['peak'] / 1e6:.0f} MB",
        ),
    ]


def _apart(root: Path, count: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_scheduling", str(root), str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def rows(root: Path) -> list[Row]:
    root = root.resolve()
    return [speed_up_row(root), *scheduling_rows(root)]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(schedule(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        data = Path("benchmark-data")
        data.mkdir(exist_ok=True)
        print_rows(rows(data), "scheduling")
