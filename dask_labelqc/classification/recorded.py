"""What is on record of examples: as much as the scores that are asked for need of each.

Most scores need little: the given class and its probability s; the score itself where that is
another number, and the sum of the row where thresholds are still to be subtracted from it; and of
an example that disagrees the predicted class and its probability. The margin of adjusted
probabilities alone needs the whole row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dask_labelqc.classification.facts import ExampleCandidates
from dask_labelqc.classification.inputs import InMemoryExamples
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions
from dask_labelqc.kernels.examples import ExampleScan, ExampleScanOptions
from dask_labelqc.kernels.fixed_point import FIXED_POINT
from dask_labelqc.kernels.labels import VOID
from dask_labelqc.method.statistics import WorstSum
from dask_labelqc.storage.columns import Columns, hashes_of
from dask_labelqc.typing import AnyArray

__all__ = ["EXAMPLE", "recorded", "scan_of_facts", "with_all"]

EXAMPLE, DISAGREEING = "example", "disagreeing"
AXES = {
    **dict.fromkeys(("labels", "pred_probs", "self_confidence", "score", "total"), EXAMPLE),
    **dict.fromkeys(("predicted", "confidence"), DISAGREEING),
}


def recorded(
    ids: Sequence[str],
    batch: InMemoryExamples,
    found: ExampleCandidates,
    worst: WorstSum,
    options: ScoreOptions,
) -> Columns:
    """Return what is kept of a batch.

    Parameters
    ----------
    ids, batch
        Of the examples, and their labels and predictions.
    found
        All of them that count.
    worst
        The row whose sum is farthest from one.
    options
        Of the scores.
    """
    size, form = len(ids), batch.form
    codes = np.full(size, VOID, np.min_scalar_type(-form.num_classes))
    codes[found.position] = found.given
    values: dict[str, AnyArray] = {"labels": codes}
    if options.reads_twice:
        values["pred_probs"] = _spread(np.ma.getdata(batch.pred_probs)[found.position], found, size)
        disagreeing = np.zeros(size, np.int64)
    else:
        apart = found.given != found.predicted
        needed = (
            "self_confidence",
            *["score"] * options.scores_apart,
            *["total"] * options.rescored,
        )
        values |= {name: _spread(getattr(found, name), found, size) for name in needed}
        values |= {"predicted": found.predicted[apart], "confidence": found.confidence[apart]}
        disagreeing = np.bincount(found.position[apart], minlength=size)
    counts = {EXAMPLE: np.ones(size, np.int64), DISAGREEING: disagreeing}
    axes = {name: AXES[name] for name in values}
    about = {"dtype": form.dtype.str, "scale": "" if form.scale is None else repr(form.scale)}
    off = worst.deviation > form.sum_tolerance
    sums = np.array([(*worst.place, worst.deviation, worst.total)] * off)
    hashes = hashes_of(counts, axes, values)
    return Columns(ids, hashes, counts, axes, values, about, sums.reshape(-1, 3))


def _spread(values: AnyArray, found: ExampleCandidates, size: int) -> AnyArray:
    """Return values of what was found at their places, and zeros elsewhere."""
    spread = np.zeros((size, *values.shape[1:]), values.dtype)
    spread[found.position] = values
    return spread


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
    return replace(columns, counts=counts, axes=dict.fromkeys(values, EXAMPLE), values=values)


def scan_of_facts(
    columns: Mapping[str, AnyArray], form: ExampleFormat, options: ExampleScanOptions
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
    total = columns["total"][place] if options.totals else np.zeros(0)
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
