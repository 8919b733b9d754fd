"""The command line: ``dask labelqc`` and ``dask-labelqc``. Parses, calls, prints."""

from __future__ import annotations

import functools
import shlex
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dask_labelqc.errors import Advice
    from dask_labelqc.pipeline import JobPlan, JobReport

__all__ = ["labelqc", "main"]

F = TypeVar("F", bound=Callable[..., Any])

CLASSES_SHOWN = 20
STOPPED = "stopped; the same command with --resume goes on"
PARTIAL = 3
"""Status of an audit that left images out; 1 is that of an error, 2 of a wrong command line."""


def main() -> None:
    """Run the command line under its own name."""
    labelqc(prog_name="dask-labelqc")


class StoppableGroup(click.Group):
    """Commands that Ctrl-C and SIGTERM end in one line, from the parsing of their options on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from dask_labelqc.signals import end_on_signals

        with end_on_signals(lambda: STOPPED if ctx.invoked_subcommand == "audit" else "stopped"):
            return super().invoke(ctx)


@click.group(cls=StoppableGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dask-labelqc", prog_name="dask-labelqc")
def labelqc() -> None:
    """Find the label errors of datasets that do not fit in memory."""


def one_line_errors(command: F) -> F:
    """Print errors and warnings as one line each; `--debug` lets the traceback through."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapper(*args: Any, debug: bool, **kwargs: Any) -> Any:
        from dask_labelqc.errors import LabelQCWarning

        with warnings.catch_warnings():
            warnings.simplefilter("always", LabelQCWarning)
            warnings.showwarning = _print_warning
            try:
                return command(*args, **kwargs)
            except (click.exceptions.Exit, click.ClickException):
                raise
            except Exception as error:
                if debug:
                    raise
                raise click.ClickException(_one_line(error)) from error

    return wrapper  # type: ignore[return-value]


def _one_line(error: Exception) -> str:
    from dask_labelqc.errors import LabelQCError

    if not isinstance(error, LabelQCError):
        return _plain(f"{type(error).__name__}: {error}")
    advice = "" if error.advice is None else f"; {_advice(error.advice)}"
    return _plain(_with_options(error.message) + advice)


def _plain(text: str) -> str:
    from dask_labelqc.terminal import printable

    return printable(" ".join(text.split()))


def _option_names() -> dict[str, str]:
    """Return the options of the command that runs, by the names of their arguments in Python."""
    parameters = click.get_current_context().command.params
    return {str(p.name): p.opts[0] for p in parameters if isinstance(p, click.Option)}


def _with_options(message: str) -> str:
    """Write the arguments that a message begins with as options."""
    names, options = message.split(": "), _option_names()
    for position, name in enumerate(names):
        said = [options.get(part, part) for part in name.split(", ")]
        if not all(part.isidentifier() or part in options.values() for part in said):
            break
        names[position] = ", ".join(said)
    return ": ".join(names)


def _advice(advice: Advice) -> str:
    return advice.told(functools.partial(_written, _option_names()))


def _written(options: dict[str, str], name: str, value: Any) -> str:
    """Write an argument as it is given on the command line, if this command has it."""
    if (option := options.get(name)) is None:
        return f"{name}={value!r}"
    if value is True:
        return option
    if isinstance(value, Mapping):
        value = tuple(f"{key}={str(part).lower()}" for key, part in value.items())
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{option} {shlex.quote(str(part))}" for part in values)


def _print_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    click.echo(f"Warning: {_plain(str(message))}", err=True)


