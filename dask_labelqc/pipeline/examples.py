"""Labels and predicted probabilities of examples, as the job takes them."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar, Self

import numpy as np
import zarr
from dask.utils import format_bytes

from dask_labelqc.classification.absent import warn_of_labels, warn_of_predictions
from dask_labelqc.classification.facts import (
    ExampleCandidates,
    ExampleFacts,
    Learned,
)
from dask_labelqc.classification.inputs import LazyExamples, normalize
from dask_labelqc.classification.on_scheduler import read_labels, read_region
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import RUN, Keeping, ReadRows, scan_region
from dask_labelqc.classification.selection import ExampleMethod, find
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.classification.validity import warn_of_sum
from dask_labelqc.engine.regions import Scanned
from dask_labelqc.errors import InputError, LabelQCError
from dask_labelqc.extent import Extent
from dask_labelqc.method.search import Search
from dask_labelqc.pipeline.example_records import facts_of, joined_facts, learned_of, to_arrays
from dask_labelqc.pipeline.fit import check_shape
from dask_labelqc.pipeline.image_source import table_beside
from dask_labelqc.pipeline.images import check_group_bytes
from dask_labelqc.pipeline.inputs import DenseOutput, Found, Inputs, Painted, Part, Results
from dask_labelqc.pipeline.runs import without
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, group_stamps
from dask_labelqc.plan import GROUP_BYTES, Plan, plan_blocks
from dask_labelqc.storage.alignment import SPATIAL_NAMES, line_up
from dask_labelqc.storage.arrays import StoreLocation, open_array
from dask_labelqc.storage.coordinates import Carried, carried_coordinates, check_dims
from dask_labelqc.storage.dimensions import describe
from dask_labelqc.typing import AnyArray, Floats, Shape

__all__ = ["ExampleInputs", "are_examples", "open_examples"]

EXAMPLE, ISSUE = "example", "issue"
"""Names of the dimensions of an output, the first unless that of the labels has one."""
RUN_BYTES = 120
"""Of each example of a run, for the lists of what was found."""
KEPT_BYTES = 24
"""Of each example of a group, for what is remembered of it."""


@dataclass(frozen=True)
class ExampleInputs(Inputs):
    """The opened inputs of a job on examples; see `inputs.Inputs`.

    Attributes
    ----------
    examples
        Both in Zarr.
    options, plan, group_bytes
        What is asked for, and how the dataset is cut.
    dim
        Name of the dimension of the examples.
    quality, predicted
        Whether the score and the predicted class of every example are written.
    """

    examples: LazyExamples
    options: ScoreOptions
    plan: Plan
    group_bytes: int
    dim: str
    quality: bool
    predicted: bool

    item: ClassVar[str] = "example"
    labels: ClassVar[frozenset[str]] = frozenset({"labels"})

    @property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        labels, pred_probs = self.examples.labels, self.examples.pred_probs
        assert isinstance(labels, zarr.Array)
        assert isinstance(pred_probs, zarr.Array)
        return {"labels": labels, "pred_probs": pred_probs}

    @property
    def method(self) -> ExampleMethod:
        return ExampleMethod(self.examples.form, self.options)

    @property
    def num_groups(self) -> int:
        return self.plan.num_groups

    @property
    def groups(self) -> Shape:
        return self.plan.group

    @property
    def _axis(self) -> int:
        """Which axis of the predictions is that of the examples."""
        return int(self.examples.transposed)

    def check_size(self) -> None:
        form = self.examples.form
        check_shape((form.num_examples, form.num_classes), self.num_groups)

    def smaller(self) -> Iterator[Self]:
        yield self
        form, group_bytes, last = self.examples.form, self.group_bytes, self.plan
        while group_bytes > 1:
            group_bytes //= 2
            chunk = (self.together,)
            plan = plan_blocks(form.shape, chunk, form.item_bytes, group_bytes=group_bytes)
            if plan.group != last.group:
                yield replace(self, plan=plan)
            last = plan

    def worker_bytes(self) -> int:
        """Return what one thread of a worker holds.

        A block of predictions as it is stored, decoded and put in order, and as much again that the
        allocator keeps; lists of what was found of a run of examples; and for every example of a
        group its label, its outputs, and what is remembered of it.
        """
        form = self.examples.form
        (block,), (group,) = self.plan.block, self.plan.group
        each = sum(output.dtype.itemsize for output in self.outputs())
        example = self.arrays["labels"].dtype.itemsize + each + KEPT_BYTES
        return 8 * block * form.item_bytes + min(block, RUN) * RUN_BYTES + group * example

    def too_large(self) -> str:
        array, form = self.arrays["pred_probs"], self.examples.form
        stored = format_bytes(math.prod(array.chunks) * array.dtype.itemsize)
        chunks = " x ".join(map(str, array.chunks))
        return (
            f"chunks of pred_probs of {chunks} {form.dtype} ({stored}): blocks of "
            f"{self.plan.block[0]} examples of {form.num_classes} classes"
        )

    def fingerprint(self) -> dict[str, Any]:
        return {
            **vars(self.options),
            "probability_scale": self.examples.form.scale,
            "fill_labels": list(self.examples.form.fill_labels),
            "group_bytes": self.group_bytes,
            "dims": [self.dim],
            "label_quality": self.quality,
            "predicted_label": self.predicted,
        }

    def stamps(self, name: str) -> Stamps | None:
        axis = 0 if name == "labels" else self._axis
        return group_stamps(name, self.arrays[name], (axis,), self.plan)

    def outputs(self) -> list[DenseOutput]:
        form = self.examples.form
        wanted: list[tuple[str, Any, Any]] = [("label_issues", np.dtype(bool), False)]
        if self.quality:
            bits = form.key_space(self.options).score_bits
            wanted.append(("label_quality", np.dtype(f"f{bits // 8}"), np.nan))
        if self.predicted:
            wanted.append(("predicted_label", form.class_dtype, 0))
        return [
            DenseOutput(name, form.shape, self.plan.group, dtype, fill, (self.dim,))
            for name, dtype, fill in wanted
        ]

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return group_stamps(name, array, (0,), self.plan)

    def carried(self) -> Carried:
        labels, pred_probs = self.arrays.values()
        described = describe(labels, "labels"), describe(pred_probs, "pred_probs")
        lineup = line_up(described[:1], described[1], image_dim=0)
        return carried_coordinates(labels, pred_probs, lineup)

    def items(self, number: int) -> tuple[int, int]:
        extent = self.plan.group_extent((number,))
        return extent.start[0], extent.stop[0]

    @property
    def together(self) -> int:
        return int(self.arrays["pred_probs"].chunks[self._axis])

    def bad_items(self, how: Keeping, part: Part) -> dict[int, LabelQCError]:
        form, options = self.examples.form, self.options
        (first,), (stop,) = part.items[:1], part.items[1:]
        region, found = Extent((first,), (stop,)), dict[int, LabelQCError]()
        labels = read_labels(self.arrays["labels"], region)

        def look(rows: AnyArray, a: int, b: int) -> None:
            """Scan some examples, and where that fails each half of them."""
            try:
                values = labels.values[a:b]
                every = [slice(0, b - a)]
                scan_region(first + a, every, values, rows[a:b].__getitem__, form, options, how)
            except InputError as error:
                if b - a == 1:
                    found[first + a] = error
                    return
                look(rows, a, (a + b) // 2)
                look(rows, (a + b) // 2, b)

        def scan(
            start: int, blocks: Sequence[slice], values: AnyArray, read: ReadRows, keeping: Keeping
        ) -> Scanned:
            rows = np.concatenate([np.array(read(block)) for block in blocks])
            look(rows, 0, stop - first)
            nothing = [slice(0, 0)]
            return scan_region(start, nothing, values[:0], lambda _: rows[:0], form, options, how)

        pred_probs = self.arrays["pred_probs"]
        read_region(scan, self.plan, pred_probs, self.examples.transposed, how, region, labels)
        return found

    def scan(self, how: Keeping, part: Part, left_out: Sequence[int] = ()) -> Found:
        first, stop = part.items
        dense = self.blank(how, stop - first)
        scans: list[Scanned] = []
        seconds, labels, num_bytes = 0.0, 0, 0
        for run in without(part.items, left_out):
            here = {name: values[run[0] - first : run[1] - first] for name, values in dense.items()}
            reads = _Reads(self, how, here)
            found = reads(Extent(run[:1], run[1:]))
            scans.append(found)
            seconds, num_bytes = seconds + reads.seconds, num_bytes + reads.num_bytes
            labels = zlib.crc32(reads.labels.data, labels)
        total = reduce(add, (found.total for found in scans))
        kept = total, joined_facts(first, [found.kept for found in scans])
        return Found(total, kept, dense, num_bytes, seconds, labels)

    def blank(self, how: Keeping, size: int) -> dict[str, AnyArray]:
        """Return the outputs that a scan of so many examples fills."""
        outputs = [o for o in self.outputs() if o.name != "label_issues" and self._writes(how)]
        return {o.name: np.full(size, o.fill_value, o.dtype) for o in outputs}

    def _writes(self, how: Keeping) -> bool:
        """Return whether a scan knows the scores of all examples."""
        return not self.options.rescored or how.thresholds is not None

    def labels_hash(self, number: int) -> int:
        first, stop = self.items(number)
        values = read_labels(self.arrays["labels"], Extent((first,), (stop,))).values
        return zlib.crc32(np.ascontiguousarray(values).data)

    def to_record(self, kept: tuple[Learned, ExampleFacts]) -> dict[str, AnyArray]:
        return to_arrays(*kept)

    def total(self, record: Mapping[str, AnyArray]) -> Learned:
        return learned_of(record)

    def kept(self, number: int, record: Mapping[str, AnyArray]) -> ExampleFacts:
        return facts_of(self.items(number)[0], record)

    def paint(
        self, how: tuple[Search, Floats], number: int, record: Mapping[str, AnyArray]
    ) -> Painted:
        first, stop = self.items(number)
        facts, num_classes = self.kept(number, record), self.examples.form.num_classes
        found = self.method.find(facts, *how).index - first
        mask = np.zeros(stop - first, np.bool_)
        mask[found] = True
        here = np.searchsorted(facts.disagreeing.position, found)
        given, predicted = facts.disagreeing.given[here], facts.disagreeing.predicted[here]
        pairs = given.astype(np.int64) * num_classes + predicted
        matrix = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
        return Painted({"label_issues": mask}, None, matrix)

    def find(self, stages: JobStages) -> Results:
        method = self.method
        selection, issues = find(stages, method)
        if (self.quality or self.predicted) and not self._writes(stages.how):
            stages.scan(method.known(selection.thresholds))
        statistics = selection.total.statistics
        self._warn(statistics)
        how = selection.search, selection.thresholds
        matrix = reduce(add, (painted.total for painted in stages.paint(how)))
        small = (
            ("issue_index", (ISSUE,), issues.ranked()),
            ("confident_threshold", ("class",), selection.thresholds),
            ("class_count", ("class",), statistics.class_count),
            ("class_issue_count", ("class",), matrix.sum(axis=1)),
            ("issue_matrix", ("given_class", "predicted_class"), matrix),
        )
        facts = {"num_issues": int(matrix.sum()), "num_selected": selection.number}
        return Results(small, {**vars(self.options), **self.examples.form.naming(), **facts})

    def _warn(self, statistics: ExampleStatistics) -> None:
        labels, pred_probs = self.arrays.values()
        warn_of_labels(labels, statistics.absent_labels)
        absent = statistics.absent_pred_probs
        warn_of_predictions(pred_probs, self.examples.transposed, absent)
        warn_of_sum(statistics.worst_sum, self.examples.form.sum_tolerance)


class _Reads:
    """Reads and scans a run of examples, and knows how long the reading took."""

    def __init__(self, inputs: ExampleInputs, how: Keeping, dense: Mapping[str, AnyArray]) -> None:
        self.seconds, self.num_bytes = 0.0, 0
        self.labels: AnyArray = np.empty(0)
        self._inputs, self._how, self._dense = inputs, how, dense

    def __call__(self, region: Extent) -> Scanned:
        arrays, examples = self._inputs.arrays, self._inputs.examples
        begun = time.monotonic()
        labels = read_labels(arrays["labels"], region)
        self.seconds += time.monotonic() - begun
        self.labels = np.ascontiguousarray(labels.values)
        self.num_bytes = region.size * examples.form.item_bytes
        plan, pred_probs = self._inputs.plan, arrays["pred_probs"]
        return read_region(
            self._scan, plan, pred_probs, examples.transposed, self._how, region, labels
        )

    def _scan(
        self,
        start: int,
        blocks: Sequence[slice],
        labels: AnyArray,
        read: ReadRows,
        keeping: Keeping,
    ) -> Scanned:
        def timed(block: slice) -> AnyArray:
            begun = time.monotonic()
            rows = read(block)
            self.seconds += time.monotonic() - begun
            return rows

        form, options = self._inputs.examples.form, self._inputs.options
        see = self._see if self._dense else None
        return scan_region(start, blocks, labels, timed, form, options, keeping, see)

    def _see(self, found: ExampleCandidates) -> None:
        values = {"label_quality": found.label_quality, "predicted_label": found.predicted}
        for name, target in self._dense.items():
            target[found.position] = values[name]


def are_examples(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    storage_options: Mapping[str, Any] | None = None,
) -> bool:
    """Say if arrays are (N,) and (N, K), and not of one scene whose pixels have one dimension.

    Nor are they where a table beside says which pixels are those of which image. Of a dimension
    that is called as a place is, it is a scene if the classes come first.
    """
    given = open_array(labels, "labels", storage_options)
    predicted = open_array(pred_probs, "pred_probs", storage_options)
    if given.ndim != 1 or predicted.ndim != 2:
        return False
    if table_beside(given):
        return False
    (name,) = describe(given, "labels").names or (EXAMPLE,)
    if str(name).casefold() not in SPATIAL_NAMES:
        return True
    names = describe(predicted, "pred_probs").names
    if names is None:
        return bool(predicted.shape[0] == given.shape[0])
    return bool(names[0] == name)


def open_examples(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    options: ScoreOptions,
    *,
    storage_options: Mapping[str, Any] | None = None,
    group_bytes: int = GROUP_BYTES,
    quality: bool = False,
    predicted: bool = False,
) -> ExampleInputs:
    """Open labels and predictions, check what is asked, and cut the dataset into groups."""
    given = open_array(labels, "labels", storage_options)
    probs = open_array(pred_probs, "pred_probs", storage_options)
    examples = normalize(given, probs)
    if not (isinstance(examples, LazyExamples) and isinstance(examples.pred_probs, zarr.Array)):
        raise InputError(
            "pred_probs: their examples are those of the labels in another order; store both in "
            "one order, or give them to find_label_issues_batched"
        )
    (dim,) = describe(given, "labels").names or (EXAMPLE,)
    check_dims([dim], one_scene=False)
    if dim == ISSUE:
        raise InputError(f"labels: {dim!r} is what outputs call the issues; rename the dimension")
    check_group_bytes(group_bytes)
    form, chunk = examples.form, probs.chunks[int(examples.transposed)]
    plan = plan_blocks(form.shape, (chunk,), form.item_bytes, group_bytes=group_bytes)
    return ExampleInputs(examples, options, plan, group_bytes, str(dim), quality, predicted)
