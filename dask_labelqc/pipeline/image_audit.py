"""Audit predictions of pixels in Zarr into an output in Zarr, on threads or a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distributed import Client

from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options
from dask_labelqc.pipeline.image_source import open_stored_images, table_beside
from dask_labelqc.pipeline.images import ImageInputs, open_images
from dask_labelqc.pipeline.inputs import PROCESS_BYTES
from dask_labelqc.pipeline.job import Finished, Run, run_job
from dask_labelqc.pipeline.plans import JobPlan, RaggedPlan
from dask_labelqc.pipeline.ragged import RaggedInputs
from dask_labelqc.pipeline.report import JobReport, lowest, most
from dask_labelqc.plan import GROUP_BYTES
from dask_labelqc.progress import Progress
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.arrays import StoreLocation
from dask_labelqc.typing import LabelDownsample, Validate

__all__ = ["audit_zarr", "plan_audit"]


def audit_zarr(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    output: str | Path,
    *,
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
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    client: Client | None = None,
    n_jobs: int | None = None,
    group_bytes: int = GROUP_BYTES,
    keep_going: bool = False,
    trust_inputs: bool = False,
    progress: Progress | bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> JobReport:
    r"""Find the label issues of a Zarr dataset and write them to Zarr.

    The predictions are read once, group by group; what is learned of a group is put on record in
    the output as soon as it is done. A job that was killed, at any moment, goes on from there when
    it is started again with ``resume=True``, and writes the same bytes.

    Parameters
    ----------
    labels
        Integers (N, \*spatial), or floats that are whole numbers: path, URL or open Zarr array. NaN
        and what its ``_FillValue`` and ``missing_value`` name take part in nothing. Of images of
        every size those of all pixels, (pixels,), beside which there is a table of the images.
    pred_probs
        Probabilities (N, K, \*spatial), or in any order if both arrays name their dimensions; of
        images of every size (K, pixels).
        Where coordinate arrays lie beside both, their labels say which positions belong together.
    output
        Path or URL of the Zarr group to make.
    resume
        Finish the output if it was begun by the same inputs and parameters.
    overwrite
        Replace the output.
    downsample
        Factor to shrink the images by for counting and selecting issues.
    label_downsample
        Label of a cell: "mean" of the class ids, or the "majority".
    ignore_index
        Label, or several, of pixels that take part in nothing.
    temperature
        Of the softmin image score.
    from_logits
        The predictions are logits.
    validate
        "full", "labels" or "none".
    write_pixel_scores, write_predicted_label
        Also write the score and the predicted class of every pixel.
    image_dim, class_dim
        The dimensions of the images and of the classes, where names do not say it; see `audit`.
    client
        The cluster to run on; threads of this process without one.
    n_jobs
        Threads, without a client.
    group_bytes
        Predictions that one task goes through, about; a whole number of storage chunks.
    keep_going
        Finish without the images that cannot be audited: their scores are NaN, they have no
        issues and take part in no threshold, and the attribute ``not_audited`` lists them. The
        output's ``status`` is "partial"; ``resume=True`` tries these images again.
    trust_inputs
        Do not look whether chunks of the inputs changed since an earlier run read them; otherwise
        ``resume=True`` audits again what did.
    progress
        Shown on the standard error, or told to an object of your own.
    storage_options
        Of the stores that the URLs name, as in `dask_labelqc.storage.stores.open_store`: keys and
        settings.

    Returns
    -------
    JobReport
        Its ``open()`` is the output as an xarray Dataset.

    Raises
    ------
    InputError
        The inputs or arguments cannot be used, or workers lack this version of the package.
    OutputError
        The output cannot be made, or another job is writing it.
    BlockError
        Images failed three times, on different workers if there are any; the output is
        unfinished.

    See Also
    --------
    dask_labelqc.segmentation.audit, dask_labelqc.pipeline.plan_audit
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
    inputs = open_inputs(
        labels,
        pred_probs,
        options,
        storage_options=storage_options,
        group_bytes=group_bytes,
        image_dim=image_dim,
        class_dim=class_dim,
    )
    run = Run(
        resume=resume,
        overwrite=overwrite,
        client=client,
        n_jobs=n_jobs,
        keep_going=keep_going,
        trust_inputs=trust_inputs,
        progress=progress,
        storage_options=storage_options,
    )
    finished = run_job(inputs, output, run)
    return report_of(inputs, finished, str(output), storage_options)


def open_inputs(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    options: Options,
    *,
    storage_options: Mapping[str, Any] | None,
    group_bytes: int,
    image_dim: ImageDim,
    class_dim: ClassDim,
) -> ImageInputs | RaggedInputs:
    """Open arrays of images of one size, or flat ones with a table of images beside them."""
    if table_beside(labels, storage_options):
        source = open_stored_images(
            labels, pred_probs, storage_options=storage_options, class_dim=class_dim
        )
        return RaggedInputs.of(source, options, group_bytes=group_bytes)
    return open_images(
        labels,
        pred_probs,
        options,
        storage_options=storage_options,
        group_bytes=group_bytes,
        image_dim=image_dim,
        class_dim=class_dim,
    )


def report_of(
    inputs: ImageInputs | RaggedInputs,
    finished: Finished,
    output: str,
    storage_options: Mapping[str, Any] | None,
) -> JobReport:
    """Return what a job on images did."""
    return JobReport(
        output=output,
        num_images=inputs.params.num_images,
        num_pixels=math.prod(inputs.params.shape),
        num_issues=finished.number("num_issues"),
        worst_images=lowest(finished.read("image_score")),
        worst_classes=most(finished.read("class_issue_count"), inputs.params.class_names),
        storage_options=storage_options,
        **finished.about(),
    )


def plan_audit(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    downsample: int = 1,
    label_downsample: LabelDownsample = "mean",
    ignore_index: int | Iterable[int] | None = None,
    temperature: float = 0.1,
    from_logits: bool = False,
    validate: Validate = "full",
    write_pixel_scores: bool = False,
    write_predicted_label: bool = False,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    group_bytes: int = GROUP_BYTES,
    storage_options: Mapping[str, Any] | None = None,
) -> JobPlan | RaggedPlan:
    """Return what `audit_zarr` with these arguments will read and need; reads only metadata.

    Parameters
    ----------
    labels, pred_probs, downsample, label_downsample, ignore_index, temperature, from_logits
        As in `audit_zarr`.
    validate, write_pixel_scores, write_predicted_label, image_dim, class_dim, group_bytes
        As there.
    storage_options
        As there.

    Returns
    -------
    JobPlan or RaggedPlan
        Shapes, chunks, groups, bytes to read, and the memory that a worker needs; the second of
        images of every size.
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
    inputs = open_inputs(
        labels,
        pred_probs,
        options,
        storage_options=storage_options,
        group_bytes=group_bytes,
        image_dim=image_dim,
        class_dim=class_dim,
    )
    if isinstance(inputs, RaggedInputs):
        return inputs.plan()
    params, plan = inputs.params, inputs.plan
    return JobPlan(
        shape=inputs.reader.shape,
        dtype=str(params.dtype),
        chunks=inputs.reader.chunk,
        block=plan.block,
        group=plan.group,
        num_groups=plan.num_groups,
        bytes_to_read=math.prod(params.shape) * params.pixel_bytes,
        worker_bytes=inputs.worker_bytes(),
        process_bytes=PROCESS_BYTES,
        class_names=tuple(params.naming().get("class_names", ())),
    )
