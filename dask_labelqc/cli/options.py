"""The options of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from dask_labelqc.cli.messages import one_line

__all__ = [
    "box_options",
    "cluster_options",
    "dimension_options",
    "example_options",
    "file_options",
    "method_options",
    "refuse",
    "run_options",
    "store_options",
]

F = TypeVar("F", bound=Callable[..., Any])


def _with(command: F, options: Iterable[Callable[[F], F]]) -> F:
    for option in reversed(list(options)):
        command = option(command)
    return command


def method_options(command: F) -> F:
    """Add the options that say what is computed of images."""
    return _with(
        command,
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
        ),
    )  # fmt: skip


def dimension_options(command: F) -> F:
    """Add the options that say what the dimensions of arrays are."""
    return _with(
        command,
        (
            click.option("--image-dim", metavar="NAME", callback=_dimension,
                         help="Dimension of the images, by name or number; none for one scene."),
            click.option("--class-dim", metavar="NAME", callback=_dimension,
                         help="Dimension of the classes, by name or number."),
        ),
    )  # fmt: skip


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
    from dask_labelqc.storage.connections import parse_storage_options

    try:
        return parse_storage_options(pairs) or None
    except InputError as error:
        raise click.ClickException(one_line(error)) from error


def example_options(command: F) -> F:
    """Add the options that say what is computed of examples."""
    return _with(
        command,
        (
            click.option("--method", type=click.Choice(
                             ["self_confidence", "normalized_margin", "confidence_weighted_entropy"]
                         ), default="self_confidence", show_default=True,
                         help="Label quality score of examples."),
            click.option("--adjust-pred-probs", is_flag=True,
                         help="Of examples: subtract the confident thresholds first."),
            click.option("--estimation-method",
                         type=click.Choice(["off_diagonal", "off_diagonal_calibrated"]),
                         default="off_diagonal", show_default=True,
                         help="Of the number of issues among examples."),
        ),
    )  # fmt: skip


def box_options(command: F) -> F:
    """Add the options that say how boxes are scored."""
    return _with(
        command,
        (
            click.option("--aggregation-weight", "aggregation_weights", metavar="KIND=WEIGHT",
                         multiple=True, callback=_weights,
                         help="In the image score: overlooked, badloc, swap, and spurious if "
                         "wanted; all of them, one option each."),
            click.option("--no-overlapping-label-check", "overlapping_label_check", is_flag=True,
                         flag_value=False, default=True,
                         help="Given boxes that nearly coincide may have different classes."),
            click.option("--alpha", type=float, default=0.9, show_default=True,
                         help="Weight of the IoU in the similarity."),
            click.option("--low-probability-threshold", type=float, default=0.5, show_default=True,
                         help="Of predictions that count for badloc."),
            click.option("--high-probability-threshold", type=float, default=0.95,
                         show_default=True, help="Of those for overlooked and swap."),
            click.option("--temperature", type=float, default=0.1, show_default=True,
                         help="Of the softmin over the boxes of an image."),
        ),
    )  # fmt: skip


def _weights(context: Any, option: Any, pairs: tuple[str, ...]) -> dict[str, float] | None:
    try:
        return {kind: float(weight) for kind, weight in (p.split("=") for p in pairs)} or None
    except ValueError:
        raise click.BadParameter(f"got {' '.join(pairs)}, each must be KIND=WEIGHT") from None


def file_options(command: F) -> F:
    """Add the options that say how files are read."""
    return _with(
        command,
        (
            click.option("--labels-format", metavar="FORMAT",
                         help="Where names do not say it: picture, tiff, geotiff, nifti, npy, npz, "
                         "zarr, parquet, panoptic, instances."),
            click.option("--pred-probs-format", metavar="FORMAT", help="Likewise."),
            click.option("--class-colors", metavar="FILE",
                         help="The labels are colours: which is which class, as JSON or CSV."),
            click.option("--no-background", "background", is_flag=True, flag_value=False,
                         default=True, help="Of COCO instances: what none covers is ignored, and "
                         "not class 0."),
            click.option("--class-axis", type=int, metavar="AXIS",
                         help="Of stored predictions; -1 is the last. The first by default."),
            click.option("--upsample", type=int, default=1, show_default=True,
                         help="The predictions are smaller by this factor."),
            click.option("--interpolation", type=click.Choice(["bilinear", "nearest"]),
                         default="bilinear", show_default=True,
                         help="How they come to the pixels of the labels."),
            click.option("--resample", is_flag=True,
                         help="Predictions may be on another grid over the same scene, as their "
                         "files tell."),
            click.option("--tile", type=int, metavar="PIXELS",
                         help="Cut larger images into parts, which count as images."),
        ),
    )  # fmt: skip


def run_options(command: F) -> F:
    """Add the options that say how a job is run."""
    return _with(
        cluster_options(command),
        (
            click.option("--resume", is_flag=True,
                         help="Finish an output that was begun by this command."),
            click.option("--overwrite", is_flag=True, help="Replace the output."),
            click.option("--keep-going", is_flag=True,
                         help="Finish without images or examples that cannot be audited; exit "
                         "with 3 then."),
            click.option("--trust-inputs", is_flag=True,
                         help="Do not look whether inputs changed since they were read."),
        ),
    )  # fmt: skip


def cluster_options(command: F) -> F:
    """Add the options that say where a job is run, and what it shows."""
    return _with(
        store_options(command),
        (
            click.option("--scheduler", metavar="ADDRESS",
                         help="Run on this Dask scheduler's workers."),
            click.option("--scheduler-file", metavar="FILE",
                         help="The same, by the file that it wrote."),
            click.option("--workers", type=click.IntRange(min=0),
                         help="Processes of a local cluster, one a core by default; 0 for "
                         "threads."),
            click.option("--threads", type=click.IntRange(min=1),
                         help="Of each local worker, 1 by default; with --workers 0 of this "
                         "process, one a core by default."),
            click.option("--memory-limit", metavar="BYTES",
                         help="Of each local worker, such as 2GB; by default its share of the "
                         "machine's."),
            click.option("--quiet", is_flag=True, help="No progress."),
            click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
                         default="warning", show_default=True,
                         help="A line for each block at debug."),
            click.option("--performance-report", metavar="FILE",
                         help="Write Dask's report of how the cluster spent its time, HTML."),
        ),
    )  # fmt: skip


def refuse(names: Iterable[str], why: str) -> None:
    """Raise InputError if any of these options of the command was given; they have no effect."""
    from dask_labelqc.errors import InputError

    context, wanted = click.get_current_context(), set(names)
    given = [
        str(option.opts[0])
        for option in context.command.params
        if option.name in wanted
        and context.get_parameter_source(str(option.name)) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise InputError(f"{', '.join(given)}: {why}")
