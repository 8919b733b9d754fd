"""The commands. They parse, call and print."""

from __future__ import annotations

import functools
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
    dimension_options,
    example_options,
    file_options,
    method_options,
    refuse,
    run_options,
    store_options,
)

__all__ = ["StoppableGroup", "labelqc", "main"]

STOPPED = "stopped; the same command with --resume goes on"
BEGINS_ANEW = "stopped; the same command begins anew, from the records"
JOBS = {
    "audit": STOPPED,
    "audit-boxes": STOPPED,
    "audit-files": STOPPED,
    "finish": BEGINS_ANEW,
}
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
READ = (
    *("labels_format", "pred_probs_format", "class_colors", "background", "class_axis"),
    *("upsample", "interpolation", "resample", "tile"),
)
OF_FILES = (*READ, *OF_IMAGES[:-2], "write_pixel_scores", "write_predicted_label")
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
@dimension_options
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
    from dask_labelqc.pipeline.kinds import are_examples

    examples = arguments["image_dim"] is not False and are_examples(
        labels, pred_probs, arguments["storage_options"]
    )
    here, there = ("examples", "images") if examples else ("images", "examples")
    wrong = ONLY_IMAGES if examples else ONLY_EXAMPLES
    refuse(wrong, f"for {there} only, and by their dimensions these are {here}")
    return examples


@labelqc.command("audit-boxes")
@click.argument("places", metavar="[BOXES] OUTPUT", nargs=-1)
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
    _check_places(places, coco, yolo)
    if not yolo:
        refuse(("image_sizes", "class_names"), "for --yolo only")
    output = places[-1]
    beside = f"{output.rstrip('/').removesuffix('.zarr')}-boxes.zarr"
    boxes = places[0] if len(places) == 2 else beside
    if coco:
        store_coco(boxes, *coco, **how)
    elif yolo:
        if image_sizes is None:
            raise click.UsageError("--yolo needs --image-sizes.")
        store_yolo(boxes, *yolo, image_sizes, class_names=class_names or None, **how)
    known = {name: arguments[name] for name in ("storage_options", "keep_going")}
    plan = pipeline.plan_boxes_audit(boxes, **known)
    _run(pipeline.audit_boxes_zarr, (boxes, output), plan, **arguments)


def _check_places(places: tuple[str, ...], coco: Any, yolo: Any) -> None:
    """Raise UsageError unless there is one dataset, and a place for the output."""
    if coco and yolo:
        raise click.UsageError("--coco and --yolo name two datasets; give one of them.")
    if len(places) > 2:
        raise click.UsageError(f"Got {len(places)} places, {' '.join(places)}; two at the most.")
    if not places and (coco or yolo):
        taken = " ".join(coco or yolo)
        raise click.UsageError(
            f"Missing argument 'OUTPUT': {taken} are the two of {'--coco' if coco else '--yolo'}."
        )
    if len(places) < 2 and not (coco or yolo):
        raise click.UsageError("Missing argument 'OUTPUT', or --coco or --yolo instead of BOXES.")


@labelqc.command("audit-files")
@click.argument("output")
@click.option("--labels", metavar="FILES", required=True,
              help='A folder, a pattern such as "masks/{id}_mask.png", at any URL.')  # fmt: skip
@click.option("--pred-probs", metavar="FILES", required=True, help="Likewise.")
@file_options
@method_options
@click.option("--write-pixel-scores", is_flag=True, help="Also write the score of every pixel.")
@click.option("--write-predicted-label", is_flag=True, help="Also write the predicted classes.")
@run_options
@one_line_errors
def audit_files(output: str, labels: str, pred_probs: str, **arguments: Any) -> None:
    """Find the label issues of images in files, and write them to Zarr.

    Labels and predictions of the same image are files of the same name, but for the ending, or
    what {id} stands for in the patterns. A job that was killed goes on with --resume.
    """
    from dask_labelqc.pipeline.file_audit import audit_opened_files, open_files

    both = {name: arguments[name] for name in ("keep_going", "storage_options")}
    how = {name: arguments.pop(name) for name in OF_FILES}
    inputs = open_files(labels, pred_probs, **how, **both)
    _run(functools.partial(audit_opened_files, inputs), (output,), inputs.plan(), **arguments)


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
    threads: int | None,
    memory_limit: str | None,
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
            worker_bytes=plan.process_bytes + (threads or 1) * plan.worker_bytes,
        ) as client,
        report_performance(client, performance_report),
    ):
        if client is not None and client.dashboard_link and not quiet:
            click.echo(f"Dask dashboard: {plain(client.dashboard_link)}", err=True)
        said = JOBS.get(str(click.get_current_context().info_name), STOPPED)
        with end_on_signals(lambda: said):  # without closing the cluster, whose workers are busy
            progress = progress_for(not quiet, console)
            n_jobs = threads if client is None else None
            report = job(*places, client=client, n_jobs=n_jobs, progress=progress, **arguments)
    finish(report)


@labelqc.command()
@click.argument("store")
@click.argument("pred_probs", required=False)
@method_options
@dimension_options
@file_options
@store_options
@one_line_errors
def info(store: str, pred_probs: str | None, **arguments: Any) -> None:
    """Show what an audit would read and need, before anything runs.

    STORE is a Zarr group that holds the arrays labels and pred_probs, or the columnar dataset of
    boxes; or name the two arrays: LABELS PRED_PROBS. These may be files, too, as for audit-files,
    or LABELS alone: some of them are read.
    """
    from dask_labelqc import pipeline
    from dask_labelqc.pipeline.file_audit import are_files, describe_files
    from dask_labelqc.pipeline.kinds import arrays_in

    stores = {"storage_options": arguments["storage_options"]}
    if arguments["labels_format"] or are_files(store, **stores):
        print_table(describe_files(store, pred_probs, **_of_files(arguments), **stores))
        return
    arrays = (store, pred_probs) if pred_probs else arrays_in(store, **stores)
    if arrays is None:
        refuse(OF_IMAGES, f"for images only, and {store!r} has boxes")
        plan: Any = pipeline.plan_boxes_audit(store, **stores)
    elif _are_examples(*arrays, arguments):
        plan = pipeline.plan_examples_audit(*arrays, **stores)
    else:
        method = {name: arguments[name] for name in OF_IMAGES}
        labels, probs = arrays
        plan = pipeline.plan_audit(labels, probs, **stores, **method)
    print_table(plan.summary())


def _of_files(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in (*READ, *OF_IMAGES[:-2])}


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
