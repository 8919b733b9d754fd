"""A dataset whose reads are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from dask_labelqc.pipeline import JobReport, audit_zarr
from tests.pipeline.datasets import Stored
from tests.stores import CountingStore


class Reading:
    """A dataset whose reads are counted."""

    def __init__(self, stored: Stored) -> None:
        # Not opened for reading only, which would be with a copy of the store.
        self.store = CountingStore(LocalStore(stored.labels.parent))
        self.labels = zarr.open_array(self.store, path="labels", mode="r+")
        self.pred_probs = zarr.open_array(self.store, path="pred_probs", mode="r+")
        self.num_chunks = self.pred_probs.nchunks

    def audit(self, output: Path, **arguments: Any) -> JobReport:
        defaults: dict[str, Any] = {"progress": False, "group_bytes": 1, "n_jobs": 2}
        return audit_zarr(self.labels, self.pred_probs, output, **(defaults | arguments))

    @property
    def reads(self) -> dict[str, int]:
        return {k: n for k, n in self.store.reads.items() if k.startswith("pred_probs/c/")}

    def clear(self) -> None:
        self.store.forget()
