"""Keep memory that is freed for what comes next, where glibc would give it back each time.

Dask starts workers with ``MALLOC_TRIM_THRESHOLD_=65536``, and that also stops glibc from learning
how large the usual array is: each of more than 128 KiB is mapped, faulted in page by page, and
unmapped. To decode a chunk then takes twice as long.
"""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache

import dask.config

__all__ = ["SETTING", "keep_freed_memory"]

SETTING = "labelqc.keep-freed-memory"
"""Dask's setting that switches this off, for each process that reads."""
OWN_CHOICE = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
"""Whoever sets these in the environment has chosen otherwise."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD = 32 * 2**20
"""Arrays up to this size are taken out of memory that was used before: the most that all of glibc's
versions allow."""
TRIM_THRESHOLD = 2 * MMAP_THRESHOLD
"""Free memory at the end of the heap that is kept; glibc itself would keep as much."""

log = logging.getLogger(__name__)


@cache
def keep_freed_memory() -> bool:
    """Let the allocator of this process keep what is freed; say if it does. Once is enough.

    Nothing happens where the C library is not glibc, where Dask's setting
    ``labelqc.keep-freed-memory`` is false, or where ``MALLOC_MMAP_THRESHOLD_`` is in the
    environment.
    """
    if not dask.config.get(SETTING, True) or any(name in os.environ for name in OWN_CHOICE):
        return False
    try:
        is_glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, ValueError):  # musl, macOS, Windows
        return False
    wanted = ((M_MMAP_THRESHOLD, MMAP_THRESHOLD), (M_TRIM_THRESHOLD, TRIM_THRESHOLD))
    done = is_glibc and all(mallopt(parameter, value) for parameter, value in wanted)
    log.debug("glibc keeps freed memory: %s", done)
    return done
