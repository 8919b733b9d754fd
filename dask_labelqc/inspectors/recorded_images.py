"""The records of an inspector as the inputs of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes

from dask_labelqc.extent import Extent
from dask_labelqc.inspectors.catalog import Catalog
from dask_labelqc.inspectors.parts import (
    PART_BYTES,
    PartFound,
    PartReader,
    Parts,
    SortedIssues,
    cut_into_parts,
    put_down_parts,
)
from dask_labelqc.method.issues import Issues
from dask_labelqc.method.outputs import ImageParts, contributed, finished
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.sequence import select
from dask_labelqc.pipeline.fit import check_shape
from dask_labelqc.pipeline.inputs import PROCESS_BYTES, DenseOutput, Inputs, Painted, Results
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, group_stamps
from dask_labelqc.plan import Plan
from dask_labelqc.storage.coordinates import CLASS_DIMS, Carried
from dask_labelqc.storage.ledger import FOLDER, Ledger
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["IMAGE_ID", "FinishPlan", "RecordedImages"]

IMAGE, SPATIAL = "image", ("z", "y", "x")
IMAGE_ID = "image_id"
READ_BYTES = 12
"""That a task holds for each byte of records that it reads: unpacked, as candidates, as keys."""


@dataclass(frozen=True)
class FinishPlan:
    """What finishing needs, as far as that is known before the records are looked at.

    Attributes
    ----------
    worker_bytes
        Memory that each thread of a worker needs.
    process_bytes
        Memory of a worker process that does nothing yet.
    """

    worker_bytes: int = READ_BYTES * PART_BYTES
    process_bytes: int = PROCESS_BYTES

    def check(self) -> None:
        """Nothing is known to be wrong yet."""


@dataclass(frozen=True)
class RecordedImages(Inputs):
    """Images of one size whose records an inspector has put down; see `inputs.Inputs`.

    The groups are runs of images of the output. Records are of any images, in any order, so the
    stages before the last run over parts, which are some records each.
    """

    ledger: Ledger
    params: Parameters
    plan: Plan
    bound: float
    parts: Sequence[range]
    part_bytes: int
    digest: str
    catalog: Catalog | None = field(repr=False, compare=False)

    item: ClassVar[str] = "image"
    labels: ClassVar[frozenset[str]] = frozenset()
    there_before: ClassVar[frozenset[str]] = frozenset({FOLDER})

    @classmethod
    def of(
        cls, ledger: Ledger, params: Parameters, plan: Plan, bound: float, catalog: Catalog
    ) -> Self:
        """Cut the records into parts."""
        parts = cut_into_parts(catalog)
        largest = max(sum(catalog.num_bytes[e] for e in part) for part in parts)
        return cls(ledger, params, plan, bound, parts, largest, catalog.digest, catalog)

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to workers: not what is known of every image."""
        return vars(self) | {"catalog": None, "parts": ()}

    @property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        return {}

    @property
    def num_groups(self) -> int:
        return self.plan.num_groups

    @property
    def groups(self) -> Shape:
        return self.plan.group

    @property
    def num_lists(self) -> int:
        return len(self.parts)

    @property
    def paints_alone(self) -> bool:
        return True

    def check_size(self) -> None:
        num_images, *spatial = self.params.shape
        check_shape((num_images, self.params.num_classes, *spatial), self.num_groups)

    def smaller(self) -> Iterator[Self]:
        yield self

    def worker_bytes(self) -> int:
        group = Extent((0,) * len(self.plan.group), self.plan.group).size
        return max(READ_BYTES * self.part_bytes, 4 * group)

    def too_large(self) -> str:
        return f"records of {format_bytes(self.part_bytes)}, which are read together: these"

    def fingerprint(self) -> dict[str, Any]:
        return {**self.params.attributes(), "records": self.digest}

    def outputs(self) -> list[DenseOutput]:
        params, dims = self.params, (IMAGE, *SPATIAL[4 - len(self.params.shape) :])
        return [
            DenseOutput(o.name, params.shape, self.plan.group, o.dtype_for(params), o.fill, dims)
            for o in params.outputs
            if o.over == "pixel"
        ]

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return group_stamps(name, array, range(array.ndim), self.plan)

    def carried(self) -> Carried:
        assert self.catalog is not None
        ids = xr.Variable((IMAGE,), np.array(self.catalog.ids, object))
        return Carried(xr.Dataset(coords={IMAGE_ID: ids}), {"coordinates": IMAGE_ID})

    def position(self, number: int) -> Shape:
        return tuple(int(i) for i in np.unravel_index(number, self.plan.grid))

    def extent(self, number: int) -> Extent:
        """Return the extent of a group."""
        return self.plan.group_extent(self.position(number))

    def items(self, number: int) -> tuple[int, int]:
        images = self.extent(number).images
        return images.start, images.stop

    def paint(self, how: SortedIssues, number: int, record: Mapping[str, AnyArray]) -> Painted:
        params, extent = self.params, self.extent(number)
        found = list(how.of_group(number))
        nothing = np.zeros(0, np.int64)
        position, given, predicted = (
            np.concatenate([columns[i] for columns in found]) if found else nothing
            for i in range(3)
        )
        issues = Issues(extent, position, given, predicted, params.num_classes)
        dense = contributed(params, "issues", "pixel", issues)
        images = contributed(params, "issues", "image", issues)
        return Painted(
            dense, images, contributed(params, "issues", "dataset", issues)["issue_matrix"]
        )

    def find(self, stages: JobStages) -> Results:
        params, catalog = self.params, self.catalog
        assert catalog is not None
        num_images, *spatial = params.shape
        size = int(np.prod(spatial))
        offsets = np.arange(num_images + 1, dtype=np.int64) * size
        put_down_parts(stages.lists, catalog, self.parts, offsets)
        images = ImageParts(params, num_images)

        def see(found: PartFound) -> None:
            for name, values in found.images.items():
                images.arrays[name][found.numbers] = values

        reader = PartReader(self.ledger, params, num_images * size)
        parts = Parts(stages, reader, len(self.parts), self.bound, see)
        selection = select(parts, PixelMethod(params))
        edges = np.array([self.items(g)[0] for g in range(self.num_groups)] + [num_images])
        matrix: Any = 0
        for painted in stages.paint(parts.sort_issues(selection.search, edges * size)):
            for number, found in painted.parts.items():
                images.add(slice(*self.items(number)), found)
            matrix = matrix + painted.total
        sums = {**selection.total.sums, "thresholds": selection.thresholds, "issue_matrix": matrix}
        dims = {"image": (IMAGE,), "class": CLASS_DIMS[:1], "pair": CLASS_DIMS[1:]}
        small = [
            (output.name, dims[output.over], finished(output, (images.arrays, sums)))
            for output in params.outputs
            if output.over != "pixel"
        ]
        facts = {"num_issues": int(matrix.sum()), "num_selected": selection.number}
        return Results(small, {**params.attributes(), **params.naming(), **facts})
