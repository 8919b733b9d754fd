"""Audit predictions in Zarr into an output in Zarr, on threads or a cluster, restartable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from distributed import Client

from dask_labelqc.graph.blocks import GROUP_BYTES
from dask_labelqc.method.outputs import Parts, every_output, finished
from dask_labelqc.method.parameters import Options
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.sequence import select
from dask_labelqc.pipeline.changes import InputStamps
from dask_labelqc.pipeline.fingerprint import stored_groups, to_text
from dask_labelqc.pipeline.fit import (
    check_size,
    fit,
    kinds_of,
    threads_that_fit,
)
from dask_labelqc.pipeline.groups import CHECKPOINT, Job
from dask_labelqc.pipeline.info import Inputs, open_inputs
from dask_labelqc.pipeline.lease import hold
from dask_labelqc.pipeline.leftovers import discarded_if_empty
from dask_labelqc.pipeline.output import (
    INPUTS,
    check_apart,
    check_written,
    done_before,
    finish_output,
    open_output,
    output_store,
    tidy_output,
    write_small,
    writing,
)
from dask_labelqc.pipeline.report import summary_of
from dask_labelqc.pipeline.stages import Failure, JobStages, Measures
from dask_labelqc.pipeline.window import open_workers
from dask_labelqc.pipeline.workers import check_workers
from dask_labelqc.progress import Progress, progress_for
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.arrays import StoreLocation
from dask_labelqc.storage.coordinates import (
    CLASS_DIMS,
    carried_coordinates,
    portable_attributes,
    write_coordinates,
)
from dask_labelqc.storage.stores import open_store, without_keys
from dask_labelqc.typing import AnyArray, LabelDownsample, Validate

__all__ = ["JobReport", "audit_zarr"]

WORST = 5
"""Images and classes that a report names."""


@dataclass(frozen=True)
class JobReport:
    """What a job did; everything else is in its output.

    Attributes
    ----------
    output
        Where it is.
    num_images, num_pixels, num_issues
        Of the dataset.
    num_groups, num_resumed
        Groups in all, and those that an earlier run had finished.
    bytes_read
        Of predictions, decoded.
    seconds
        Of each stage.
    worst_images
        (image, softmin score) of those with the lowest scores, the lowest first.
    read_ratio
        Part of the time of the tasks that read the predictions for which they waited for data.
    peak_bytes
        The most memory that a worker process has held, 0 if nothing was run.
    failures
        Images that were left out, and why.
    worst_classes
        (name or index, issues) of the given classes with the most, the most first.
    storage_options
        With which it was written. A report that is pickled keeps none of the keys: where it is
        unpickled, keys are those of the environment.
    """

    output: str
    num_images: int
    num_pixels: int
    num_issues: int
    num_groups: int
    num_resumed: int
    bytes_read: int
    seconds: Mapping[str, float]
    worst_images: tuple[tuple[int, float], ...]
    read_ratio: float = 0.0
    peak_bytes: int = 0
    failures: tuple[Failure, ...] = ()
    worst_classes: tuple[tuple[str, int], ...] = ()
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def open(self) -> xr.Dataset:
        """Open the output, lazily."""
        dataset: xr.Dataset = xr.open_zarr(open_store(self.output, self.storage_options))
        return dataset

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"storage_options": without_keys(self.storage_options)}

    def summary(self) -> dict[str, str]:
        """Return what was done, as text by name; the command line prints it at the end."""
        return summary_of(self)


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
        and what its ``_FillValue`` and ``missing_value`` name take part in nothing.
    pred_probs
        Probabilities (N, K, \*spatial), or in any order if both arrays name their dimensions.
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
    store = output_store(output, storage_options)
    check_apart(output, store, inputs.reader)
    check_size(inputs.reader.shape, inputs.plan.num_groups)
    with writing(output):
        groups = None if overwrite else stored_groups(store)
    inputs = fit(inputs, [], group_bytes, groups)
    known = InputStamps(inputs.reader, inputs.plan, trusted=trust_inputs)
    found = done_before(output, store, inputs, known, resume=resume, overwrite=overwrite)
    if found is not None:
        return _done_before(found, inputs, output, storage_options)
    if client is not None:
        check_workers(client)
        inputs = fit(inputs, kinds_of(client), group_bytes, groups)
    else:
        inputs, n_jobs = threads_that_fit(inputs, n_jobs, group_bytes, groups)
    known = known.of(inputs.plan)
    shown = progress if not isinstance(progress, bool) else progress_for(progress)
    with ExitStack() as stack:
        with writing(output):
            lease = stack.enter_context(hold(store, str(output)))
        target = open_output(output, lease, inputs, known, resume=resume, overwrite=overwrite)
        if target.complete:
            tidy_output(target.group)
            return _done_before(target.group, inputs, output, storage_options)
        job = Job(
            inputs.reader,
            target.group,
            target.arrays,
            inputs.params,
            inputs.plan,
            target.claims,
            compare_labels=resume and not trust_inputs and "labels" not in known.listed,
        )
        stack.enter_context(discarded_if_empty(target))
        workers = stack.enter_context(open_workers(client, n_jobs))
        stack.enter_context(shown)
        stages = JobStages(job, workers, lease, shown, resume=resume, keep_going=keep_going)
        _run(stages, job, output, known)
    return _report(job, str(output), stages.measures, stages.failures, storage_options)


def _run(
    stages: JobStages,
    job: Job,
    output: str | Path,
    known: InputStamps,
) -> None:
    """Fill an output that is held."""
    with writing(output):
        reader = job.reader
        carried = carried_coordinates(reader.labels, reader.pred_probs, reader.lineup)
        write_coordinates(carried, job.output, job.arrays.keys() - {CHECKPOINT})
    selection = select(stages, PixelMethod(job.params))
    images, sums = stages.paint(selection.search)
    sums = {**sums, **selection.total.sums, "thresholds": selection.thresholds}
    with writing(output):
        _write_results(job, (images.parts.arrays, sums))
    stages.verify(selection.search)
    not_audited = [image for failure in stages.failures for image in range(*failure.images)]
    num_issues = int(sums["issue_matrix"].sum())
    facts = {"num_issues": num_issues, "num_selected": selection.number}
    about_inputs = {INPUTS: to_text(known.attribute)} if known.attribute else {}
    with writing(output):
        check_written(job.output)
        decided = job.params.attributes() | job.params.naming() | job.reader.lineup.attributes()
        attributes = portable_attributes(decided | facts | about_inputs)
        finish_output(job.output, attributes, sorted(not_audited))


def _write_results(job: Job, parts: Sequence[Parts]) -> None:
    dims = {"image": (job.reader.image_dim,), "class": CLASS_DIMS[:1], "pair": CLASS_DIMS[1:]}
    small = [
        (output.name, dims[output.over], finished(output, parts))
        for output in job.params.outputs
        if output.over != "pixel"
    ]
    # In an object store each takes several requests, one after the other.
    with ThreadPoolExecutor(len(small)) as pool:
        for written in [pool.submit(write_small, job.output, *output) for output in small]:
            written.result()


def _done_before(
    group: zarr.Group,
    inputs: Inputs,
    output: str | Path,
    storage_options: Mapping[str, Any] | None,
) -> JobReport:
    measures = Measures()
    measures.num_resumed = inputs.plan.num_groups
    job = Job(inputs.reader, group, {}, inputs.params, inputs.plan)
    return _report(job, str(output), measures, (), storage_options)


def _report(
    job: Job,
    output: str,
    measures: Measures,
    failures: Sequence[Failure],
    storage_options: Mapping[str, Any] | None,
) -> JobReport:
    scores, class_issues = (_stored(job, name) for name in ("image_score", "class_issue_count"))
    worst = np.argsort(scores, kind="stable")[:WORST]
    classes = np.argsort(-class_issues, kind="stable")[:WORST].tolist()
    names = job.params.class_names
    num_issues = job.output.attrs["num_issues"]
    assert isinstance(num_issues, int)
    return JobReport(
        output=output,
        num_images=job.plan.shape[0],
        num_pixels=int(np.prod(job.plan.shape)),
        num_issues=num_issues,
        num_groups=job.plan.num_groups,
        num_resumed=measures.num_resumed,
        bytes_read=measures.bytes_read,
        seconds=dict(measures.seconds),
        worst_images=tuple((int(i), float(scores[i])) for i in worst if not np.isnan(scores[i])),
        read_ratio=measures.read_seconds / measures.task_seconds if measures.task_seconds else 0.0,
        peak_bytes=measures.peak_bytes,
        failures=tuple(failures),
        worst_classes=tuple(
            (names.get(k, str(k)), int(class_issues[k])) for k in classes if class_issues[k]
        ),
        storage_options=storage_options,
    )


def _stored(job: Job, name: str) -> AnyArray:
    array = job.output[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])
