"""The audit of the examples that are on record."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
import zarr

from dask_labelqc.classification.inputs import LazyExamples
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.classification.recorded import EXAMPLE, scan_of_facts, with_all
from dask_labelqc.classification.scan import RUN, Keeping, learned_of_runs, scan_bound
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.classification.validity import warn_if_none, warn_of_sum
from dask_labelqc.errors import InputError
from dask_labelqc.inspectors.lay_down import Finishing, Layout, Ordered, laid_down, widest_form
from dask_labelqc.kernels.examples import ExampleScan
from dask_labelqc.kernels.labels import VOID
from dask_labelqc.method.format import stored_as
from dask_labelqc.method.statistics import NO_SUM, WorstSum
from dask_labelqc.object_detection.dataset import as_text
from dask_labelqc.pipeline.example_audit import example_report
from dask_labelqc.pipeline.examples import ExampleInputs, open_examples
from dask_labelqc.pipeline.inputs import Found, Part
from dask_labelqc.pipeline.job import run_job
from dask_labelqc.pipeline.report import ExampleReport
from dask_labelqc.plan import GROUP_BYTES, Plan, plan_blocks
from dask_labelqc.storage.coordinates import Carried
from dask_labelqc.storage.ledger import FOLDER
from dask_labelqc.storage.reading import read_rows

__all__ = ["audit_examples"]

CHUNK_BYTES = 2**22
ID = "example_id"


@dataclass(frozen=True)
class RecordedRows(ExampleInputs):
    """Rows of probabilities that lie in the output, among the records."""

    there_before: ClassVar[frozenset[str]] = frozenset({FOLDER})


def audit_examples(audit: Finishing) -> ExampleReport:
    """Put what is on record of examples down in their order, and audit it."""
    made, form = audit.parameters, _form(audit.items, audit.parameters)
    options, columns = ScoreOptions(**made["options"]), _put_down(audit, form)
    dense = {
        "quality": made["write"]["write_label_quality"],
        "predicted": made["write"]["write_predicted_label"],
    }
    inputs: ExampleInputs
    if options.reads_twice:
        arrays = dict(columns.arrays())
        rows = open_examples(arrays["labels"], arrays["pred_probs"], options, **dense)
        inputs = RecordedRows(**vars(rows))
    else:
        inputs = RecordedExamples.of(columns, audit.items, form, options, **dense)
    finished = run_job(inputs, audit.output, audit.again())
    report = example_report(finished, audit.output, inputs, audit.run.storage_options)
    worst = tuple(audit.items.ids[int(number)] for number in report.worst_examples)
    return replace(report, worst_examples=worst)


def _form(items: Ordered, parameters: Mapping[str, Any]) -> ExampleFormat:
    """Return how the predictions were stored from which the records were made."""
    heads = [items.entries[record] for record in np.unique(items.record)]
    stored = {(str(head.head["dtype"]), str(head.head["scale"])): head.writer for head in heads}
    (dtype, scale), *others = stored
    if others:
        raise InputError(
            f"output: {stored[dtype, scale]} has put predictions of {np.dtype(dtype)} on record, "
            f"{stored[others[0]]} of {np.dtype(others[0][0])}; all must be of one dtype and scale"
        )
    names = {int(k): name for k, name in parameters["class_names"].items()}
    kept = stored_as(np.dtype(dtype), float(scale) if scale else None)
    return ExampleFormat(
        (len(items.ids),), int(parameters["num_classes"]), **kept, class_names=names
    )


def _put_down(audit: Finishing, form: ExampleFormat) -> zarr.Group:
    """Put columns down: the labels, and predictions (N, K) or what is known of each example."""
    recorded = widest_form(audit.items)
    dtypes = dict(recorded.dtypes) | {"labels": np.min_scalar_type(-form.num_classes - 1)}
    if "predicted" in dtypes:
        dtypes["predicted"] = dtypes["labels"]
    named = {"class_names": {str(k): v for k, v in form.class_names.items()}}
    attributes: dict[str, dict[str, Any]] = {
        "labels": {"missing_value": VOID, "coordinates": ID, **(named if form.class_names else {})},
        "pred_probs": {} if form.scale is None else {"scale_factor": form.scale},
    }
    dims = {
        name: (EXAMPLE, "class") if name == "pred_probs" else (EXAMPLE,) for name in recorded.axes
    }
    layout = Layout(dims, dtypes, recorded.shapes, CHUNK_BYTES, with_all, attributes)
    return laid_down(audit, "examples", layout, _coordinates(audit.items))


def _coordinates(items: Ordered) -> xr.Dataset:
    return xr.Dataset(coords={ID: (EXAMPLE, as_text(items.ids))})


def _worst_sum(items: Ordered) -> WorstSum:
    """Return the row whose sum is farthest from one, at its place in the order."""
    found = [
        WorstSum(deviation, (int(number),), total)
        for numbers, entry in zip(items.numbers, items.entries, strict=True)
        for item, deviation, total in entry.head["worst"].tolist()
        if (number := numbers[int(item)]) >= 0
    ]
    return min(found, key=lambda worst: (-worst.deviation, worst.place), default=NO_SUM)


@dataclass(frozen=True)
class RecordedExamples(ExampleInputs):
    """What is known of examples, as the job takes it where it needs no rows of probabilities.

    Attributes
    ----------
    columns
        Along the examples, by name.
    worst_sum
        Of the rows that were seen.
    carried_over
        The coordinate of the ids.
    """

    columns: Mapping[str, zarr.Array[Any]]
    worst_sum: WorstSum
    carried_over: xr.Dataset = field(compare=False)

    there_before: ClassVar[frozenset[str]] = frozenset({FOLDER})

    @classmethod
    def of(
        cls,
        group: zarr.Group,
        items: Ordered,
        form: ExampleFormat,
        options: ScoreOptions,
        *,
        quality: bool,
        predicted: bool,
    ) -> Self:
        """Take the columns of a group."""
        columns = {
            name: array for name, array in sorted(group.arrays()) if array.ndim and name != ID
        }
        examples = LazyExamples(columns["labels"], columns["self_confidence"], form)
        return cls(
            examples,
            options,
            _plan(columns, GROUP_BYTES),
            GROUP_BYTES,
            EXAMPLE,
            quality,
            predicted,
            columns,
            _worst_sum(items),
            _coordinates(items),
        )

    def __getstate__(self) -> dict[str, Any]:
        # Of a million examples the ids are too much for each task to bring.
        return {**vars(self), "carried_over": xr.Dataset()}

    @property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        return dict(self.columns)

    @property
    def together(self) -> int:
        return 1

    def smaller(self) -> Iterator[Self]:
        yield self
        group_bytes, last = self.group_bytes, self.plan
        while group_bytes > 1:
            group_bytes //= 2
            plan = _plan(self.columns, group_bytes)
            if plan.group != last.group:
                yield replace(self, plan=plan)
            last = plan

    def worker_bytes(self) -> int:
        """Return what one thread of a worker holds: a run as it is read, and lists of a group."""
        (group,) = self.plan.group
        each = sum(output.dtype.itemsize for output in self.outputs())
        return 4 * min(group, RUN) * _row(self.columns) + group * (_row(self.columns) + each)

    def too_large(self) -> str:
        return f"groups of {self.plan.group[0]} examples"

    def carried(self) -> Carried:
        return Carried(self.carried_over, {"coordinates": ID})

    def scan(self, how: Keeping, part: Part, left_out: Sequence[int] = ()) -> Found:
        assert not left_out  # nobody asks to go on without what was looked at before
        first, stop = part.items
        dense = self.blank(how, stop - first)
        reads = _Reads(self, how, bool(dense))

        def see(found: Any) -> None:
            values = {"label_quality": found.label_quality, "predicted_label": found.predicted}
            for name, target in dense.items():
                target[found.position] = values[name]

        form, options = self.examples.form, self.options
        scanned = learned_of_runs(
            first, stop - first, reads.runs(first, stop), form, options, how, see if dense else None
        )
        kept = scanned.total, scanned.kept
        return Found(scanned.total, kept, dense, reads.num_bytes, reads.seconds, reads.labels)

    def labels_hash(self, number: int) -> int:
        labels, hashed = self.columns["labels"], 0
        first, stop = self.items(number)
        for start in range(first, stop, RUN):
            run = slice(start, min(start + RUN, stop))
            hashed = zlib.crc32(np.ascontiguousarray(labels[run]).data, hashed)
        return hashed

    def _warn(self, statistics: ExampleStatistics) -> None:
        warn_of_sum(self.worst_sum, self.examples.form.sum_tolerance)
        warn_if_none(statistics.class_count)


class _Reads:
    """Reads examples run by run, and knows how long that took."""

    def __init__(self, inputs: RecordedExamples, how: Keeping, seen: bool) -> None:
        self.seconds, self.num_bytes, self.labels = 0.0, 0, 0
        self._columns, self._form = inputs.columns, inputs.examples.form
        self._options = inputs.options.scan(scan_bound(how, seen), how.thresholds)

    def runs(self, first: int, stop: int) -> Iterator[tuple[slice, ExampleScan]]:
        for start in range(first, stop, RUN):
            run = slice(start, min(start + RUN, stop))
            begun, where = time.monotonic(), f"examples {run.start} to {run.stop - 1}"
            columns = {n: read_rows(a, run, n, where) for n, a in self._columns.items()}
            self.seconds += time.monotonic() - begun
            self.num_bytes += sum(values.nbytes for values in columns.values())
            self.labels = zlib.crc32(np.ascontiguousarray(columns["labels"]).data, self.labels)
            scan = scan_of_facts(columns, self._form, self._options)
            here = slice(run.start - first, run.stop - first)
            yield here, scan._replace(position=scan.position + here.start)


def _row(columns: Mapping[str, zarr.Array[Any]]) -> int:
    """Return the bytes of all that is known of an example."""
    return sum(array.dtype.itemsize for array in columns.values())


def _plan(columns: Mapping[str, zarr.Array[Any]], group_bytes: int) -> Plan:
    labels = columns["labels"]
    return plan_blocks(labels.shape, labels.chunks, _row(columns), group_bytes=group_bytes)
