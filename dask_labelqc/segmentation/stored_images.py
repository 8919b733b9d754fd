"""Images of every size that are stored on one flat axis of pixels, with a table beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent, Gaps
from dask_labelqc.graph.objects import from_positions
from dask_labelqc.images import ImageTable, Span, is_ragged, span_of_rows
from dask_labelqc.limits import check_blocks
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.summarize import Candidates, RegionSummary, summarize
from dask_labelqc.plan import BLOCK_BYTES, GROUP_BYTES
from dask_labelqc.segmentation.lazy import lazy_audit
from dask_labelqc.storage.alignment import ClassDim
from dask_labelqc.storage.arrays import BlockReader, location, siblings
from dask_labelqc.storage.class_names import class_names
from dask_labelqc.storage.containers import labels_fill, stored_scale
from dask_labelqc.storage.coordinates import class_labels, with_classes
from dask_labelqc.typing import AnyArray, Ints, Shape

__all__ = ["FlatImages", "LazyImages", "flat_extent", "reading_spans", "table_of"]

LEAST_GROUP_BYTES = 64 * 2**20
"""Predictions that are worth a task of a lazy graph."""
LAZY_GROUPS = 32
"""Into how many tasks the reading is cut at least, as long as they are worth it."""


def table_of(labels: zarr.Array[Any]) -> zarr.Group | None:
    """Return the group of labels if they are flat, with a table of images beside them."""
    group = siblings(labels) if labels.ndim == 1 else None
    return group if group is not None and is_ragged(group) else None


@dataclass(frozen=True)
class FlatImages:
    """Flat labels and predictions, and where the table of their images is."""

    reader: BlockReader
    group: zarr.Group

    @classmethod
    def of(
        cls, labels: zarr.Array[Any], pred_probs: zarr.Array[Any], class_dim: ClassDim
    ) -> FlatImages:
        """Take both for one scene of one dimension."""
        group = table_of(labels)
        assert group is not None
        return cls(BlockReader.of(labels, pred_probs, image_dim=False, class_dim=class_dim), group)

    def table(self) -> ImageTable:
        """Read the table.

        Raises
        ------
        InputError
            The arrays have not as many pixels as its images.
        """
        table, reader = ImageTable.read(self.group), self.reader
        for name, array, shape in (
            ("labels", reader.labels, reader.labels_shape),
            ("pred_probs", reader.pred_probs, reader.shape),
        ):
            if shape[-1] != table.num_pixels:
                raise InputError(
                    f"{name}: {shape[-1]} pixels are stored at {location(array)}, and the "
                    f"{table.num_images} images of the table beside the labels have "
                    f"{table.num_pixels}; was the store written to the end?"
                )
        return table

    def facts(self) -> dict[str, Any]:
        """Return what the arrays' attributes say, by the names that `Parameters` has for it."""
        labels, pred_probs = self.reader.labels, self.reader.pred_probs
        return {
            "scale": stored_scale(pred_probs),
            "fill_labels": labels_fill(labels),
            "class_names": class_names(labels, pred_probs),
        }

    def coordinates(self) -> xr.Dataset:
        """Return the coordinates of the classes."""
        classes = class_labels(self.reader.pred_probs, self.reader.lineup.class_dim)
        return with_classes(xr.Dataset(), classes)


def flat_extent(span: Span) -> Extent:
    """Return where the pixels of consecutive images are in the one scene that all are stored as."""
    start, stop = span.along
    return Extent((0, start), (1, stop))


@contextmanager
def reading_spans(
    reader: BlockReader, span: Span, blocks: Iterable[Span]
) -> Iterator[tuple[Callable[[Span], tuple[AnyArray, AnyArray]], Callable[[Span], Gaps]]]:
    """Yield what reads the blocks of a span in their order, and what tells the gaps of one."""
    with reader.for_region(flat_extent(span), map(flat_extent, blocks)) as reads:

        def read(block: Span) -> tuple[AnyArray, AnyArray]:
            labels, stored = reads(flat_extent(block))
            return labels[0], stored[0]

        def gaps(block: Span) -> Gaps:
            return _of_span(span, reads.gaps(flat_extent(block)))

        yield read, gaps


def _of_span(span: Span, gaps: Gaps) -> Gaps:
    """Return the same gaps as those of images; of those beyond the span only what it has."""

    def images(region: Any) -> Span:
        first, last = span.along
        return span.run(max(region.start[1], first), min(region.stop[1], last))

    return replace(
        gaps,
        labels=tuple(images(region) for region in gaps.labels),
        pred_probs=tuple(replace(gap, extent=images(gap.extent)) for gap in gaps.pred_probs),
    )


@dataclass(frozen=True)
class LazyImages:
    """Images of every size in Zarr, read when something is computed."""

    source: FlatImages
    table: ImageTable
    params: Parameters

    @classmethod
    def of(
        cls,
        labels: zarr.Array[Any],
        pred_probs: zarr.Array[Any],
        options: Options,
        class_dim: ClassDim,
    ) -> LazyImages:
        """Check what is asked of flat labels and predictions."""
        source = FlatImages.of(labels, pred_probs, class_dim)
        table, num_classes = source.table(), source.reader.shape[1]
        dtypes = labels.dtype, pred_probs.dtype
        params = Parameters.of_table(options, table, num_classes, *dtypes, **source.facts())
        return cls(source, table, params)

    @property
    def like(self) -> LazyImages:
        """What results look like: pixels on one axis, as the labels have them."""
        return self

    def per_pixel(self, values: da.Array, name: str) -> da.Array:
        """Return values (pixels,) as they are."""
        return values

    def per_image(self, values: da.Array, name: str) -> da.Array:
        """Return values (N,) as they are."""
        return values

    def audit(self, batch_size: int | None) -> dict[str, da.Array]:
        """Build the graph, a task for each run of whole images; return the outputs by name."""
        params, table = self.params, self.table
        if batch_size is not None:
            each = positive_integer("batch_size", batch_size)
            cuts = np.append(np.arange(0, table.num_images, each), table.num_images)
        else:
            share = table.num_pixels * params.pixel_bytes // LAZY_GROUPS
            wanted = min(max(share, LEAST_GROUP_BYTES), GROUP_BYTES)
            cuts = table.cuts(wanted // params.pixel_bytes)
        pixels = np.diff(table.offsets[cuts])
        check_blocks("labels", (len(pixels),), (1,))
        scan = partial(_scan, self.source, params, cuts)
        summaries = from_positions(scan, (len(pixels),))
        chunks = (tuple(pixels.tolist()),)
        images = tuple(np.diff(cuts).tolist())
        again = partial(_scan_again, self.source, params)
        return lazy_audit(summaries, chunks, params, again, images)


def _scan(source: FlatImages, params: Parameters, cuts: Ints, block_id: Shape) -> RegionSummary:
    first, stop = cuts[block_id[0] : block_id[0] + 2].tolist()
    return _summarized(source, params, span_of_rows(source.group, first, stop))


def _scan_again(
    source: FlatImages, params: Parameters, bound: float, candidates: Candidates
) -> RegionSummary:
    region = candidates.extent.refined(params.factors)
    assert isinstance(region, Span)
    return _summarized(source, params, region, bound)


def _summarized(
    source: FlatImages, params: Parameters, region: Span, bound: float | None = None
) -> RegionSummary:
    blocks = list(region.parts(BLOCK_BYTES // params.pixel_bytes))
    with reading_spans(source.reader, region, blocks) as (read, gaps):
        return summarize(region, blocks, read, params, bound, find_gaps=gaps)
