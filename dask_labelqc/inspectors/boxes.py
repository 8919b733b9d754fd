"""The audit of the boxes that are on record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.inspectors.lay_down import (
    Finishing,
    Layout,
    counts_in_order,
    laid_down,
    widest_form,
)
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, open_boxes
from dask_labelqc.object_detection.dataset import COLUMNS, as_text
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.pipeline.box_audit import box_report
from dask_labelqc.pipeline.boxes import BoxInputs
from dask_labelqc.pipeline.job import run_job
from dask_labelqc.pipeline.report import BoxReport
from dask_labelqc.storage.ledger import FOLDER

__all__ = ["audit_boxes"]

BOXES = "boxes"
CHUNK_BYTES = 2**21
"""2**17 boxes of four float32."""
OF_RECORDS = ("form", "what", "num_classes", "class_names")
"""Parameters that are not those of the scores."""


@dataclass(frozen=True)
class RecordedBoxes(BoxInputs):
    """Boxes that lie in the output, among the records."""

    there_before: ClassVar[frozenset[str]] = frozenset({FOLDER})


def audit_boxes(audit: Finishing) -> BoxReport:
    """Put the boxes on record down, and audit them."""
    options = {n: value for n, value in audit.parameters.items() if n not in OF_RECORDS}
    boxes = open_boxes(_put_down(audit))
    inputs = RecordedBoxes.of(boxes, BoxScoreOptions(**options), BLOCK_BOXES)
    finished = run_job(inputs, audit.output, audit.again())
    report = box_report(finished, audit.output, inputs, audit.run.storage_options)
    worst = tuple((audit.items.ids[int(n)], score) for n, score in report.worst_images)
    return replace(report, worst_images=worst)


def _put_down(audit: Finishing) -> zarr.Group:
    """Put the boxes on record down as a columnar dataset; see `object_detection.dataset`."""
    form, counts = widest_form(audit.items), counts_in_order(audit.items)
    num_classes = int(audit.parameters["num_classes"])
    signed = np.min_scalar_type(-num_classes)  # it has a number that is no class
    layout = Layout(
        {name: COLUMNS[name] for name in form.axes},
        {n: signed if n.endswith("classes") else dtype for n, dtype in form.dtypes.items()},
        form.shapes,
        CHUNK_BYTES,
    )
    offsets = {
        f"{side}_offsets": ("image_edge", np.cumsum([0, *counts[f"{side}_box"]]))
        for side in ("given", "predicted")
    }
    coords = {
        "class": np.arange(num_classes),
        "corner": as_text(["x1", "y1", "x2", "y2"]),
        "image_id": ("image", as_text(audit.items.ids)),
    }
    if names := audit.parameters["class_names"]:
        every = [names.get(str(k), str(k)) for k in range(num_classes)]
        coords["class_name"] = ("class", as_text(every))
    beside = xr.Dataset(offsets, coords)
    for name in offsets:
        beside[name].encoding["fill_value"] = -1
    return laid_down(audit, BOXES, layout, beside)
