"""Audit the boxes of images in Zarr into an output in Zarr, on threads or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr
from distributed import Client

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, open_boxes
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.pipeline.boxes import BoxInputs
from dask_labelqc.pipeline.inputs import PROCESS_BYTES
from dask_labelqc.pipeline.job import Finished, Run, run_job
from dask_labelqc.pipeline.plans import BoxPlan
from dask_labelqc.pipeline.report import BoxReport, lowest
from dask_labelqc.progress import Progress

__all__ = ["audit_boxes_zarr", "box_report", "plan_boxes_audit"]


def audit_boxes_zarr(
    boxes: str | Path | zarr.Group,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    aggregation_weights: Mapping[str, float] | None = None,
    overlapping_label_check: bool = True,
    alpha: float | None = 0.9,
    low_probability_threshold: float | None = 0.5,
    high_probability_threshold: float | None = 0.95,
    temperature: float | None = 0.1,
    client: Client | None = None,
    n_jobs: int | None = None,
    block_boxes: int = BLOCK_BOXES,
    keep_going: bool = False,
    trust_inputs: bool = False,
    progress: Progress | bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> BoxReport:
    """Score the boxes and images of a Zarr dataset, and write that to Zarr.

    The answers are those of `dask_labelqc.object_detection.audit`, to the bit. The boxes are read
    twice, group by group: to survey the dataset, which is put on record, and to score them. A job
    that was killed, at any moment, goes on when it is started again with ``resume=True``, and
    writes the same bytes.

    Parameters
    ----------
    boxes
        The columnar dataset in Zarr: path, URL or open group. See
        `dask_labelqc.object_detection.dataset`, whose `from_coco` and `from_yolo` make it.
    output
        Path or URL of the Zarr group to make.
    resume, overwrite
        Finish the output if it was begun by the same inputs and parameters; or replace it.
    aggregation_weights
        Weights in the image score: a third each for "overlooked", "badloc" and "swap" by default;
        "spurious" counts, there and in ``label_issues``, only when it is given a weight.
    overlapping_label_check
        Whether a given box that nearly coincides with one of another class counts as swapped.
    alpha
        Weight of the IoU against the distance of the centres in the similarity of two boxes.
    low_probability_threshold, high_probability_threshold
        Predictions above the first count for badloc, above the second for overlooked and swap.
    temperature
        Of the softmin over the boxes of an image; the lower, the nearer to the minimum.
    client, n_jobs
        The cluster to run on; or threads of this process.
    block_boxes
        Boxes that one task holds, about.
    keep_going
        Finish without the images that cannot be audited: their scores are NaN, they have no
        issues, and the attribute ``not_audited`` lists them; ``resume=True`` tries them again.
    trust_inputs
        Do not look whether chunks of the inputs changed since an earlier run read them.
    progress
        Shown on the standard error, or told to an object of your own.
    storage_options
        Of the stores that the URLs name, as in `dask_labelqc.storage.stores.open_store`.

    Returns
    -------
    BoxReport
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
    dask_labelqc.object_detection.audit, dask_labelqc.pipeline.audit_zarr
    """
    inputs = _open(
        boxes,
        storage_options,
        block_boxes,
        weights=aggregation_weights,
        overlapping_label_check=bool(overlapping_label_check),
        alpha=alpha,
        low_probability_threshold=low_probability_threshold,
        high_probability_threshold=high_probability_threshold,
        temperature=temperature,
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
    return box_report(run_job(inputs, output, run), output, inputs, storage_options)


def box_report(
    finished: Finished,
    output: str | Path,
    inputs: BoxInputs,
    storage_options: Mapping[str, Any] | None,
) -> BoxReport:
    """Return what a job on boxes has to say."""
    return BoxReport(
        output=str(output),
        num_images=inputs.sizes["image"],
        num_given=inputs.sizes["given_box"],
        num_predicted=inputs.sizes["predicted_box"],
        num_issues=finished.number("num_issues"),
        worst_images=lowest(finished.read("image_score")),
        storage_options=storage_options,
        **finished.about(),
    )


def _open(
    boxes: str | Path | zarr.Group,
    storage_options: Mapping[str, Any] | None,
    block_boxes: int,
    **options: Any,
) -> BoxInputs:
    if not isinstance(boxes, str | Path | zarr.Group):
        raise InputError(
            f"boxes: got {type(boxes).__name__}, it must be the path or URL of a columnar dataset "
            "in Zarr, or an open group; from_lists, from_coco and from_yolo make one, to_zarr "
            "stores it"
        )
    opened = open_boxes(boxes, storage_options=storage_options)
    return BoxInputs.of(opened, BoxScoreOptions.given(**options), block_boxes)


def plan_boxes_audit(
    boxes: str | Path | zarr.Group,
    *,
    storage_options: Mapping[str, Any] | None = None,
    block_boxes: int = BLOCK_BOXES,
) -> BoxPlan:
    """Return what `audit_boxes_zarr` will read and need; reads only metadata and offsets.

    Parameters
    ----------
    boxes, storage_options, block_boxes
        As in `audit_boxes_zarr`.

    Returns
    -------
    BoxPlan
        Sizes, groups, bytes to read, and the memory that a worker needs.
    """
    inputs = _open(boxes, storage_options, block_boxes)
    return BoxPlan(
        num_images=inputs.sizes["image"],
        num_given=inputs.sizes["given_box"],
        num_predicted=inputs.sizes["predicted_box"],
        num_classes=inputs.num_classes,
        num_groups=inputs.num_groups,
        bytes_to_read=sum(array.nbytes for array in inputs.columns.values()),
        worker_bytes=inputs.worker_bytes(),
        process_bytes=PROCESS_BYTES,
        class_names=tuple(inputs.class_names.values()),
    )
