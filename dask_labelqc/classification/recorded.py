"""What is on record of examples: as much as the scores that are asked for need of each.

Most scores need little: the given class and its probability s; the score itself where that is
another number, and the sum of the row where thresholds are still to be subtracted from it; and of
an example that disagrees the predicted class and its probability. The margin of adjusted
probabilities alone needs the whole row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dask_labelqc.classification.facts import ExampleCandidates
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.kernels.examples import ExampleScan, ExampleScanOptions
from dask_labelqc.kernels.fixed_point import FIXED_POINT
from dask_labelqc.kernels.labels import VOID
from dask_labelqc.storage.columns import Columns
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["EXAMPLE", "recorded_facts", "recorded_rows", "scan_of_facts", "with_all"]

EXAMPLE, DISAGREEING = "example", "disagreeing"
AXES = {
    **dict.fromkeys(("labels", "pred_probs", "self_confidence", "score", "total"), EXAMPLE),
    **dict.fromkeys(("predicted", "confidence"), DISAGREEING),
}


def recorded_facts(found: ExampleCandidates, size: int, num_classes: int) -> Columns:
    """Return what is kept of a batch of so many examples, of which all that count were found."""
    codes = _codes(size, found, num_classes)
    apart = found.given != found.predicted
    values = {"labels": codes, "self_confidence": _spread(found.self_confidence, found, size)}
    if found.score.size:
        values["score"] = _spread(found.score, found, size)
    if found.total.size:
        values["total"] = _spread(found.total, found, size)
    values |= {"predicted": found.predicted[apart], "confidence": found.confidence[apart]}
    return _columns(values, np.bincount(found.position[apart], minlength=size))


def recorded_rows(found: ExampleCandidates, stored: AnyArray) -> Columns:
    """Return a batch of predictions (n, K) as they are; nothing of those that do not count."""
    size, num_classes = stored.shape
    rows = np.zeros(stored.shape, stored.dtype)
    rows[found.position] = np.ma.getdata(stored)[found.position]
    values = {"labels": _codes(size, found, num_classes), "pred_probs": rows}
    return _columns(values, np.zeros(size, np.int64))


def _codes(size: int, found: ExampleCandidates, num_classes: int) -> Ints:
    codes = np.full(size, VOID, np.min_scalar_type(-num_classes))
    codes[found.position] = found.given
    return codes


def _spread(values: AnyArray, found: ExampleCandidates, size: int) -> AnyArray:
    spread = np.zeros(size, values.dtype)
    spread[found.position] = values
    return spread


def _columns(values: dict[str, AnyArray], disagreeing: Ints) -> Columns:
    counts = {EXAMPLE: np.ones(len(disagreeing), np.int64), DISAGREEING: disagreeing}
    return Columns(counts, {name: AXES[name] for name in values}, values)


def with_all(columns: Columns) -> Columns:
    """Return the same with the predicted class and its probability of every example."""
    values = dict(columns.values)
    if "predicted" in values:
        place = np.flatnonzero(columns.counts[DISAGREEING])
        for name, of_others in (("predicted", "labels"), ("confidence", "self_confidence")):
            every = np.maximum(values[of_others], 0).astype(values[name].dtype)
            every[place] = values[name]
            values[name] = every
    counts = {EXAMPLE: columns.counts[EXAMPLE]}
    return Columns(counts, dict.fromkeys(values, EXAMPLE), values)


def scan_of_facts(
    columns: dict[str, AnyArray], form: ExampleFormat, options: ExampleScanOptions
) -> ExampleScan:
    """Return what `kernels.examples.scan_examples` found of a run of examples, from the record."""
    given, own = columns["labels"], columns["self_confidence"]
    predicted = columns["predicted"]
    score = columns.get("score", own)
    here = given >= 0
    units = np.rint(own[here].astype(np.float64) * FIXED_POINT).astype(np.int64)
    class_sum = np.zeros(form.num_classes, np.int64)
    np.add.at(class_sum, given[here], units)
    (place,) = np.nonzero(here & ((given != predicted) | (score <= np.float64(options.bound))))
    total: Any = columns["total"][place] if options.totals else np.zeros(0)
    return ExampleScan(
        class_sum=class_sum,
        class_count=np.bincount(given[here], minlength=form.num_classes),
        position=place,
        score=score[place],
        self_confidence=own[place],
        confidence=columns["confidence"][place],
        given=given[place].astype(form.class_dtype),
        predicted=predicted[place].astype(form.class_dtype),
        total=total,
        facts=np.array([-1, 0, -1, place.size]),
        worst_sum=np.array([0.0, 1.0]),
    )


def needs_rows(options: ScoreOptions) -> bool:
    """Say if the record of an example is the row of its probabilities."""
    return options.reads_twice
