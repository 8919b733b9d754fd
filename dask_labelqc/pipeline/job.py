"""Run a job on an output that is held: begun, gone on with, or found complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client

from dask_labelqc.arguments import positive_integer
from dask_labelqc.pipeline.changes import InputStamps
from dask_labelqc.pipeline.fingerprint import stored_groups, to_text
from dask_labelqc.pipeline.finish import (
    INPUTS,
    OBJECTS,
    check_written,
    count_objects,
    finish_output,
    tidy_output,
    write_small,
)
from dask_labelqc.pipeline.fit import fit, kinds_of, threads_that_fit
from dask_labelqc.pipeline.inputs import Inputs
from dask_labelqc.pipeline.lease import hold
from dask_labelqc.pipeline.leftovers import discarded_if_empty
from dask_labelqc.pipeline.measures import Failure, Measures
from dask_labelqc.pipeline.output import (
    Output,
    check_apart,
    done_before,
    open_output,
    output_store,
    writing,
)
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.tasks import Job
from dask_labelqc.pipeline.window import open_workers
from dask_labelqc.pipeline.workers import check_workers
from dask_labelqc.progress import Progress, progress_for
from dask_labelqc.storage.coordinates import portable_attributes, write_coordinates
from dask_labelqc.typing import AnyArray

__all__ = ["Finished", "Run", "run_job"]


@dataclass(frozen=True)
class Run:
    """How a job is run, whatever it does; see `audit_zarr`."""

    resume: bool = False
    overwrite: bool = False
    client: Client | None = None
    n_jobs: int | None = None
    keep_going: bool = False
    trust_inputs: bool = False
    progress: Progress | bool = True
    storage_options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finished:
    """An output that is written, and what that took.

    Attributes
    ----------
    group
        The output.
    num_groups
        Of the job.
    measures, failures
        What it took, and what was left out.
    """

    group: zarr.Group
    num_groups: int
    measures: Measures
    failures: Sequence[Failure] = ()

    def read(self, name: str) -> AnyArray:
        """Return a small output."""
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[:])

    def number(self, name: str) -> int:
        """Return a number among the attributes."""
        found = self.group.attrs[name]
        assert isinstance(found, int)
        return found

    def about(self) -> dict[str, Any]:
        """Return what every report says."""
        took = self.measures
        waited = took.read_seconds / took.task_seconds if took.task_seconds else 0.0
        return {
            "num_groups": self.num_groups,
            "num_resumed": took.num_resumed,
            "bytes_read": took.bytes_read,
            "seconds": dict(took.seconds),
            "read_ratio": waited,
            "peak_bytes": took.peak_bytes,
            "failures": tuple(self.failures),
        }


def run_job(inputs: Inputs, output: str | Path, run: Run) -> Finished:
    """Write the output of some inputs, unless it is there.

    Raises
    ------
    InputError
        The inputs or arguments cannot be used, or workers lack this version of the package.
    OutputError
        The output cannot be made, or another job is writing it.
    BlockError
        A group failed three times, on different workers if there are any.
    """
    if run.n_jobs is not None:
        positive_integer("n_jobs", run.n_jobs)
    store = output_store(output, run.storage_options)
    again = {"resume": run.resume, "overwrite": run.overwrite}
    check_apart(output, store, inputs)
    inputs.check_size()
    with writing(output):
        groups = None if run.overwrite else stored_groups(store)
    inputs = fit(inputs, [], groups)
    known = InputStamps(inputs, trusted=run.trust_inputs)
    found = done_before(output, store, inputs, known, **again)
    if found is not None:
        return _done_before(found, inputs)
    n_jobs = run.n_jobs
    if run.client is not None:
        check_workers(run.client)
        inputs = fit(inputs, kinds_of(run.client), groups)
    else:
        inputs, n_jobs = threads_that_fit(inputs, n_jobs, groups)
    known = known.of(inputs)
    shown = progress_for(run.progress) if isinstance(run.progress, bool) else run.progress
    with ExitStack() as stack:
        with writing(output):
            lease = stack.enter_context(hold(store, str(output)))
        target = open_output(output, lease, inputs, known, **again)
        if target.complete:
            tidy_output(target.group)
            return _done_before(target.group, inputs)
        job = _job(inputs, target, run.resume and not run.trust_inputs, known)
        stack.enter_context(discarded_if_empty(target))
        workers = stack.enter_context(open_workers(run.client, n_jobs))
        stack.enter_context(shown)
        stages = JobStages(job, workers, lease, shown, resume=run.resume, keep_going=run.keep_going)
        _fill(stages, job, output, known)
    return Finished(job.output, inputs.num_groups, stages.measures, stages.failures)


def _job(inputs: Inputs, target: Output, compare: bool, known: InputStamps) -> Job:
    assert target.on_record is not None
    return Job(
        inputs,
        target.group,
        target.arrays,
        target.on_record.records,
        target.on_record.lists,
        target.on_record.claims,
        compare_labels=compare and not known.tell_of_labels(),
    )


def _fill(stages: JobStages, job: Job, output: str | Path, known: InputStamps) -> None:
    """Fill an output that is held."""
    carried = job.inputs.carried()
    with writing(output):
        write_coordinates(carried, job.output, job.arrays)
    results = job.inputs.find(stages)
    with writing(output), ThreadPoolExecutor(len(results.small)) as pool:
        # In an object store each takes several requests, one after the other.
        for written in [pool.submit(write_small, job.output, *small) for small in results.small]:
            written.result()
    stages.verify()
    not_audited = [item for failure in stages.failures for item in range(*failure.images)]
    about_inputs = {INPUTS: to_text(known.attribute)} if known.attribute else {}
    with writing(output):
        check_written(job.output)
        small = [name for name, *_ in results.small]
        beside = map(str, carried.coordinates.variables)
        objects = count_objects(job.output, {*job.arrays, *small, *beside})
        about = {**about_inputs, OBJECTS: to_text(objects)}
        attributes = portable_attributes({**results.attributes, **about})
        finish_output(job.output, attributes, sorted(not_audited))


def _done_before(group: zarr.Group, inputs: Inputs) -> Finished:
    measures = Measures()
    measures.num_resumed = inputs.num_groups
    return Finished(group, inputs.num_groups, measures)
