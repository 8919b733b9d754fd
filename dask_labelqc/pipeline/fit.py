"""See that the memory there is will do, before any work; and use less of it where it must be."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from dask.utils import format_bytes
from distributed import Client
from distributed.system import MEMORY_LIMIT

from dask_labelqc.errors import InputError, advise
from dask_labelqc.pipeline.inputs import PROCESS_BYTES, Inputs
from dask_labelqc.pipeline.on_cluster import ask
from dask_labelqc.typing import Shape

__all__ = ["Kind", "check_shape", "fit", "kinds_of", "threads_that_fit"]

IMAGE_BYTES = 64
"""Of scores, counts and softmin states of an image, all of which this process holds at the end."""
GROUP_NOTE_BYTES = 100
"""Of the number of a group in the lists of what is to be done."""
CLASS_PAIR_BYTES = 24
"""Of the matrix of issues, as it is added up."""

T = TypeVar("T", bound=Inputs)

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


def check_shape(shape: Shape, num_groups: int) -> None:
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


def fit(inputs: T, kinds: Sequence[Kind], groups: Shape | None = None) -> T:
    """Return the inputs with a plan that fits each kind of worker, the nearest to what was asked.

    Parameters
    ----------
    inputs
        With the plan that was asked for.
    kinds
        Of workers.
    groups
        Those of an output that is to be finished, and so cannot be others.

    Raises
    ------
    InputError
        None does; says which chunk, how much it needs, and what to change.
    """
    candidates = list(inputs.smaller())
    if groups is not None:
        # Others than any of these are by another `group_bytes`, which is said elsewhere.
        candidates = [c for c in candidates if c.groups == groups] or [inputs]
    for candidate in candidates:
        if all(_needed(candidate, kind.threads) <= kind.limit for kind in kinds):
            if candidate is not candidates[0]:
                _say(candidate, candidates[0], kinds[0])
            return candidate
    raise _too_large(candidates[-1], kinds, kept=groups is not None)


def threads_that_fit(inputs: T, n_jobs: int | None, groups: Shape | None = None) -> tuple[T, int]:
    """Return the inputs as `fit` does for threads of this process, and how many threads.

    If their number was not asked for, there are fewer where memory is short.
    """
    most = threads = n_jobs or os.cpu_count() or 1
    while True:
        try:
            fitting = fit(inputs, [Kind(0, threads, MEMORY_LIMIT)], groups)
        except InputError:
            if n_jobs is not None or threads == 1:
                raise
            threads //= 2
            continue
        if threads < most:
            log.warning("%d threads instead of %d, for more do not fit into memory", threads, most)
        return fitting, threads


def _needed(inputs: Inputs, threads: int) -> int:
    return PROCESS_BYTES + threads * inputs.worker_bytes()


def _say(inputs: Inputs, wanted: Inputs, tightest: Kind) -> None:
    what = []
    if inputs.groups != wanted.groups:
        what.append(f"groups of {_times(inputs.groups)} instead of {_times(wanted.groups)}")
    if inputs.ahead != wanted.ahead:
        what.append(f"{inputs.ahead} instead of {wanted.ahead} blocks read ahead")
    log.warning(
        "%s, to fit into %s: %s are needed instead of %s",
        " and ".join(what),
        str(tightest).rstrip(","),
        format_bytes(_needed(inputs, tightest.threads)),
        format_bytes(_needed(wanted, tightest.threads)),
    )


def _too_large(least: Inputs, kinds: Sequence[Kind], kept: bool) -> InputError:
    """Return the error of who needs more than the least there is, which says what to change."""
    kind = next(kind for kind in kinds if _needed(least, kind.threads) > kind.limit)
    needed = format_bytes(_needed(least, kind.threads))
    change = (
        "give each worker {memory_limit} or more, or fewer threads"
        if kind.number
        else "use fewer threads (n_jobs) or a larger machine"
    )
    kept_groups = (
        f"; the groups of this unfinished output, {_times(least.groups)}, are kept, "
        "{overwrite} begins with smaller ones"
        if kept
        else ""
    )
    return InputError(
        f"{'client' if kind.number else 'n_jobs'}: {kind} cannot work on "
        f"{least.too_large()} need {needed}, which is {format_bytes(PROCESS_BYTES)} and "
        f"{format_bytes(least.worker_bytes())} for each thread",
        advise(
            f"{change}, or store the predictions in smaller chunks{kept_groups}",
            memory_limit=needed,
            overwrite=True,
        ),
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
