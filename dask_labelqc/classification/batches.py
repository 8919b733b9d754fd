"""Examples of a loop that predicts: one batch, in arrays of any framework, checked and scanned."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np

from dask_labelqc.classification.facts import ExampleCandidates
from dask_labelqc.classification.inputs import InMemoryExamples, loaded, normalize
from dask_labelqc.classification.scan import scan_runs
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.devices.arrays import on_host
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.examples import ExampleScan, ExampleScanOptions
from dask_labelqc.kernels.predictions import decoded_runs, probability_dtype
from dask_labelqc.method.format import check_dtypes
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["batch_of", "probabilities", "scanned"]


def batch_of(labels: Any, pred_probs: Any, num_classes: int) -> InMemoryExamples | None:
    """Return a batch in memory, checked; None if it is empty.

    Raises
    ------
    InputError
        It is none, or not of so many classes.
    """
    labels, pred_probs = on_host(labels), on_host(pred_probs)
    shape = np.shape(pred_probs)
    if len(shape) == 2 and num_classes not in shape:
        raise InputError(
            f"pred_probs: got shape {shape}, it must be (n, {num_classes}) "
            f"for num_class={num_classes}"
        )
    if np.shape(labels) == (0,) and shape == (0, num_classes):
        return None
    batch = normalize(labels, pred_probs)
    if batch.form.num_classes != num_classes:
        raise InputError(
            f"pred_probs: got {batch.form.num_classes} classes, it must be (n, "
            f"{num_classes}) for num_class={num_classes}"
        )
    return loaded(batch)


def probabilities(logits: Any) -> Floats:
    """Return the softmax of logits (n, K) over the classes, in float64 inside.

    Raises
    ------
    InputError
        They are no floats (n, K).

    Examples
    --------
    >>> probabilities(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """
    values = np.asarray(on_host(logits))
    if values.ndim != 2:
        raise InputError(f"logits: got shape {values.shape}, it must be (n, K)")
    if values.dtype.kind != "f":
        raise InputError(f"logits: got dtype {values.dtype}, it must be floating point")
    check_dtypes(np.dtype(np.int64), values.dtype, from_logits=True)
    planes = np.ascontiguousarray(values.T, probability_dtype(values.dtype))
    probs = np.empty_like(planes)
    for _, start, run in decoded_runs(planes[None], 1, True, None):
        probs[:, start : start + run.shape[2]] = run[0]
    return np.ascontiguousarray(probs.T)


def scanned(
    batch: InMemoryExamples,
    start: int,
    options: ExampleScanOptions,
    threads: int,
    named_place: Callable[[int], str] = "example {}".format,
) -> tuple[ExampleStatistics, ExampleCandidates]:
    """Scan a batch whose first example is number `start`, a part of it on each thread.

    Raises
    ------
    InputError
        A label or a probability cannot be used; `named_place` names the example.
    """
    size = batch.labels.size
    ends = np.linspace(0, size, min(threads, size) + 1).astype(int)
    read: Callable[[slice], AnyArray] = batch.pred_probs.__getitem__

    def scan(part: slice) -> list[tuple[slice, ExampleScan]]:
        runs = scan_runs(start, [part], batch.labels, read, batch.form, options, named_place)
        return list(runs)

    parts = [slice(a, b) for a, b in pairwise(ends)]
    if len(parts) == 1:
        found = scan(parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            found = [run for runs in pool.map(scan, parts) for run in runs]
    statistics = (ExampleStatistics.of(scan, start + run.start) for run, scan in found)
    candidates = ExampleCandidates.joined([ExampleCandidates.of(scan) for _, scan in found])
    return reduce(add, statistics), candidates
