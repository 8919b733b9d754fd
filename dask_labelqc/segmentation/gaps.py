"""What is not in the stores of arrays that are read together with arrays of other kinds.

Where labels and predictions are both in Zarr, the tasks that read them see what is not there. Of
one alone the store is asked before anything is read, which takes a listing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from dask_labelqc.extent import Extent
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.limits import check_blocks
from dask_labelqc.method.gaps import missing_of, warn_of_missing
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.storage.alignment import Lineup
from dask_labelqc.storage.gaps import WatchedReads, gaps_of, unread
from dask_labelqc.storage.layout import Layout
from dask_labelqc.typing import AnyArray

__all__ = ["look_for_gaps"]


def look_for_gaps(labels: Any, pred_probs: Any, lineup: Lineup, params: Parameters) -> None:
    r"""Warn of chunks of Zarr arrays that are not there, before anything is read.

    Parameters
    ----------
    labels, pred_probs
        NumPy, Dask or Zarr arrays; only of the last is anything known.
    lineup
        How they are seen as (N, \*spatial) and (N, K, \*spatial).
    params
        Of the audit.

    Raises
    ------
    InputError
        Predictions are not there of which nothing can be made, unless all their pixels are ignored.
    """
    of_labels, of_probs = (
        _unread(name, array, layout)
        for name, array, layout in (
            ("labels", labels, lineup.labels),
            ("pred_probs", pred_probs, lineup.pred_probs),
        )
    )
    whole = Extent((0,) * len(params.shape), params.shape)
    gaps = gaps_of(of_labels, of_probs, whole)
    codes: AnyArray = np.broadcast_to(np.int32(0), params.shape)
    if gaps.pred_probs and isinstance(labels, np.ndarray):
        seen = lineup.labels.read(labels, whole)
        codes = encode_labels(seen, params.num_classes, params.ignore_index).codes
    warn_of_missing(missing_of(gaps, codes, whole, params))


def _unread(name: str, array: Any, layout: Layout) -> WatchedReads | None:
    if not isinstance(array, zarr.Array):
        return None
    check_blocks(name, array.shape, array.shards or array.chunks)
    return unread(array, layout)
