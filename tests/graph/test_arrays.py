from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client

from dask_labelqc.graph.arrays import as_blocks

VALUES = np.arange(30).reshape(5, 6)
CHUNKS = (2, 3), (5, 1)


@pytest.mark.parametrize(
    "array",
    [VALUES, zarr.array(VALUES, chunks=(1, 4)), da.from_array(VALUES, chunks=2)],
    ids=["numpy", "zarr", "dask"],
)
def test_any_array_in_the_chunks_that_are_wanted(array: Any) -> None:
    found = as_blocks(array, CHUNKS)
    assert found.chunks == CHUNKS
    np.testing.assert_array_equal(found.compute(scheduler="sync"), VALUES)


def test_blocks_go_straight_to_the_workers() -> None:
    masked = np.ma.masked_equal(VALUES, 7)
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
        for array in (VALUES, masked):
            found = as_blocks(array, CHUNKS)
            assert found.chunks == CHUNKS
            np.testing.assert_array_equal(found.compute(), array)
        corner = found[:2, :5].compute()
        assert np.ma.getmaskarray(corner).sum() == 1
