"""Make the audit of what inspectors have put on record."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from dask_labelqc.classification.one_pass import EXAMPLE_FORM, EXAMPLES
from dask_labelqc.errors import InputError, LabelQCError, OutputError, advise
from dask_labelqc.inspectors.boxes import audit_boxes
from dask_labelqc.inspectors.catalog import Catalog, Order, read_catalog, read_manifest
from dask_labelqc.inspectors.detection import BOX_FORM, BOXES
from dask_labelqc.inspectors.examples import audit_examples
from dask_labelqc.inspectors.lay_down import Finishing, Ordered
from dask_labelqc.inspectors.recorded_images import RecordedImages
from dask_labelqc.inspectors.segmentation import FORM, WHAT
from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.pipeline.job import Finished, Run, run_job
from dask_labelqc.pipeline.output import state_of
from dask_labelqc.pipeline.report import BoxReport, ExampleReport, JobReport, lowest, most
from dask_labelqc.progress import Progress
from dask_labelqc.storage.ledger import Ledger
from dask_labelqc.storage.recorder import open_ledger

__all__ = ["finish_audit"]

FORMS = {(WHAT, FORM), (BOXES, BOX_FORM), (EXAMPLES, EXAMPLE_FORM)}
COLUMNS: Mapping[str, tuple[str, Callable[..., Any]]] = {
    BOXES: ("image", audit_boxes),
    EXAMPLES: ("example", audit_examples),
}
"""What an item of other audits is called, and what makes them."""

log = logging.getLogger(__name__)


def finish_audit(
    output: str | Path,
    *,
    manifest: Iterable[Any] | str | Path | None = None,
    allow_missing: bool = False,
    client: Client | None = None,
    n_jobs: int | None = None,
    progress: Progress | bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> JobReport | BoxReport | ExampleReport:
    """Make the audit of all that inspectors have put on record in an output.

    It is the audit that `audit_zarr` makes of the same predictions, `audit_boxes_zarr` of the same
    boxes, or `audit_examples_zarr`. The records stay: more images
    may be put on record later, and the audit finished again. What is finished already is not done
    again, and what was killed is begun anew.

    Parameters
    ----------
    output
        Path or URL, as the inspectors have it.
    manifest
        The ids of the images, in the order that the audit is to have; or a file with an id in each
        line. Without one it has all images on record in the order of their ids.
    allow_missing
        Audit the images that are in the manifest and on record, if others are only in one of the
        two; an error otherwise.
    client
        The cluster to run on; threads of this process without one.
    n_jobs
        Threads, without a client.
    progress
        Shown on the standard error, or told to an object of your own.
    storage_options
        Of the store that the URL names, as in `dask_labelqc.storage.stores.open_store`.

    Returns
    -------
    JobReport, BoxReport or ExampleReport
        Its ``open()`` is the output as an xarray Dataset, ``image_id`` (``example_id``) the
        ids of its images.

    Raises
    ------
    InputError
        There are no records, they contradict one another or the manifest, or they are not enough
        because probabilities sum to more than one.
    OutputError
        The output cannot be written, or another job is writing it.

    See Also
    --------
    dask_labelqc.SegmentationInspector, dask_labelqc.DetectionInspector, dask_labelqc.LabelInspector
    """
    ledger = open_ledger(output, storage_options)
    made, wanted = _made(ledger), read_manifest(manifest)
    if made["what"] != WHAT:
        item, finish = COLUMNS[made["what"]]
        items = Ordered.read(ledger, wanted, allow_missing=allow_missing, item=item)
        _tell(items, item)
        run = Run(client=client, n_jobs=n_jobs, progress=progress, storage_options=storage_options)
        return finish(Finishing(output, ledger, items, made, run))
    inputs = _inputs(ledger, made, wanted, allow_missing)
    state = state_of(output, ledger.store, inputs)
    run = Run(
        resume=state == "complete",
        overwrite=state == "other",
        client=client,
        n_jobs=n_jobs,
        progress=progress,
        storage_options=storage_options,
    )
    try:
        finished = run_job(inputs, output, run)
    except LabelQCError as error:
        if error.advice is not None and "resume" in error.advice.arguments:
            error.advice = advise("to finish it again begins anew, from the records")
        raise
    return _report(inputs, finished, str(output), storage_options)


def _made(ledger: Ledger) -> dict[str, Any]:
    """Return what all records have in common."""
    made = ledger.parameters()
    if made is None:
        raise InputError(f"output: {str(ledger.store)!r} has no records of an inspector")
    if (made["what"], made["form"]) not in FORMS:
        raise OutputError(
            f"output: the records in {str(ledger.store)!r} are of {made['what']} (form "
            f"{made['form']}), which this version does not read"
        )
    return made


def _tell(order: Order, item: str = "image") -> None:
    if order.num_left_out:
        log.warning(
            "manifest: %d %ss on record are not in it, and left out", order.num_left_out, item
        )


def _inputs(
    ledger: Ledger, made: Mapping[str, Any], manifest: list[str] | None, allow_missing: bool
) -> RecordedImages:
    catalog = read_catalog(ledger, manifest, allow_missing=allow_missing)
    _tell(catalog)
    bound = made["bound"] or 0.0
    every = math.inf if bound == 1 else bound  # some scores are rounded to more than 1
    return RecordedImages.of(ledger, _parameters(made, catalog), every, catalog)


def _parameters(made: Mapping[str, Any], catalog: Catalog) -> Parameters:
    options = Options.of(
        ignore_index=made["ignore_index"],
        temperature=made["temperature"],
        outputs=every_output(),
    )
    num_classes, table = made["num_classes"], catalog.table
    names = {int(k): name for k, name in made["class_names"].items()}
    labels = np.dtype(np.int64)  # any that labels may have
    if table.regular is None:
        return Parameters.of_table(
            options, table, num_classes, labels, catalog.dtype, class_names=names
        )
    shape = (table.num_images, num_classes, *table.regular[1:])
    return Parameters.of_images(
        options, table.regular, labels, shape, catalog.dtype, class_names=names
    )


def _report(
    inputs: RecordedImages,
    finished: Finished,
    output: str,
    storage_options: Mapping[str, Any] | None,
) -> JobReport:
    assert inputs.catalog is not None
    ids, params = inputs.catalog.ids, inputs.params
    worst = lowest(finished.read("image_score"))
    return JobReport(
        output=output,
        num_images=params.num_images,
        num_pixels=math.prod(params.shape),
        num_issues=finished.number("num_issues"),
        worst_images=tuple((ids[number], score) for number, score in worst),
        worst_classes=most(finished.read("class_issue_count"), params.class_names),
        storage_options=storage_options,
        **finished.about(),
    )
