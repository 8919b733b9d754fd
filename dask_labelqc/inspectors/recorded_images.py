"""The records of an inspector as the inputs of a job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes

from dask_labelqc.extent import Extent
from dask_labelqc.images import IMAGE, IMAGE_ID, PIXEL
from dask_labelqc.inspectors.catalog import Catalog
from dask_labelqc.inspectors.parts import (
    PART_BYTES,
    PartFound,
    PartReader,
    RecordParts,
    SortedIssues,
    cut_into_parts,
    put_down_parts,
)
from dask_labelqc.method.issues import Issues
from dask_labelqc.method.outputs import ImageParts, Parts, contributed
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.pipeline.fit import check_shape
from dask_labelqc.pipeline.image_results import Sums, found_images
from dask_labelqc.pipeline.inputs import PROCESS_BYTES, DenseOutput, Inputs, Painted, Results
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, stamps_by
from dask_labelqc.pipeline.tasks import PaintedGroups
from dask_labelqc.plan import GROUP_BYTES, GROUP_PIXELS, plan_blocks
from dask_labelqc.storage.coordinates import SPATIAL, Carried
from dask_labelqc.storage.ledger import FOLDER, Ledger
from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = ["FinishPlan", "RecordedImages"]

STORED_PIXELS = 2**20
"""In a chunk of the flat axis, as predictions are written there."""
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
    """Images whose records an inspector has put down; see `inputs.Inputs`.

    The groups are chunks of the outputs. Records are of any images, in any order, so the stages
    before the last run over parts, which are some records each.

    Attributes
    ----------
    ledger
        Where the records are.
    params
        Of the audit.
    bound
        Up to which score pixels that agree are on record, besides the usual bound.
    chunk
        Of the outputs of pixels; whole images where these have one size.
    parts, part_bytes
        Which records are read together, and the most that these are.
    catalog
        What is on record; None in tasks.
    """

    ledger: Ledger
    params: Parameters
    bound: float
    chunk: Shape
    parts: Sequence[range]
    part_bytes: int
    catalog: Catalog | None = field(repr=False, compare=False)

    item: ClassVar[str] = "image"
    labels: ClassVar[frozenset[str]] = frozenset()
    there_before: ClassVar[frozenset[str]] = frozenset({FOLDER})

    @classmethod
    def of(cls, ledger: Ledger, params: Parameters, bound: float, catalog: Catalog) -> Self:
        """Cut the records into parts."""
        parts = cut_into_parts(catalog)
        largest = max(sum(catalog.num_bytes[e] for e in part) for part in parts)
        return cls(ledger, params, bound, _chunk(params), parts, largest, catalog)

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to workers: not what is known of every image."""
        return vars(self) | {"catalog": None, "parts": ()}

    @property
    def _known(self) -> Catalog:
        assert self.catalog is not None
        return self.catalog

    @property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        return {}

    @property
    def num_groups(self) -> int:
        return -(-self.params.shape[0] // self.chunk[0])

    @property
    def groups(self) -> Shape:
        return self.chunk

    @property
    def num_lists(self) -> int:
        return len(self.parts)

    @property
    def paints_alone(self) -> bool:
        return True

    @property
    def edges(self) -> Ints:
        """int64 (num_groups + 1,): the pixels of the flat axis at which groups begin."""
        total = math.prod(self.params.shape)
        return np.minimum(np.arange(self.num_groups + 1) * math.prod(self.chunk), total)

    def check_size(self) -> None:
        shape = (self.params.num_images, self.params.num_classes, *self.params.shape)
        check_shape(shape, self.num_groups)

    def smaller(self) -> Iterator[Self]:
        yield self

    def worker_bytes(self) -> int:
        return max(READ_BYTES * self.part_bytes, 4 * math.prod(self.chunk))

    def too_large(self) -> str:
        return f"records of {format_bytes(self.part_bytes)}, which are read together: these"

    def fingerprint(self) -> dict[str, Any]:
        return {**self.params.attributes(), "records": self._known.digest}

    def outputs(self) -> list[DenseOutput]:
        params, ndim = self.params, len(self.params.shape) - 1
        dims = (PIXEL,) if params.ragged else (IMAGE, *SPATIAL[len(SPATIAL) - ndim :])
        return [
            DenseOutput(o.name, params.shape, self.chunk, o.dtype_for(params), o.fill, dims)
            for o in params.outputs
            if o.over == "pixel"
        ]

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return stamps_by(name, array, self.num_groups, lambda position: position[:1])

    def carried(self) -> Carried:
        columns = self._known.table.variables()
        kept = columns if self.params.ragged else {IMAGE_ID: columns[IMAGE_ID]}
        return Carried(xr.Dataset(coords=kept), {})

    def position(self, number: int) -> Shape:
        return (number, *(0,) * (len(self.chunk) - 1))

    def items(self, number: int) -> tuple[int, int]:
        if not self.params.ragged:
            first = number * self.chunk[0]
            return first, min(first + self.chunk[0], self.params.shape[0])
        offsets, (start, stop) = self._known.table.offsets, self.edges[number : number + 2]
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        return first, int(np.searchsorted(offsets, stop, side="left"))

    def paint(self, how: SortedIssues, number: int, record: Mapping[str, AnyArray]) -> Painted:
        params, (start, stop) = self.params, self.edges[number : number + 2].tolist()
        nothing = np.zeros(0, np.int64)
        found = list(zip(*how.of_group(number), strict=True)) or [(nothing,)] * 3
        position, given, predicted = (np.concatenate(columns) for columns in found)
        run = Extent((start,), (stop,))  # of the flat axis
        issues = Issues(run, position, given, predicted, params.num_classes)
        dense = {
            name: values.reshape(-1, *params.shape[1:])
            for name, values in contributed(params, "issues", "pixel", issues).items()
        }
        return Painted(dense, None, Sums(contributed(params, "issues", "dataset", issues)))

    def find(self, stages: JobStages) -> Results:
        params, catalog = self.params, self._known
        put_down_parts(stages.lists, catalog, self.parts, catalog.table.offsets)
        images = ImageParts(params, params.num_images)

        def see(found: PartFound) -> None:
            for name, values in found.images.items():
                images.arrays[name][found.numbers] = values

        def together(parts: Iterable[tuple[int, Parts]]) -> ImageParts:
            for _ in parts:  # which paint; what is known of images the parts have told
                pass
            return images

        regions = RecordParts(
            stages, PartReader(self.ledger, params), len(self.parts), self.bound, see
        )

        def paint(search: Search) -> Iterator[PaintedGroups]:
            return stages.paint(regions.sort_issues(search, self.edges))

        named = " ".join(catalog.table.variables())
        attributes = {"coordinates": named} if params.ragged else {}
        return found_images(params, regions, paint, together, IMAGE, attributes)


def _chunk(params: Parameters) -> Shape:
    """Return the chunks that the job would write of predictions, of which each image is a chunk.

    On a flat axis such predictions lie in chunks of their own size.
    """
    if params.ragged is None:
        chunk = (1, *params.shape[1:])
        return plan_blocks(params.shape, chunk, params.pixel_bytes).group
    pixels = min(GROUP_BYTES // params.pixel_bytes, GROUP_PIXELS) // STORED_PIXELS * STORED_PIXELS
    return (min(max(pixels, STORED_PIXELS), params.shape[0]),)
