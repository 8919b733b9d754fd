"""The limit: read the files of an array and decode them, both into memory that is used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np
import zarr
from numcodecs import Zstd

TOGETHER = 15
"""Files that a worker takes at a time, as many as the job has in a group."""
Loop: TypeAlias = Callable[[], None]


def decode_files(paths: Sequence[Path], chunk_bytes: int, compressed: bool) -> None:
    """Go through files, each a chunk of so many bytes when it is decoded."""
    decoded = np.empty(chunk_bytes, np.uint8)
    stored = memoryview(bytearray(chunk_bytes + chunk_bytes // 64) if compressed else decoded)
    codec = Zstd()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            size = file.readinto(stored)
        if compressed:
            codec.decode(stored[:size], out=decoded)


@contextmanager
def bare_loop(path: Path, workers: int, processes: bool) -> Iterator[Loop]:
    """Yield a function that decodes all predictions of a dataset once; the workers run already."""
    array = zarr.open_array(path / "pred_probs", mode="r")
    files = sorted(file for file in (path / "pred_probs" / "c").rglob("*") if file.is_file())
    assert len(files) == array.nchunks
    chunk_bytes = int(np.prod(array.chunks)) * array.dtype.itemsize
    batches = [files[i : i + TOGETHER] for i in range(0, len(files), TOGETHER)]
    compressed = bool(array.compressors)
    pool: Executor
    if processes:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    else:
        pool = ThreadPoolExecutor(workers)

    def loop() -> None:
        asked = [pool.submit(decode_files, batch, chunk_bytes, compressed) for batch in batches]
        for future in asked:
            future.result()

    with pool:
        yield loop
