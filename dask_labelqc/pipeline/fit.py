"""See that the memory there is will do, before any work; and use less of it where it must be."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dask.utils import format_bytes
from distributed import Client
from distributed.system import MEMORY_LIMIT

from dask_labelqc.errors import InputError, advise
from dask_labelqc.graph.blocks import plan_blocks
from dask_labelqc.pipeline.info import PROCESS_BYTES, Inputs, worker_bytes
from dask_labelqc.pipeline.on_cluster import ask
from dask_labelqc.typing import Shape

__all__ = ["Kind", "check_size", "fit", "kinds_of", "threads_that_fit"]

IMAGE_BYTES = 56
"""Of scores, counts and softmin states of an image, all of which this process holds at the end."""
GROUP_NOTE_BYTES = 100
"""Of the number of a group in the lists of what is to be done."""
CLASS_PAIR_BYTES = 24
"""Of the matrix of issues, as it is added up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """Workers that are alike.

    Attributes
    ----------
    number
        How many there are; 0 stands for this process.
    threads
        Of each.
    limit
        Bytes that each may hold.
    """

    number: int
    threads: int
    limit: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if not self.number:
            return f"this process, {threads} on a machine of {format_bytes(self.limit)},"
        workers = f"{self.number} workers" if self.number > 1 else "1 worker"
        return f"{workers} of {threads} with a limit of {format_bytes(self.limit)}"


def kinds_of(client: Client) -> list[Kind]:
    """Return the kinds of workers of a cluster that have a limit, the smallest share first."""
    workers = ask(client, client.scheduler_info)["workers"].values()
    kinds = Counter((it["nthreads"], it["memory_limit"]) for it in workers if it["memory_limit"])
    found = [Kind(number, *kind) for kind, number in kinds.items()]
    return sorted(found, key=lambda kind: kind.limit / kind.threads)


def check_size(shape: Shape, num_groups: int) -> None:
    r"""Raise InputError if the results of the images alone would not fit into this process.

    Metadata may claim any shape, and then every array that has an entry for each image counts.

    Parameters
    ----------
    shape
        (N, K, \*spatial).
    num_groups
        Of the plan.
    """
    sizes = {
        "images": shape[0] * IMAGE_BYTES,
        "groups": num_groups * GROUP_NOTE_BYTES,
        "pairs of classes": shape[1] ** 2 * CLASS_PAIR_BYTES,
    }
    if sum(sizes.values()) > MEMORY_LIMIT:
        what, needed = max(sizes.items(), key=lambda item: item[1])
        raise InputError(
            f"pred_probs: by its metadata its shape is {shape}; what is kept of the "
            f"{what} alone takes {format_bytes(needed)}, and this machine has "
            f"{format_bytes(MEMORY_LIMIT)}; are the metadata right? Audit fewer images at a time"
        )


def fit(
    inputs: Inputs, kinds: Sequence[Kind], group_bytes: int, groups: Shape | None = None
) -> Inputs:
    """Return the inputs with a plan that fits each kind of worker, the nearest to what was asked.

    Parameters
    ----------
    inputs
        With the plan that was asked for.
    kinds
        Of workers.
    group_bytes
        By which the plan was made.
    groups
        Those of an output that is to be finished, and so cannot be others.

    Raises
    ------
    InputError
        None does; says which chunk, how much it needs, and what to change.
    """
    candidates = list(_candidates(inputs, group_bytes))
    if groups is not None:
        # Others than any of these are by another `group_bytes`, which is said elsewhere.
        candidates = [c for c in candidates if c.plan.group == groups] or [inputs]
    for candidate in candidates:
        if all(_needed(candidate, kind.threads) <= kind.limit for kind in kinds):
            if candidate is not candidates[0]:
                _say(candidate, candidates[0], kinds[0])
            return candidate
    raise _too_large(candidates[-1], kinds, kept=groups is not None)


def threads_that_fit(
    inputs: Inputs, n_jobs: int | None, group_bytes: int, groups: Shape | None = None
) -> tuple[Inputs, int]:
    """Return the inputs as `fit` does for threads of this process, and how many threads.

    If their number was not asked for, there are fewer where memory is short.
    """
    most = threads = n_jobs or os.cpu_count() or 1
    while True:
        try:
            fitting = fit(inputs, [Kind(0, threads, MEMORY_LIMIT)], group_bytes, groups)
        except InputError:
            if n_jobs is not None or threads == 1:
                raise
            threads //= 2
            continue
        if threads < most:
            log.warning("%d threads instead of %d, for more do not fit into memory", threads, most)
        return fitting, threads


def _candidates(inputs: Inputs, group_bytes: int) -> Iterator[Inputs]:
    """Yield the inputs with smaller and smaller groups, and less and less reading ahead."""
    params, chunk = inputs.params, inputs.reader.chunk
    plans = [inputs.plan]
    while group_bytes > 1:
        group_bytes //= 2
        smaller = plan_blocks(
            params.shape, chunk, params.pixel_bytes, params.factors, group_bytes=group_bytes
        )
        if smaller.group != plans[-1].group:
            plans.append(smaller)
    most = inputs.reader.ahead
    steps = sorted((i + j, i, j) for i in range(len(plans)) for j in range(most + 1))
    yield inputs
    for _, i, j in steps[1:]:
        reader = replace(inputs.reader, most_ahead=most - j) if j else inputs.reader
        yield replace(inputs, reader=reader, plan=plans[i])


def _needed(inputs: Inputs, threads: int) -> int:
    return PROCESS_BYTES + threads * worker_bytes(inputs)


def _say(inputs: Inputs, wanted: Inputs, tightest: Kind) -> None:
    what = []
    if inputs.plan.group != wanted.plan.group:
        what.append(f"groups of {_times(inputs.plan.group)} instead of {_times(wanted.plan.group)}")
    if inputs.reader.ahead != wanted.reader.ahead:
        what.append(f"{inputs.reader.ahead} instead of {wanted.reader.ahead} blocks read ahead")
    log.warning(
        "%s, to fit into %s: %s are needed instead of %s",
        " and ".join(what),
        str(tightest).rstrip(","),
        format_bytes(_needed(inputs, tightest.threads)),
        format_bytes(_needed(wanted, tightest.threads)),
    )


def _too_large(least: Inputs, kinds: Sequence[Kind], kept: bool) -> InputError:
    """Return the error of who needs more than the least there is, which says what to change."""
    reader, itemsize = least.reader, least.params.dtype.itemsize
    kind = next(kind for kind in kinds if _needed(least, kind.threads) > kind.limit)
    stored = format_bytes(math.prod(reader.pred_probs.chunks) * itemsize)
    block = (least.plan.block[0], reader.shape[1], *least.plan.block[1:])
    needed = format_bytes(_needed(least, kind.threads))
    change = (
        "give each worker {memory_limit} or more, or fewer threads"
        if kind.number
        else "use fewer threads (n_jobs) or a larger machine"
    )
    kept_groups = (
        f"; the groups of this unfinished output, {_times(least.plan.group)}, are kept, "
        "{overwrite} begins with smaller ones"
        if kept
        else ""
    )
    return InputError(
        f"{'client' if kind.number else 'n_jobs'}: {kind} cannot work on chunks of pred_probs of "
        f"{_times(reader.pred_probs.chunks)} {least.params.dtype} ({stored}): blocks of "
        f"{_times(block)} need {needed}, which is {format_bytes(PROCESS_BYTES)} and "
        f"{format_bytes(worker_bytes(least))} for each thread",
        advise(
            f"{change}, or store the predictions in smaller chunks{kept_groups}",
            memory_limit=needed,
            overwrite=True,
        ),
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
