"""Probabilities as integers, whose sums are exact in any order."""

from __future__ import annotations

import numpy as np

from dask_labelqc.kernels.compiled import compiled_within

__all__ = ["FIXED_POINT", "fixed_point"]

FIXED_POINT = 2**32
"""Probabilities are summed as integer multiples of 1 / FIXED_POINT."""
ROUND_TO_INTEGER = 6755399441055744.0  # 1.5 * 2**52: adding it rounds half to even


@compiled_within
def fixed_point(probability):  # type: ignore[no-untyped-def]
    """Return a float64 probability in units of 1 / `FIXED_POINT`, rounded half to even."""
    return np.int64((probability * FIXED_POINT + ROUND_TO_INTEGER) - ROUND_TO_INTEGER)
