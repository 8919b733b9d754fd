"""What a call that returns its answer says while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dask_labelqc.kernels.compiled import when_compiling
from dask_labelqc.progress import LateProgress, NoProgress, Progress, progress_for

__all__ = ["call_progress"]


@contextmanager
def call_progress(verbose: bool) -> Iterator[Progress]:
    """Yield the progress of a call: shown once it lasts, and nothing unless `verbose`.

    The first call of all takes some seconds more, and says why.
    """
    if not verbose:
        yield NoProgress()
        return
    with when_compiling(_tell), LateProgress(partial(progress_for, True)) as progress:
        yield progress


def _tell() -> None:
    sys.stderr.write("compiling kernels: this takes some seconds, once\n")
