"""Audit predictions of examples in Zarr into an output in Zarr, on threads or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import Client

from dask_labelqc.classification.options import EstimationMethod, ScoreMethod, ScoreOptions
from dask_labelqc.errors import InputError
from dask_labelqc.pipeline.examples import ExampleInputs, open_examples
from dask_labelqc.pipeline.inputs import PROCESS_BYTES
from dask_labelqc.pipeline.job import Finished, Run, run_job
from dask_labelqc.pipeline.plans import ExamplePlan
from dask_labelqc.pipeline.report import WORST, ExampleReport, most
from dask_labelqc.plan import GROUP_BYTES
from dask_labelqc.progress import Progress
from dask_labelqc.storage.arrays import StoreLocation

__all__ = ["audit_examples_zarr", "example_report", "plan_examples_audit"]


def audit_examples_zarr(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    method: ScoreMethod = "self_confidence",
    adjust_pred_probs: bool = False,
    estimation_method: EstimationMethod = "off_diagonal",
    write_label_quality: bool = False,
    write_predicted_label: bool = False,
    client: Client | None = None,
    n_jobs: int | None = None,
    group_bytes: int = GROUP_BYTES,
    keep_going: bool = False,
    trust_inputs: bool = False,
    progress: Progress | bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> ExampleReport:
    """Find the label issues of a Zarr dataset of examples and write them to Zarr.

    The issues are those of `dask_labelqc.classification.find_label_issues_batched`, to the bit. The
    predictions are read once, group by group; what is learned of a group is put on record in the
    output as soon as it is done. A job that was killed, at any moment, goes on from there when it
    is started again with ``resume=True``, and writes the same bytes. (They are read twice for the
    margin of adjusted probabilities, for the scores of all examples if these are adjusted, and
    where the last issue ranks behind examples that were not kept.)

    Parameters
    ----------
    labels
        Integers (N,), or floats that are whole numbers: path, URL or open Zarr array. NaN takes
        part in nothing.
    pred_probs
        Probabilities (N, K), or (K, N) if both arrays name their dimensions.
    output
        Path or URL of the Zarr group to make.
    resume, overwrite
        Finish the output if it was begun by the same inputs and parameters; or replace it.
    method
        Label quality score: "self_confidence", "normalized_margin" or
        "confidence_weighted_entropy".
    adjust_pred_probs
        Subtract the confident thresholds from the probabilities before scoring.
    estimation_method
        Of the number of issues: "off_diagonal" or "off_diagonal_calibrated".
    write_label_quality, write_predicted_label
        Also write the score and the predicted class of every example.
    client, n_jobs
        The cluster to run on; or threads of this process.
    group_bytes
        Predictions that one task goes through, about; a whole number of storage chunks.
    keep_going
        Finish without the examples that cannot be audited: they are no issues and take part in no
        threshold, and the attribute ``not_audited`` lists them; ``resume=True`` tries them again.
    trust_inputs
        Do not look whether chunks of the inputs changed since an earlier run read them.
    progress
        Shown on the standard error, or told to an object of your own.
    storage_options
        Of the stores that the URLs name, as in `dask_labelqc.storage.stores.open_store`.

    Returns
    -------
    ExampleReport
        Its ``open()`` is the output as an xarray Dataset: ``label_issues`` (bool), and if asked for
        ``label_quality`` and ``predicted_label``, along the examples; ``issue_index`` (int64), the
        issues, the lowest score first; ``confident_threshold``, ``class_count`` and
        ``class_issue_count`` along ``class``; ``issue_matrix`` (given_class, predicted_class).

    Raises
    ------
    InputError
        The inputs or arguments cannot be used, or workers lack this version of the package.
    OutputError
        The output cannot be made, or another job is writing it.
    BlockError
        Examples failed three times, on different workers if there are any; the output is
        unfinished.

    See Also
    --------
    dask_labelqc.classification.find_label_issues_batched, dask_labelqc.pipeline.audit_zarr
    """
    inputs = open_examples(
        labels,
        pred_probs,
        _options(method, adjust_pred_probs, estimation_method),
        storage_options=storage_options,
        group_bytes=group_bytes,
        quality=write_label_quality,
        predicted=write_predicted_label,
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
    return example_report(run_job(inputs, output, run), output, inputs, storage_options)


def example_report(
    finished: Finished,
    output: str | Path,
    inputs: ExampleInputs,
    storage_options: Mapping[str, Any] | None,
) -> ExampleReport:
    """Return what a job on examples has to say."""
    form = inputs.examples.form
    return ExampleReport(
        output=str(output),
        num_examples=form.num_examples,
        num_issues=finished.number("num_issues"),
        worst_examples=tuple(finished.read("issue_index")[:WORST].tolist()),
        worst_classes=most(finished.read("class_issue_count"), form.class_names),
        storage_options=storage_options,
        **finished.about(),
    )


def _options(method: Any, adjust_pred_probs: Any, estimation_method: Any) -> ScoreOptions:
    try:
        return ScoreOptions.of(
            {"method": method, "adjust_pred_probs": adjust_pred_probs},
            {"estimation_method": estimation_method},
        )
    except InputError as error:  # here they are arguments of their own
        raise InputError(error.message.partition("_kwargs: ")[2]) from None


def plan_examples_audit(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    write_label_quality: bool = False,
    write_predicted_label: bool = False,
    group_bytes: int = GROUP_BYTES,
    storage_options: Mapping[str, Any] | None = None,
) -> ExamplePlan:
    """Return what `audit_examples_zarr` will read and need; reads only metadata.

    Parameters
    ----------
    labels, pred_probs, write_label_quality, write_predicted_label, group_bytes, storage_options
        As in `audit_examples_zarr`.

    Returns
    -------
    ExamplePlan
        Sizes, groups, bytes to read, and the memory that a worker needs.
    """
    inputs = open_examples(
        labels,
        pred_probs,
        ScoreOptions(),
        storage_options=storage_options,
        group_bytes=group_bytes,
        quality=write_label_quality,
        predicted=write_predicted_label,
    )
    form, plan = inputs.examples.form, inputs.plan
    axis = int(inputs.examples.transposed)
    return ExamplePlan(
        num_examples=form.num_examples,
        num_classes=form.num_classes,
        dtype=str(form.dtype),
        chunk=inputs.arrays["pred_probs"].chunks[axis],
        block=plan.block[0],
        group=plan.group[0],
        num_groups=plan.num_groups,
        bytes_to_read=form.num_examples * form.item_bytes,
        worker_bytes=inputs.worker_bytes(),
        process_bytes=PROCESS_BYTES,
        class_names=tuple(form.naming().get("class_names", ())),
    )
