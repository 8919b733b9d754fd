"""How scans are compared."""

from __future__ import annotations

import numpy as np

from dask_labelqc.kernels.summary import BAD_REASON, WORST_SUM_PIXEL, BlockScan

__all__ = ["assert_same"]


def assert_same(found: BlockScan, expected: BlockScan) -> None:
    """Compare two scans bit by bit, but for the worst sum, which is a sum in any order."""
    for name in BlockScan._fields:
        a, b = getattr(found, name), getattr(expected, name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        if name not in ("facts", "worst_sum"):
            assert a.tobytes() == b.tobytes(), name
    others = np.arange(len(found.facts)) != WORST_SUM_PIXEL
    assert found.facts[others].tolist() == expected.facts[others].tolist()
    if not expected.facts[BAD_REASON]:
        np.testing.assert_allclose(found.worst_sum, expected.worst_sum, rtol=0, atol=1e-4)
