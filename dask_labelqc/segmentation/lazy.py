"""The outputs of an audit of images as lazy arrays of one graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, TypeAlias

import dask.array as da

from dask_labelqc.engine.graph import LazyGraph
from dask_labelqc.graph.objects import along_images, map_objects, reduce_objects, to_blocks
from dask_labelqc.method.outputs import (
    Output,
    Parts,
    combined_parts,
    contributed,
    finished,
    summed_parts,
)
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.sequence import Selection, select
from dask_labelqc.method.summarize import Candidates, RegionSummary
from dask_labelqc.typing import AnyArray

__all__ = ["Again", "lazy_audit"]

Again: TypeAlias = Callable[[float, Candidates], RegionSummary]
"""Summarizes the region of candidates again, with another bound of their score."""


def lazy_audit(
    summaries: da.Array,
    chunks: tuple[tuple[int, ...], ...],
    params: Parameters,
    again: Again,
    images: tuple[int, ...] | None = None,
) -> dict[str, da.Array]:
    """Build the graph on top of the summaries of all regions; return the outputs by name.

    Parameters
    ----------
    summaries
        Array of `RegionSummary` objects.
    chunks
        Extents of the regions, (N, *spatial).
    params
        Of the audit.
    again
        How to summarize a region again, for the case that needs it.
    images
        How many images regions have, of images of every size, whose pixels are on one axis.
    """
    audit = _LazyAudit(summaries, chunks, params, again, images or chunks[0])
    return {output.name: audit.output(output) for output in params.outputs}


class _LazyAudit:
    """What the outputs are made of, each of which is in the graph once.

    No output is made of another one: `dask.compute` of a Dataset that holds both a layer of the
    graph and what depends on it loses the first ("Missing dependency").
    """

    def __init__(
        self,
        summaries: da.Array,
        chunks: tuple[tuple[int, ...], ...],
        params: Parameters,
        again: Again,
        images: tuple[int, ...],
    ) -> None:
        self._summaries, self._chunks, self._params = summaries, chunks, params
        self._image_chunks = (images,)
        self._method = PixelMethod(params)
        self._graph = LazyGraph(lambda _: summaries, again)
        self._together = partial(combined_parts, params)
        if any(output.of("issues", "selection") for output in params.outputs):
            self._selection: Selection | None = select(self._graph, self._method)
            self._total = self._selection.total
        else:
            self._selection = None
            self._total = self._graph.scan(self._method.first, self._method.warn)

    def output(self, output: Output) -> da.Array:
        """Return an output as a lazy array."""
        dtype = output.dtype_for(self._params)
        if output.over == "pixel":
            if output.of("issues"):
                (part,) = output.parts
                assert part.contribute is not None
                return to_blocks(part.contribute, self._issues, self._chunks, dtype)
            dense = partial(_dense, output.name)
            return to_blocks(dense, self._summaries, self._chunks, dtype)
        if output.over == "image":
            return to_blocks(_itself, self._finished(output), self._image_chunks, dtype)
        shape = output.shape(self._params)
        whole = tuple((n,) for n in shape)
        return to_blocks(_itself, self._finished(output), whole, dtype, new_axes=len(shape))

    def _finished(self, output: Output) -> da.Array:
        """Return an output of images, or of the dataset, as objects.

        What is made of blocks alone has the sums as well, of which to ask is what warns.
        """
        images, issues = output.over == "image", output.of("issues")
        sources: list[Any] = []
        if images and output.of("block"):
            sources.append(self._block_images)
        if issues:
            sources.append(self._issue_images if images else self._issue_sums)
        if output.of("selection"):
            sources.append(self._learned)
        if not issues or (not images and output.of("block")):
            sources.append(self._block_sums)
        return map_objects(partial(_finished, output), *sources)

    @cached_property
    def _block_images(self) -> da.Array:
        return along_images(self._together, map_objects(attrgetter("images"), self._summaries))

    @cached_property
    def _block_sums(self) -> da.Array:
        return map_objects(attrgetter("sums"), self._total)

    @cached_property
    def _issues(self) -> da.Array:
        assert self._selection is not None
        return self._graph.each(self._method.find, self._selection.search)

    @cached_property
    def _issue_images(self) -> da.Array:
        return along_images(self._together, self._of_issues("image"))

    @cached_property
    def _issue_sums(self) -> da.Array:
        return reduce_objects(summed_parts, self._of_issues("dataset"))

    @cached_property
    def _learned(self) -> da.Array:
        assert self._selection is not None
        return map_objects(_thresholds, self._selection.thresholds)

    def _of_issues(self, over: str) -> da.Array:
        return map_objects(partial(contributed, self._params, "issues", over), self._issues)


def _itself(block: AnyArray) -> AnyArray:
    return block


def _dense(name: str, summary: RegionSummary) -> AnyArray:
    return summary.dense[name]


def _thresholds(thresholds: AnyArray) -> Parts:
    return {"thresholds": thresholds}


def _finished(output: Output, *parts: Parts) -> AnyArray:
    return finished(output, parts)
