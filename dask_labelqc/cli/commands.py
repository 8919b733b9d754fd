"""The commands. They parse, call and print."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dask_labelqc.cli.messages import (
    finish,
    one_line_errors,
    plain,
    print_table,
)
from dask_labelqc.cli.options import (
    box_options,
    cluster_options,
    example_options,
    given_options,
    method_options,
    run_options,
    store_options,
)

__all__ = ["StoppableGroup", "labelqc", "main"]

STOPPED = "stopped; the same command with --resume goes on"
BEGINS_ANEW = "stopped; the same command begins anew, from the records"
JOBS = {"audit": STOPPED, "audit-boxes": STOPPED, "finish": BEGINS_ANEW}
"""What to say of those that were stopped; `end_on_signals` asks when they are."""
OF_IMAGES = (
    "downsample",
    "label_downsample",
    "ignore_index",
    "temperature",
    "from_logits",
    "validate",
    "image_dim",
    "class_dim",
)
OF_EXAMPLES = ("method", "adjust_pred_probs", "estimation_method")
ONLY_IMAGES = (*OF_IMAGES, "write_pixel_scores")
ONLY_EXAMPLES = (*OF_EXAMPLES, "write_label_quality")


def main() -> None:
    """Run the command line under its own name."""
    labelqc(prog_name="dask-labelqc")


class StoppableGroup(click.Group):
    """Commands that Ctrl-C and SIGTERM end in one line, from the parsing of their options on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from dask_labelqc.signals import end_on_signals

        with end_on_signals(lambda: JOBS.get(str(ctx.invoked_subcommand), "stopped")):
            return super().invoke(ctx)