def method_options(command: F) -> F:
    """Add the options that say what is computed."""
    for option in reversed(
        (
            click.option("--downsample", type=int, default=1, show_default=True,
                         help="Factor to shrink the images by for counting and selecting issues."),
            click.option("--label-downsample", type=click.Choice(["mean", "majority"]),
                         default="mean", show_default=True, help="Label of a downsampled cell."),
            click.option("--ignore-index", type=int, multiple=True,
                         help="Label of pixels that take part in nothing; may be repeated."),
            click.option("--temperature", type=float, default=0.1, show_default=True,
                         help="Of the softmin image score."),
            click.option("--from-logits", is_flag=True, help="The predictions are logits."),
            click.option("--validate", type=click.Choice(["full", "labels", "none"]),
                         default="full", show_default=True, help="What to check while computing."),
            click.option("--image-dim", metavar="NAME", callback=_dimension,
                         help="Dimension of the images, by name or number; none for one scene."),
            click.option("--class-dim", metavar="NAME", callback=_dimension,
                         help="Dimension of the classes, by name or number."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _dimension(context: Any, option: Any, value: str | None) -> str | int | bool | None:
    """Read the name or number of a dimension, or that there is none."""
    if value is None or value == "none":
        return None if value is None else False
    return int(value) if value.lstrip("-").isdecimal() else value


def store_options(command: F) -> F:
    """Add the option that says how to reach object stores."""
    return click.option(
        "--storage-option",
        "storage_options",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_storage_options,
        help="Of the object stores, such as endpoint=URL, region=NAME, anonymous=true, "
        "profile=NAME; may be repeated. Keys come from the environment or the profile.",
    )(command)


def _storage_options(context: Any, option: Any, pairs: tuple[str, ...]) -> dict[str, str] | None:
    from dask_labelqc.errors import InputError
    from dask_labelqc.storage.stores import parse_storage_options

    try:
        return parse_storage_options(pairs) or None
    except InputError as error:
        raise click.ClickException(_one_line(error)) from error


@labelqc.command()
@click.argument("labels")
@click.argument("pred_probs")
@click.argument("output")
@method_options
@click.option("--write-pixel-scores", is_flag=True, help="Also write the score of every pixel.")
@click.option("--write-predicted-label", is_flag=True, help="Also write the predicted classes.")
@click.option("--resume", is_flag=True, help="Finish an output that was begun by this command.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on this Dask scheduler's workers.")
@click.option("--scheduler-file", metavar="FILE", help="The same, by the file that it wrote.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes of a local cluster, one a core by default; 0 for threads.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="Of each local worker.")  # fmt: skip
@click.option("--memory-limit", default="auto", show_default=True, help="Of each local worker.")
@store_options
@click.option("--keep-going", is_flag=True,
              help="Finish without images that cannot be audited; exit with 3 then.")  # fmt: skip
@click.option("--trust-inputs", is_flag=True,
              help="Do not look whether inputs changed since they were read.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="A line for each block at debug.",
)
@click.option(
    "--performance-report",
    metavar="FILE",
    help="Write Dask's report of how the cluster spent its time, HTML.",
)
@one_line_errors
def audit(
    labels: str,
    pred_probs: str,
    output: str,
    scheduler: str | None,
    scheduler_file: str | None,
    workers: int | None,
    threads: int,
    memory_limit: str,
    storage_options: dict[str, str] | None,
    quiet: bool,
    log_level: str,
    performance_report: str | None,
    **arguments: Any,
) -> None:
    """Find the label issues of a Zarr dataset and write them to Zarr.

    LABELS (N, *spatial) and PRED_PROBS (N, K, *spatial) are Zarr arrays, OUTPUT the Zarr group
    to make. A job that was killed goes on where it was when it is started again with --resume.
    """
    from rich.console import Console

    from dask_labelqc.cluster import open_client
    from dask_labelqc.logs import show_log
    from dask_labelqc.performance import report_performance
    from dask_labelqc.pipeline import audit_zarr, plan_audit
    from dask_labelqc.pipeline.fit import check_shape
    from dask_labelqc.progress import progress_for
    from dask_labelqc.signals import end_on_signals

    console = Console(stderr=True)
    method = {
        name: arguments[name]
        for name in (
            "downsample",
            "label_downsample",
            "ignore_index",
            "temperature",
            "from_logits",
            "validate",
            "image_dim",
            "class_dim",
        )
    }
    plan = plan_audit(labels, pred_probs, storage_options=storage_options, **method)
    check_shape(plan.shape, plan.num_groups)  # before a cluster is started
    needed = plan.process_bytes + threads * plan.worker_bytes
    with (
        show_log(log_level, console),
        open_client(
            scheduler,
            workers,
            memory_limit,
            threads=threads,
            scheduler_file=scheduler_file,
            worker_bytes=needed,
        ) as client,
        report_performance(client, performance_report),
    ):
        if client is not None and client.dashboard_link and not quiet:
            click.echo(f"Dask dashboard: {_plain(client.dashboard_link)}", err=True)
        with end_on_signals(lambda: STOPPED):  # without closing the cluster, whose workers are busy
            report = audit_zarr(
                labels,
                pred_probs,
                output,
                client=client,
                progress=progress_for(not quiet, console),
                storage_options=storage_options,
                **arguments,
            )
    _finish(report)


@labelqc.command()
@click.argument("store")
@click.argument("pred_probs", required=False)
@method_options
@store_options
@one_line_errors
def info(
    store: str, pred_probs: str | None, storage_options: dict[str, str] | None, **arguments: Any
) -> None:
    """Show what an audit would read and need, before anything runs.

    STORE is a Zarr group that holds the arrays labels and pred_probs; or name the two arrays:
    LABELS PRED_PROBS.
    """
    from dask_labelqc.errors import InputError, advise
    from dask_labelqc.pipeline import plan_audit

    arguments["storage_options"] = storage_options
    if pred_probs:
        _print_plan(plan_audit(store, pred_probs, **arguments))
        return
    base = store.rstrip("/")
    try:
        plan = plan_audit(f"{base}/labels", f"{base}/pred_probs", **arguments)
    except InputError as error:
        error.advice = error.advice or advise("two arrays are named as LABELS PRED_PROBS")
        raise
    _print_plan(plan)


@labelqc.command()
@click.argument("directory", default="demo-output")
@click.option("--images", type=click.IntRange(min=1), default=240, show_default=True)
@click.option("--size", type=click.IntRange(min=32), default=512, show_default=True,
              help="Height and width in pixels.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--memory-limit", default="1GB", show_default=True, help="Of each worker.")
@click.option("--seed", type=int, default=0, show_default=True)
@one_line_errors
def demo(directory: str, **arguments: Any) -> None:
    """Make a dataset with known label errors in DIRECTORY, audit it, and compare.

    The predictions are larger than the memory of the workers.
    """
    from dask_labelqc.demo import run_demo

    run_demo(directory, **arguments)


def _print_plan(plan: JobPlan) -> None:
    images, classes, *spatial = plan.shape
    _print_table(
        {
            "images": f"{images:,} of {_times(spatial)} pixels",
            "classes": _classes(classes, plan.class_names),
            "pred_probs": f"{plan.dtype}, chunks of {_times(plan.chunks)} pixels",
            "read at a time": f"{_times(plan.block)} pixels",
            "groups": f"{plan.num_groups:,} of {_times(plan.group)} pixels",
            "bytes to read": _bytes(plan.bytes_to_read),
            "memory of a worker": f"{_bytes(plan.process_bytes)}, "
            f"and {_bytes(plan.worker_bytes)} for each of its threads",
        }
    )


def _finish(report: JobReport) -> None:
    """Print what was done, and leave with the status of an output that is not whole."""
    from dask_labelqc.pipeline.report import summary_of

    _print_table(summary_of(report, _advice))
    if report.failures:
        raise click.exceptions.Exit(PARTIAL)


def _print_table(rows: dict[str, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dask_labelqc.terminal import printable

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(printable(name)), Text(printable(value)))
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # a path that is cut is of no use to whoever reads it
    console.print(table)


def _classes(count: int, names: tuple[str, ...]) -> str:
    more = ", ..." if count > CLASSES_SHOWN else ""
    return f"{count:,}" + (f": {', '.join(names[:CLASSES_SHOWN])}{more}" if names else "")


def _times(shape: Any) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _bytes(count: int) -> str:
    from dask.utils import format_bytes

    text: str = format_bytes(count)
    return text
