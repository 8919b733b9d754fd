"""Images of every size, as the job takes them: groups are runs of one flat axis of pixels.

Where the pixels are stored on such an axis, groups are whole chunks of it, so that each is read
once, and the images at their borders are cut: their parts add up. Images that are read whole are
not cut. The outputs of pixels have as many chunks as there are groups, all of one size; where that
is not the size of the groups, a chunk is painted from the records of all groups that it touches.
"""

from __future__ import annotations

import hashlib
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes

from dask_labelqc.extent import Gaps
from dask_labelqc.images import IMAGE, IMAGE_ID, PIXEL, ImageTable, Span
from dask_labelqc.method.issues import find_issues
from dask_labelqc.method.outputs import OUTPUTS, ImageParts, Parts, contributed, empty_pixels
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.method.summarize import Candidates, RegionSummary, Statistics, summarize
from dask_labelqc.pipeline.fit import check_shape
from dask_labelqc.pipeline.image_results import Sums, found_images
from dask_labelqc.pipeline.image_source import ImageSource
from dask_labelqc.pipeline.images import check_group_bytes
from dask_labelqc.pipeline.inputs import (
    PROCESS_BYTES,
    DenseOutput,
    Found,
    Inputs,
    Painted,
    Part,
    Results,
)
from dask_labelqc.pipeline.plans import RaggedPlan
from dask_labelqc.pipeline.recorded import candidates_of, images_of, statistics_of, to_arrays
from dask_labelqc.pipeline.runs import copy_part, touched, without
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, stamps_by
from dask_labelqc.plan import BLOCK_BYTES, GROUP_BYTES, GROUP_PIXELS
from dask_labelqc.storage.coordinates import SPATIAL, Carried
from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = ["RaggedInputs"]

ROWS, DENSE = "rows_", "dense_"
"""Of a record: what its images are, and the outputs of their pixels that are known."""


@dataclass(frozen=True)
class Painting:
    """What the last stage has to know: which pixels are selected, and which groups have none."""

    search: Search
    dropped: frozenset[int]