@click.group(cls=StoppableGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dask-labelqc", prog_name="dask-labelqc")
def labelqc() -> None:
    """Find the label errors of datasets that do not fit in memory."""


@labelqc.command()
@click.argument("places", metavar="DATASET OUTPUT | LABELS PRED_PROBS OUTPUT", nargs=-1)
@method_options
@click.option("--write-pixel-scores", is_flag=True, help="Also write the score of every pixel.")
@example_options
@click.option("--write-label-quality", is_flag=True, help="Also write the score of every example.")
@click.option("--write-predicted-label", is_flag=True, help="Also write the predicted classes.")
@run_options
@one_line_errors
def audit(places: tuple[str, ...], **arguments: Any) -> None:
    """Find the label issues of a Zarr dataset and write them to Zarr.

    DATASET is a Zarr group that holds the arrays labels and pred_probs; or name both. LABELS
    (N, *spatial) of images, or (N,) of examples, and PRED_PROBS (N, K, *spatial) or (N, K) are Zarr
    arrays; those of images of every size are (pixels,) and (K, pixels), with a table of the images
    in the same group. OUTPUT is the Zarr group to make. A job that was killed goes on where it was
    when it is started again with --resume.
    """
    from dask_labelqc import pipeline

    if len(places) not in (2, 3):
        raise click.UsageError("name a DATASET and the OUTPUT, or LABELS, PRED_PROBS and OUTPUT")
    *inputs, output = places
    labels, pred_probs = _two_arrays(*inputs)
    stores = {"storage_options": arguments["storage_options"]}
    examples = _are_examples(labels, pred_probs, arguments)
    for name in ONLY_IMAGES if examples else ONLY_EXAMPLES:
        del arguments[name]
    if examples:
        plan: Any = pipeline.plan_examples_audit(labels, pred_probs, **stores)
        _run(pipeline.audit_examples_zarr, (labels, pred_probs, output), plan, **arguments)
        return
    method = {name: arguments[name] for name in OF_IMAGES}
    plan = pipeline.plan_audit(labels, pred_probs, **stores, **method)
    _run(pipeline.audit_zarr, (labels, pred_probs, output), plan, **arguments)


def _two_arrays(store: str, pred_probs: str | None = None) -> tuple[str, str]:
    """Return where labels and predictions are, of which both or their group are named."""
    base = store.rstrip("/")
    return (store, pred_probs) if pred_probs else (f"{base}/labels", f"{base}/pred_probs")


def _are_examples(labels: str, pred_probs: str, arguments: dict[str, Any]) -> bool:
    """Return whether arrays are of examples; options that go with the other kind are an error."""
    from dask_labelqc.errors import InputError
    from dask_labelqc.pipeline.examples import are_examples

    examples = arguments["image_dim"] is not False and are_examples(
        labels, pred_probs, arguments["storage_options"]
    )
    if given := given_options(ONLY_IMAGES if examples else ONLY_EXAMPLES):
        here, there = ("examples", "images") if examples else ("images", "examples")
        raise InputError(
            f"{', '.join(given)}: for {there} only, and by their dimensions these are {here}"
        )
    return examples


@labelqc.command("audit-boxes")
@click.argument("places", metavar="[BOXES] OUTPUT", nargs=-1, required=True)
@click.option("--coco", nargs=2, metavar="TRUTH RESULTS",
              help="COCO files of the ground truth and of the predictions.")  # fmt: skip
@click.option("--yolo", nargs=2, metavar="LABELS PREDICTIONS",
              help="YOLO folders of labels and predictions.")  # fmt: skip
@click.option("--image-sizes", metavar="FOLDER|WIDTHxHEIGHT",
              help="With --yolo: the folder of the images, or the size of all.")  # fmt: skip
@click.option("--class-name", "class_names", multiple=True,
              help="With --yolo: of a class, in their order.")  # fmt: skip
@box_options
@run_options
@one_line_errors
def audit_boxes(
    places: tuple[str, ...],
    coco: tuple[str, str] | None,
    yolo: tuple[str, str] | None,
    image_sizes: str | None,
    class_names: tuple[str, ...],
    **arguments: Any,
) -> None:
    """Score the boxes and images of a dataset, and write that to Zarr.

    BOXES is the columnar dataset, a Zarr group; with --coco or --yolo it is made of these files,
    beside OUTPUT if BOXES is not named. A job that was killed goes on with --resume.
    """
    from dask_labelqc import pipeline
    from dask_labelqc.pipeline.box_files import store_coco, store_yolo

    how = {name: arguments[name] for name in ("storage_options", "overwrite")}
    if len(places) > 2 or (coco and yolo):
        raise click.UsageError("Got more than one dataset or output.")
    output = places[-1]
    if len(places) == 1 and not (coco or yolo):
        raise click.UsageError("Missing argument 'OUTPUT', or --coco or --yolo instead of BOXES.")
    beside = f"{output.rstrip('/').removesuffix('.zarr')}-boxes.zarr"
    boxes = places[0] if len(places) == 2 else beside
    if coco:
        store_coco(boxes, *coco, **how)
    elif yolo:
        if image_sizes is None:
            raise click.UsageError("--yolo needs --image-sizes.")
        store_yolo(boxes, *yolo, image_sizes, class_names=class_names or None, **how)
    plan = pipeline.plan_boxes_audit(boxes, storage_options=arguments["storage_options"])
    _run(pipeline.audit_boxes_zarr, (boxes, output), plan, **arguments)


@labelqc.command("finish")
@click.argument("output")
@click.option("--manifest", metavar="FILE",
              help="The ids of the images, one a line, in the order of the audit.")  # fmt: skip
@click.option("--allow-missing", is_flag=True,
              help="Audit the images that are both in the manifest and on record.")  # fmt: skip
@cluster_options
@one_line_errors
def finish_recorded(output: str, **arguments: Any) -> None:
    """Make the audit of what inspectors have put on record in OUTPUT.

    Images may be put on record after that, and the audit be finished again.
    """
    from dask_labelqc.inspectors import FinishPlan, finish_audit

    _run(finish_audit, (output,), FinishPlan(), **arguments)


def _run(
    job: Callable[..., Any],
    places: tuple[str, ...],
    plan: Any,
    *,
    scheduler: str | None,
    scheduler_file: str | None,
    workers: int | None,
    threads: int,
    memory_limit: str,
    quiet: bool,
    log_level: str,
    performance_report: str | None,
    **arguments: Any,
) -> None:
    """Run a job where the options say, and print what it did."""
    from rich.console import Console

    from dask_labelqc.cluster import open_client
    from dask_labelqc.logs import show_log
    from dask_labelqc.performance import report_performance
    from dask_labelqc.progress import progress_for
    from dask_labelqc.signals import end_on_signals

    console = Console(stderr=True)
    plan.check()  # before a cluster is started
    with (
        show_log(log_level, console),
        open_client(
            scheduler,
            workers,
            memory_limit,
            threads=threads,
            scheduler_file=scheduler_file,
            worker_bytes=plan.process_bytes + threads * plan.worker_bytes,
        ) as client,
        report_performance(client, performance_report),
    ):
        if client is not None and client.dashboard_link and not quiet:
            click.echo(f"Dask dashboard: {plain(client.dashboard_link)}", err=True)
        said = JOBS.get(str(click.get_current_context().info_name), STOPPED)
        with end_on_signals(lambda: said):  # without closing the cluster, whose workers are busy
            progress = progress_for(not quiet, console)
            report = job(*places, client=client, progress=progress, **arguments)
    finish(report)


@labelqc.command()
@click.argument("store")
@click.argument("pred_probs", required=False)
@method_options
@store_options
@one_line_errors
def info(store: str, pred_probs: str | None, **arguments: Any) -> None:
    """Show what an audit would read and need, before anything runs.

    STORE is a Zarr group that holds the arrays labels and pred_probs, or the columnar dataset of
    boxes; or name the two arrays: LABELS PRED_PROBS.
    """
    from dask_labelqc import pipeline
    from dask_labelqc.errors import InputError, advise
    from dask_labelqc.pipeline.boxes import hold_boxes

    stores = {"storage_options": arguments["storage_options"]}
    if not pred_probs and hold_boxes(store, **stores):
        print_table(pipeline.plan_boxes_audit(store, **stores).summary())
        return
    labels, probs = _two_arrays(store, pred_probs)
    try:
        if _are_examples(labels, probs, arguments):
            plan: Any = pipeline.plan_examples_audit(labels, probs, **stores)
        else:
            method = {name: arguments[name] for name in OF_IMAGES}
            plan = pipeline.plan_audit(labels, probs, **stores, **method)
    except InputError as error:
        if not pred_probs:
            error.advice = error.advice or advise("two arrays are named as LABELS PRED_PROBS")
        raise
    print_table(plan.summary())


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
