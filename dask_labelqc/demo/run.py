"""The demo from end to end: make a dataset, audit it on a local cluster, compare with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from dask_labelqc.errors import InputError
from dask_labelqc.terminal import printable

if TYPE_CHECKING:
    from distributed import Client
    from rich.console import Console

    from dask_labelqc.demo.dataset import DatasetSpec
    from dask_labelqc.demo.evaluate import Evaluation

__all__ = ["DemoResult", "run_demo"]


@dataclass(frozen=True)
class DemoResult:
    """What the demo left behind.

    Attributes
    ----------
    dataset, output, sheet : Path
        Zarr group of the images, Zarr group of the audit, and the PNG.
    evaluation : Evaluation
        The audit against the truth.
    dataset_seconds, audit_seconds, report_seconds : float
        Time for making (or finding) the dataset, auditing it, and evaluating and drawing.
    """

    dataset: Path
    output: Path
    sheet: Path
    evaluation: Evaluation
    dataset_seconds: float
    audit_seconds: float
    report_seconds: float


def run_demo(
    directory: str | Path,
    *,
    images: int = 240,
    size: int = 512,
    workers: int = 2,
    memory_limit: str = "1GB",
    seed: int = 0,
    worst: int = 8,
    console: Console | None = None,
) -> DemoResult:
    """Make a dataset with known label errors, audit it on a local cluster, and report.

    Parameters
    ----------
    directory : str or Path
        Where everything is written; a dataset that is there with the same parameters is reused.
    images, size, seed : int
        Number of images, their height and width in pixels, and what they follow from.
    workers : int
        Worker processes, one thread each.
    memory_limit : str
        Memory of each worker. The predictions take 12.6 MB an image of 512 x 512: by default more
        than all workers have.
    worst : int
        Number of worst images to list and to draw.
    console : rich.console.Console, optional
        Where to print; standard output by default.

    Returns
    -------
    DemoResult
        Where things are, and the figures that were printed.

    Raises
    ------
    InputError
        If a parameter cannot be used.
    LabelQCError
        If matplotlib is not installed.
    """
    for name, value in (("workers", workers), ("worst", worst)):
        if value < 1:
            raise InputError(f"{name} must be 1 or more, got {value}")
    from dask.utils import parse_bytes
    from distributed import Client, LocalCluster
    from rich.console import Console

    from dask_labelqc.demo.dataset import DatasetSpec
    from dask_labelqc.demo.report import print_evaluation, print_size
    from dask_labelqc.demo.sheet import require_matplotlib

    require_matplotlib()
    console = console or Console()
    spec = DatasetSpec(images=images, size=size, seed=seed)
    print_size(console, spec, workers, parse_bytes(memory_limit))
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        result = _run_on(client, Path(directory), spec, worst, console)
    print_evaluation(console, result.evaluation)
    _print_places(console, result)
    return result


def _run_on(
    client: Client, directory: Path, spec: DatasetSpec, worst: int, console: Console
) -> DemoResult:
    from dask_labelqc.demo.evaluate import evaluate
    from dask_labelqc.demo.report import print_summary
    from dask_labelqc.demo.sheet import write_sheet
    from dask_labelqc.pipeline import audit_zarr

    dataset, output = directory / "dataset.zarr", directory / "audit.zarr"
    started = perf_counter()
    _make_dataset(client, dataset, spec, console)
    made = perf_counter()
    report = audit_zarr(
        str(dataset / "labels"),
        str(dataset / "pred_probs"),
        str(output),
        overwrite=True,
        client=client,
    )
    audited = perf_counter()
    print_summary(console, report.summary())
    evaluation = evaluate(dataset, output, worst=worst)
    sheet = write_sheet(directory / "worst.png", dataset, output, evaluation.worst)
    return DemoResult(
        dataset=dataset,
        output=output,
        sheet=sheet,
        evaluation=evaluation,
        dataset_seconds=made - started,
        audit_seconds=audited - made,
        report_seconds=perf_counter() - audited,
    )


def _make_dataset(client: Client, path: Path, spec: DatasetSpec, console: Console) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from dask_labelqc.demo.dataset import write_dataset

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("drawing images", total=spec.images)
        written = write_dataset(
            path,
            spec,
            executor=client.get_executor(pure=False),
            on_image=lambda done: progress.update(bar, completed=done),
        )
    _say(console, f"{'made' if written else 'found'} {path}")


def _print_places(console: Console, result: DemoResult) -> None:
    console.print()
    for what, place, seconds in (
        ("dataset", result.dataset, result.dataset_seconds),
        ("audit", result.output, result.audit_seconds),
        ("pictures", result.sheet, result.report_seconds),
    ):
        _say(console, f"{what:<9}{seconds:6.1f} s  {place}")


def _say(console: Console, line: str) -> None:
    console.print(printable(line), soft_wrap=True, highlight=False, markup=False, emoji=False)
