"""Audit labels and predictions that are files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import Client

from dask_labelqc.errors import LabelQCError
from dask_labelqc.files.class_colors import ClassColors
from dask_labelqc.files.description import describe
from dask_labelqc.files.opening import Images, is_known_file
from dask_labelqc.files.opening import labels as labels_reader
from dask_labelqc.files.opening import pred_probs as pred_probs_reader
from dask_labelqc.files.places import is_pattern
from dask_labelqc.files.resolution import Interpolation, Resolution
from dask_labelqc.files.source import open_source
from dask_labelqc.images import ImageTable
from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options
from dask_labelqc.pipeline.file_images import FileImages
from dask_labelqc.pipeline.image_audit import report_of
from dask_labelqc.pipeline.job import Run, run_job
from dask_labelqc.pipeline.ragged import RaggedInputs
from dask_labelqc.pipeline.report import JobReport
from dask_labelqc.plan import GROUP_BYTES
from dask_labelqc.progress import Progress
from dask_labelqc.storage.objects import list_names
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import LabelDownsample, Validate

__all__ = ["are_files", "audit_files", "audit_opened_files", "describe_files", "open_files"]

OF_LABELS = ("class_colors", "background")


def open_files(
    labels: Images,
    pred_probs: Images,
    *,
    labels_format: str | None = None,
    pred_probs_format: str | None = None,
    class_colors: ClassColors | None = None,
    background: bool = True,
    class_axis: int | None = None,
    upsample: int = 1,
    interpolation: Interpolation = "bilinear",
    resample: bool = False,
    tile: int | None = None,
    downsample: int = 1,
    label_downsample: LabelDownsample = "mean",
    ignore_index: int | Iterable[int] | None = None,
    temperature: float = 0.1,
    from_logits: bool = False,
    validate: Validate = "full",
    write_pixel_scores: bool = False,
    write_predicted_label: bool = False,
    group_bytes: int = GROUP_BYTES,
    keep_going: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> RaggedInputs:
    """Find the files, pair them, look at their sizes, and cut the images into groups.

    Parameters
    ----------
    labels, pred_probs
        As in `audit_files`, with all that follows.

    Returns
    -------
    RaggedInputs
        For `audit_opened_files`; its ``plan()`` says what will be read.
    """
    options = Options.of(
        downsample=downsample,
        label_downsample=label_downsample,
        ignore_index=ignore_index,
        temperature=temperature,
        from_logits=from_logits,
        validate=validate,
        outputs=every_output(
            pixel_scores=write_pixel_scores, predicted_label=write_predicted_label
        ),
    )
    resolution = Resolution.of(upsample, interpolation, resample)
    given = labels_reader(
        labels,
        format=labels_format,
        class_colors=class_colors,
        background=background,
        storage_options=storage_options,
    )
    predicted = pred_probs_reader(
        pred_probs,
        format=pred_probs_format,
        class_axis=class_axis,
        storage_options=storage_options,
    )
    source = open_source(given, predicted, resolution, tile=tile, keep_going=keep_going)
    return RaggedInputs.of(FileImages(source), options, group_bytes=group_bytes, regular=True)


def audit_files(
    output: str | Path,
    *,
    labels: Images,
    pred_probs: Images,
    labels_format: str | None = None,
    pred_probs_format: str | None = None,
    class_colors: ClassColors | None = None,
    background: bool = True,
    class_axis: int | None = None,
    upsample: int = 1,
    interpolation: Interpolation = "bilinear",
    resample: bool = False,
    tile: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    downsample: int = 1,
    label_downsample: LabelDownsample = "mean",
    ignore_index: int | Iterable[int] | None = None,
    temperature: float = 0.1,
    from_logits: bool = False,
    validate: Validate = "full",
    write_pixel_scores: bool = False,
    write_predicted_label: bool = False,
    client: Client | None = None,
    n_jobs: int | None = None,
    group_bytes: int = GROUP_BYTES,
    keep_going: bool = False,
    trust_inputs: bool = False,
    progress: Progress | bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> JobReport:
    """Find the label issues of images in files, and write them to Zarr.

    The same job as `audit_zarr`, with the same answers: each file of predictions is read once, and
    a job that was killed goes on with ``resume=True``. Images have any size. Pairs are made by id;
    one warning lists what has no partner.

    Parameters
    ----------
    output
        Path or URL of the Zarr group to make: images of one size as `audit_zarr` writes them with
        ``image_id`` besides, of several sizes on one flat axis of pixels.
    labels
        A folder, a pattern such as ``"masks/*.png"`` or ``"gt/*/{id}_labels.png"``, a file, or
        several, at any URL; or a reader of your own. See `dask_labelqc.files.labels`.
    pred_probs
        Likewise; see `dask_labelqc.files.pred_probs`.
    labels_format, pred_probs_format
        Where the names of the files do not say it.
    class_colors
        The labels are colours: which is which class; see `dask_labelqc.files.read_colors`.
    background
        Of COCO instances: class 0 is what none covers, else that takes part in nothing.
    class_axis
        Of stored predictions: the first axis, or -1 for the last.
    upsample
        The predictions are smaller by this factor along every axis.
    interpolation
        "bilinear" or "nearest": how smaller predictions, or those on another grid, come to the
        pixels of the labels. Of one image after the other, so that it does not matter what is read
        together.
    resample
        The predictions may be on another grid over the same scene, as GeoTIFF and NIfTI tell.
    tile
        Cut larger images into parts of so many pixels along each axis, which count as images.
        GeoTIFF and Zarr are read part by part.
    resume, overwrite, downsample, label_downsample, ignore_index, temperature, from_logits
        As in `audit_zarr`. What files say stands for no label is ignored, too.
    validate, write_pixel_scores, write_predicted_label, client, n_jobs, group_bytes
        As there.
    keep_going
        As there: files that cannot be read are left out, and listed.
    trust_inputs
        Do not look whether files changed since an earlier run read them.
    progress, storage_options
        As there.

    Returns
    -------
    JobReport
        Its ``open()`` is the output as an xarray Dataset.

    Raises
    ------
    ImportError
        What reads a format is not installed.
    InputError
        The files or arguments cannot be used; names the file.
    OutputError
        The output cannot be made, or another job is writing it.
    BlockError
        Images failed three times, on different workers if there are any; the output is
        unfinished.

    See Also
    --------
    dask_labelqc.audit_zarr, dask_labelqc.files.labels
    """
    inputs = open_files(
        labels,
        pred_probs,
        labels_format=labels_format,
        pred_probs_format=pred_probs_format,
        class_colors=class_colors,
        background=background,
        class_axis=class_axis,
        upsample=upsample,
        interpolation=interpolation,
        resample=resample,
        tile=tile,
        downsample=downsample,
        label_downsample=label_downsample,
        ignore_index=ignore_index,
        temperature=temperature,
        from_logits=from_logits,
        validate=validate,
        write_pixel_scores=write_pixel_scores,
        write_predicted_label=write_predicted_label,
        group_bytes=group_bytes,
        keep_going=keep_going,
        storage_options=storage_options,
    )
    return audit_opened_files(
        inputs,
        output,
        resume=resume,
        overwrite=overwrite,
        client=client,
        n_jobs=n_jobs,
        keep_going=keep_going,
        trust_inputs=trust_inputs,
        progress=progress,
        storage_options=storage_options,
    )


def audit_opened_files(inputs: RaggedInputs, output: str | Path, **how: Any) -> JobReport:
    """Do as `audit_files`, with files that `open_files` has opened and the arguments of `Run`."""
    table = inputs.source.table
    with _calling_images(table):
        finished = run_job(inputs, output, Run(**how))
    named = [replace(f, cause=_called(f.cause, table)) for f in finished.failures]
    finished = replace(finished, failures=named)
    report = report_of(inputs, finished, str(output), how.get("storage_options"))
    worst = tuple((str(table.ids[int(image)]), score) for image, score in report.worst_images)
    return replace(report, worst_images=worst)


def describe_files(labels: Images, pred_probs: Images | None = None, **how: Any) -> dict[str, str]:
    """Return what is in files, and what an audit would read, as text by name.

    Parameters
    ----------
    labels, pred_probs
        As in `audit_files`; labels alone are described, too.
    **how
        The arguments of `open_files`.
    """
    stores: dict[str, Any] = {"storage_options": how.get("storage_options")}
    about: dict[str, Any] = {name: how[name] for name in OF_LABELS if name in how}
    given = labels_reader(labels, format=how.get("labels_format"), **about, **stores)
    if pred_probs is None:
        return describe(given)
    axis = {"class_axis": how.get("class_axis")}
    predicted = pred_probs_reader(pred_probs, format=how.get("pred_probs_format"), **axis, **stores)
    plan = open_files(given, predicted, **how).plan()
    return describe(given) | describe(predicted) | plan.summary()


def are_files(location: str, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Say if a path or URL names files with images, and not a Zarr array or group."""
    if is_pattern(location) or is_known_file(location):
        return True
    try:
        names = list_names(open_store(location, storage_options), "")
    except (OSError, NotImplementedError):
        return False
    return bool(names) and not {"zarr.json", ".zarray", ".zgroup"} & {*names}


@contextmanager
def _calling_images(table: ImageTable) -> Iterator[None]:
    """Call images in errors by their ids, as their files are called, besides their numbers."""
    try:
        yield
    except LabelQCError as error:
        error.message = _called(error.message, table)
        error.args = (error.message,)
        raise


def _called(message: str, table: ImageTable) -> str:
    def call(found: re.Match[str]) -> str:
        number = int(found[1])
        known = number < table.num_images
        return f"image {number} ({table.ids[number]})" if known else found[0]

    return re.sub(r"\bimage (\d+)\b(?! \()", call, message)
