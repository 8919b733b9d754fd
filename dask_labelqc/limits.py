"""Sizes that no machine can work on, found before it tries: metadata may claim any shape."""

from __future__ import annotations

import math

from dask.utils import format_bytes
from distributed.system import MEMORY_LIMIT

from dask_labelqc.errors import InputError
from dask_labelqc.typing import Shape

__all__ = ["check_blocks", "check_chunks", "check_memory"]

MOST_BLOCKS = 1_000_000
"""Of a lazy graph. Each takes some 30 kB and 9 ms of a scheduler."""
MOST_CHUNKS = 10**9
"""Of a stored array: at a thousand a second they take eleven days."""


def check_blocks(name: str, shape: Shape, block: Shape) -> None:
    """Raise InputError if an array has more blocks than a graph can have.

    Examples
    --------
    >>> check_blocks("labels", (1000, 512, 512), (1, 512, 512))
    """
    count = math.prod(-(-n // b) for n, b in zip(shape, block, strict=True))
    if count > MOST_BLOCKS:
        raise InputError(
            f"{name}: got shape {tuple(shape)}, which would be a graph of {count:,} blocks of "
            f"{tuple(block)}; at most {MOST_BLOCKS:,} are possible. Is the shape right? Take a "
            "part, store larger chunks, or run the job (dask_labelqc.audit_zarr), which has no "
            "graph"
        )


def check_chunks(name: str, shape: Shape, chunks: Shape) -> None:
    """Raise InputError if an array has more storage chunks than anybody has stored.

    Examples
    --------
    >>> check_chunks("pred_probs", (10**9, 10), (10**6, 10))
    """
    count = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    if count >= MOST_CHUNKS:
        raise InputError(
            f"{name}: got shape {tuple(shape)} in {count:,} chunks of {tuple(chunks)}, more than "
            "can be read. Is the shape right? Take a part, or store larger chunks"
        )


def check_memory(name: str, shape: Shape, itemsize: int) -> None:
    """Raise InputError if what must be in memory is larger than that.

    Examples
    --------
    >>> check_memory("given_offsets", (1001,), 8)
    """
    needed = math.prod(shape) * itemsize
    if needed > MEMORY_LIMIT:
        raise InputError(
            f"{name}: {tuple(shape)} of it would be in memory at a time, {format_bytes(needed)}, "
            f"and this machine has {format_bytes(MEMORY_LIMIT)}. Is the shape right? Take a part"
        )
