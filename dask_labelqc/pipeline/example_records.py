"""What is on record of a group of examples, as arrays by name, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dask_labelqc.classification.facts import (
    Confidences,
    ExampleCandidates,
    ExampleFacts,
    Learned,
    LeftOut,
)
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.method.statistics import WorstSum
from dask_labelqc.typing import AnyArray

__all__ = ["facts_of", "joined_facts", "learned_of", "to_arrays"]

LEFT_OUT, DISAGREEING, AGREEING, CONFIDENCES = "out_", "disagree_", "agree_", "confidence_"


def to_arrays(learned: Learned, facts: ExampleFacts) -> dict[str, AnyArray]:
    """Return what is put on record of a group."""
    statistics, left_out = learned.statistics, learned.left_out
    return {
        "class_sum": statistics.class_sum.astype(np.int64),
        "class_count": statistics.class_count,
        "worst_sum": np.array([statistics.worst_sum.deviation, statistics.worst_sum.total]),
        "worst_place": np.array(statistics.worst_sum.place, np.int64),
        "absent_labels": np.array(sorted(statistics.absent_labels), np.int64),
        "absent_pred_probs": np.array(sorted(statistics.absent_pred_probs), np.int64),
        **{LEFT_OUT + name: np.asarray(value) for name, value in vars(left_out).items()},
        **_arrays(DISAGREEING, facts.disagreeing),
        **_arrays(AGREEING, facts.agreeing),
        **({} if facts.confidences is None else _arrays(CONFIDENCES, facts.confidences)),
    }


def learned_of(record: Mapping[str, AnyArray]) -> Learned:
    """Return what was learned of a group from its record."""
    deviation, worst = record["worst_sum"].tolist()
    statistics = ExampleStatistics(
        record["class_sum"].astype(object),
        record["class_count"],
        WorstSum(deviation, tuple(record["worst_place"].tolist()), worst),
        frozenset(record["absent_labels"].tolist()),
        frozenset(record["absent_pred_probs"].tolist()),
    )
    left_out = _named(LEFT_OUT, record)
    kept, lowest, largest = (left_out[n] for n in ("kept", "lowest", "largest_total"))
    return Learned(statistics, LeftOut(int(kept), lowest, float(largest)))


def facts_of(start: int, record: Mapping[str, AnyArray]) -> ExampleFacts:
    """Return what is kept of a group, which begins at a place, from its record."""
    confidences = _named(CONFIDENCES, record)
    return ExampleFacts(
        start,
        ExampleCandidates(**_named(DISAGREEING, record)),
        ExampleCandidates(**_named(AGREEING, record)),
        Confidences(**confidences) if confidences else None,
    )


def joined_facts(start: int, runs: Sequence[ExampleFacts]) -> ExampleFacts:
    """Put together what is kept of runs of a group that begins at a place."""
    if len(runs) == 1 and runs[0].start == start:
        return runs[0]
    confidences = [run.confidences for run in runs if run.confidences is not None]
    return ExampleFacts(
        start,
        ExampleCandidates.joined([_moved(start, run, run.disagreeing) for run in runs]),
        ExampleCandidates.joined([_moved(start, run, run.agreeing) for run in runs]),
        Confidences.joined(confidences) if confidences else None,
    )


def _moved(start: int, run: ExampleFacts, lists: ExampleCandidates) -> ExampleCandidates:
    return replace(lists, position=lists.position.astype(np.int64) + (run.start - start))


def _arrays(prefix: str, lists: Any) -> dict[str, AnyArray]:
    return {prefix + name: values for name, values in vars(lists).items()}


def _named(prefix: str, record: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the arrays whose names begin so, without that."""
    return {n.removeprefix(prefix): record[n] for n in record if n.startswith(prefix)}