@dataclass(frozen=True)
class RaggedInputs(Inputs):
    """Images of every size, what is asked of them, and how they are cut; see `inputs.Inputs`.

    Attributes
    ----------
    source
        Where they are.
    group_pixels, block_pixels
        Of a group and of a block, about.
    edges
        int64 (num_groups + 1,): the pixels of the flat axis at which groups begin.
    images
        int64 (num_groups, 2): the first image of each group, and the one after its last.
    table_hash
        Of the table.
    regular
        (N, *spatial) where the outputs are to be those of images of one size.
    """

    source: ImageSource
    params: Parameters
    group_pixels: int
    block_pixels: int
    edges: Ints
    images: Ints
    table_hash: str
    regular: Shape | None = None

    item: ClassVar[str] = "image"
    labels: ClassVar[frozenset[str]] = frozenset({"labels"})

    @classmethod
    def of(
        cls,
        source: ImageSource,
        options: Options,
        *,
        group_bytes: int = GROUP_BYTES,
        regular: bool = False,
    ) -> RaggedInputs:
        """Check what is asked of a source of images, and cut these into groups.

        Parameters
        ----------
        source, options
            The images, and what is asked.
        group_bytes
            Predictions of a group, about.
        regular
            Write images of one size as those, if they are.
        """
        check_group_bytes(group_bytes)
        params = Parameters.of_table(
            options,
            source.table,
            source.num_classes,
            source.labels_dtype,
            source.dtype,
            scale=source.scale,
            class_names=source.class_names,
            fill_labels=source.fill_labels,
        )
        pixels = max(min(group_bytes // params.pixel_bytes, GROUP_PIXELS), 1)
        shape = source.table.regular if regular else None
        hashed = _hashed(source.table)
        nothing = np.zeros(0, np.int64)
        return cls(source, params, pixels, 1, nothing, nothing, hashed, shape)._cut(pixels)

    def _cut(self, pixels: int) -> Self:
        """Return the same with groups of about so many pixels."""
        table = self.source.table
        block = max(BLOCK_BYTES // self.params.pixel_bytes, 1)
        if self._chunk:
            pixels = max(pixels // self._chunk, 1) * self._chunk
            block = max(min(block, pixels) // self._chunk, 1) * self._chunk
            runs = np.append(np.arange(0, table.num_pixels, pixels), table.num_pixels)
            edges: Ints = runs.astype(np.int64)
            first: Ints = np.searchsorted(table.offsets, edges[:-1], side="right") - 1
            stop: Ints = np.searchsorted(table.offsets, edges[1:], side="left")
        else:
            cuts = _even_cuts(self.regular, pixels) if self.regular else table.cuts(pixels)
            edges, first, stop = table.offsets[cuts], cuts[:-1], cuts[1:]
        images = np.stack([first, stop], axis=1)
        return replace(self, group_pixels=pixels, block_pixels=block, edges=edges, images=images)

    @property
    def _chunk(self) -> int:
        """Pixels at whose multiples groups are cut, whatever image that is in; 0 if they are not.

        Cells of a downsampled grid stay whole, and with them images.
        """
        whole = self.params.downsample > 1 or self.regular
        return 0 if whole else self.source.chunk

    @property
    def arrays(self) -> Mapping[str, zarr.Array[Any]]:
        return self.source.arrays

    @property
    def places(self) -> Mapping[str, str]:
        return self.source.places

    @property
    def num_groups(self) -> int:
        return len(self.images)

    @property
    def groups(self) -> Shape:
        return (self.group_pixels,)

    @property
    def ahead(self) -> int:
        return self.source.ahead

    @property
    def paints_all(self) -> bool:
        return True

    # Before any work

    def check_size(self) -> None:
        shape = (self.params.num_images, self.params.num_classes, *self.params.shape)
        check_shape(shape, self.num_groups)

    def smaller(self) -> Iterator[Self]:
        yield self
        pixels, last = self.group_pixels, self
        while pixels > 1:
            pixels //= 2
            smaller = self._cut(pixels)
            if smaller.num_groups != last.num_groups:
                yield smaller
            last = smaller

    @property
    def _largest(self) -> tuple[int, int]:
        """Pixels of the largest block and of the largest group."""
        group = int(np.diff(self.edges).max())
        if self._chunk:
            return min(self.block_pixels, group), group
        image = int(np.diff(self.source.table.offsets).max())
        return min(max(self.block_pixels, image), group), group

    def worker_bytes(self) -> int:
        """Return what one thread of a worker holds; see `images.worker_bytes`."""
        block, group = self._largest
        dense = sum(output.dtype.itemsize for output in self.outputs())
        pixel = self.source.labels_dtype.itemsize + 2 * dense + 12
        return (8 + 2 * self.ahead) * block * self.params.pixel_bytes + group * pixel

    def too_large(self) -> str:
        block, _ = self._largest
        stored = format_bytes(block * self.params.pixel_bytes)
        return f"blocks of pred_probs of {block} pixels ({stored}): they"

    def plan(self) -> RaggedPlan:
        """Return what the job will read and need."""
        params, table = self.params, self.source.table
        by_size = np.argsort(np.diff(table.offsets), kind="stable")
        smallest, largest = (tuple(table.shapes[i].tolist()) for i in by_size[[0, -1]])
        return RaggedPlan(
            num_images=table.num_images,
            num_pixels=table.num_pixels,
            num_classes=params.num_classes,
            smallest=smallest,
            largest=largest,
            dtype=str(params.dtype),
            group=self.group_pixels,
            num_groups=self.num_groups,
            bytes_to_read=table.num_pixels * params.pixel_bytes,
            worker_bytes=self.worker_bytes(),
            process_bytes=PROCESS_BYTES,
            class_names=tuple(params.naming().get("class_names", ())),
        )

    def fingerprint(self) -> dict[str, Any]:
        number = self.source.table.num_images
        return {
            **self.params.attributes(),
            **self.source.fingerprint(),
            "table": f"{number} image{'s' * (number > 1)} ({self.table_hash})",
            "regular": self.regular,
            **{o.name: self.params.wants(o.name) for o in OUTPUTS if o.optional},
        }

    def stamps(self, name: str) -> Stamps | None:
        return self.source.stamps(name, self.edges, self.images)

    def outputs(self) -> list[DenseOutput]:
        params = self.params
        shape, chunks = self.regular or params.shape, self._chunks
        return [
            DenseOutput(o.name, shape, chunks, o.dtype_for(params), o.fill, self._dims)
            for o in params.outputs
            if o.over == "pixel"
        ]

    @property
    def _dims(self) -> tuple[str, ...]:
        if self.regular is None:
            return (PIXEL,)
        return (IMAGE, *SPATIAL[len(SPATIAL) + 1 - len(self.regular) :])

    @property
    def _chunks(self) -> Shape:
        if self.regular is None:
            return (self._length,)
        first, stop = self.items(0)
        return (stop - first, *self.regular[1:])

    @property
    def _length(self) -> int:
        """Pixels of a chunk of an output."""
        if self._chunk:
            return min(self.group_pixels, self.params.shape[0])
        return -(-self.params.shape[0] // self.num_groups)

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return stamps_by(name, array, self.num_groups, lambda position: position[:1])

    def carried(self) -> Carried:
        rows = self.source.table.variables()
        dim, ids, _ = rows[IMAGE_ID]
        rows[IMAGE_ID] = (dim, ids.astype(object), {})  # of NumPy's text Zarr 3 has no standard
        kept = {IMAGE_ID: rows[IMAGE_ID]} if self.regular else rows
        found = xr.Dataset(coords=kept).assign_coords(self.source.coordinates().coords)
        return Carried(found, {})

    # Of a group

    def items(self, number: int) -> tuple[int, int]:
        first, stop = self.images[number].tolist()
        return first, stop

    def beside(self, number: int) -> range:
        first, stop = self.items(number)
        beside = np.flatnonzero((self.images[:, 0] < stop) & (self.images[:, 1] > first))
        return range(int(beside[0]), int(beside[-1]) + 1)

    def position(self, number: int) -> Shape:
        return (number,) if self.regular is None else (number, *(0,) * (len(self.regular) - 1))

    def _region(self, number: int, items: tuple[int, int]) -> Span:
        """Return the pixels that a group has of some of its images."""
        span = self.source.span(*items)
        first, stop = span.along
        a, b = self.edges[number : number + 2].tolist()
        return span.run(max(first, a), min(stop, b))

    def _blocks(self, region: Span) -> Iterator[Span]:
        """Cut a region into blocks: at chunks of the flat axis, or between images."""
        if not self._chunk:
            yield from region.parts(self.block_pixels)
            return
        start, stop = region.along
        while start < stop:
            end = min((start // self.block_pixels + 1) * self.block_pixels, stop)
            yield region.run(start, end)
            start = end

    def scan(self, how: float | None, part: Part, left_out: Sequence[int] = ()) -> Found:
        region = self._region(part.number, part.items)
        runs = [region.of_images(*run) for run in without(part.items, left_out)]
        blank = empty_pixels(self.params, "block", region.shape, blank=True) if left_out else None
        with _Reads(self, runs) as read:
            summary = summarize(region, read.blocks, read, self.params, how, blank, read.gaps)
        num_bytes = sum(run.size for run in runs) * self.params.pixel_bytes
        return Found(summary.statistics, summary, {}, num_bytes, read.seconds, read.labels)

    def labels_hash(self, number: int) -> int:
        labels = self.source.read_labels(self._region(number, self.items(number)))
        return zlib.crc32(np.ascontiguousarray(labels).data)

    def to_record(self, kept: RegionSummary) -> dict[str, AnyArray]:
        span = kept.extent
        assert isinstance(span, Span)
        dense = {DENSE + name: values for name, values in kept.dense.items()}
        return to_arrays(kept) | _rows(span) | dense

    def total(self, record: Mapping[str, AnyArray]) -> Statistics:
        return statistics_of(record)

    def kept(self, number: int, record: Mapping[str, AnyArray]) -> Candidates:
        return candidates_of(_span_of(record), record, self.params)

    def needed(self, how: Painting, number: int) -> Sequence[int]:
        """Return the groups whose records tell what is in a chunk of the outputs, and its own."""
        first, stop = self._chunk_of(number)
        groups = range(*touched(self.edges, first, stop)) if first < stop else range(0)
        return sorted({number, *groups} - how.dropped)

    def _chunk_of(self, number: int) -> tuple[int, int]:
        """Return which pixels of the flat axis are those of a chunk of the outputs."""
        if self.regular is not None:
            first, stop = self.edges[number : number + 2].tolist()
            return first, stop
        size, length = self.params.shape[0], self._length
        return min(number * length, size), min((number + 1) * length, size)

    def paint_from(
        self, how: Painting, number: int, records: Mapping[int, Mapping[str, AnyArray]]
    ) -> Painted:
        params, chunk = self.params, self._chunk_of(number)
        dense = {
            output.name: np.full(chunk[1] - chunk[0], output.fill_value, output.dtype)
            for output in self.outputs()
        }
        images: Parts = {}
        sums = Sums({})
        for group, record in records.items():
            issues = find_issues(self.kept(group, record), how.search, params)
            assert isinstance(issues.extent, Span)
            known = {n.removeprefix(DENSE): v for n, v in record.items() if n.startswith(DENSE)}
            start, _ = issues.extent.along
            for name, values in (known | contributed(params, "issues", "pixel", issues)).items():
                copy_part(values, start, dense[name], chunk)
            if group == number:
                images = {**images_of(record), **contributed(params, "issues", "image", issues)}
                sums = Sums(contributed(params, "issues", "dataset", issues))
        if self.regular is not None:
            dense = {n: values.reshape(-1, *self.regular[1:]) for n, values in dense.items()}
        return Painted(dense, images, sums)

    # Of all

    def find(self, stages: JobStages) -> Results:
        def paint(search: Search) -> Iterator[Any]:
            dropped = frozenset(range(self.num_groups)) - frozenset(stages.groups)
            return stages.paint(Painting(search, dropped))

        names = " ".join(map(str, self.carried().coordinates.coords))
        attributes = {} if self.regular else {"coordinates": names}
        return found_images(self.params, stages, paint, self._together, IMAGE, attributes)

    def _together(self, parts: Iterable[tuple[int, Parts]]) -> ImageParts:
        """Put the images together: those that are cut in the order of their groups."""
        found = ImageParts(self.params, self.params.num_images)
        for number, of_group in sorted(parts, key=lambda part: part[0]):
            if of_group:
                found.add(slice(*self.items(number)), of_group)
        return found


class _Reads:
    """Reads the blocks of runs of a group, and knows how long that took, and a hash of labels."""

    def __init__(self, inputs: RaggedInputs, runs: Sequence[Span]) -> None:
        self.seconds, self.labels = 0.0, 0
        self._inputs, self._runs = inputs, iter(runs)
        self._opened = ExitStack()
        self._stop = -1
        self.blocks = (block for run in runs for block in inputs._blocks(run))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def __call__(self, block: Span) -> tuple[AnyArray, AnyArray]:
        begun = time.monotonic()
        if block.along[0] >= self._stop:  # it is of the next run
            self._opened.close()
            run = next(self._runs)
            reading = self._inputs.source.reading(run, self._inputs._blocks(run))
            self._read, self._stop = self._opened.enter_context(reading), run.along[1]
        labels, stored = self._read.read(block)
        self.seconds += time.monotonic() - begun
        self.labels = zlib.crc32(np.ascontiguousarray(labels).data, self.labels)
        return labels, stored

    def gaps(self, block: Span) -> Gaps:
        return self._read.gaps(block)


def _hashed(table: ImageTable) -> str:
    found = hashlib.sha256(table.shapes.astype("<i8").tobytes())
    found.update("\n".join(table.ids.tolist()).encode())
    return found.hexdigest()[:16]


def _even_cuts(shape: Shape, pixels: int) -> Ints:
    """Cut images of one size into runs of as many each."""
    each = max(pixels // math.prod(shape[1:]), 1)
    return np.append(np.arange(0, shape[0], each), shape[0])


def _rows(span: Span) -> dict[str, AnyArray]:
    """Return the images of a record, so that nobody has to ask where they are."""
    return {
        ROWS + "shapes": span.shapes,
        ROWS + "place": np.array([span.index[0], span.offsets[0], span.start, span.stop]),
    }


def _span_of(record: Mapping[str, AnyArray]) -> Span:
    first, offset, start, stop = record[ROWS + "place"].tolist()
    return replace(Span.of(first, record[ROWS + "shapes"], offset), start=start, stop=stop)
