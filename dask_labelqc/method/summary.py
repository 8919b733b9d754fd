"""Stage A: everything that an audit needs of a region, from one read of its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from dask_labelqc.graph.blocks import Box
from dask_labelqc.kernels.keys import Histogram, Keys
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.predictions import as_codes, without_masked
from dask_labelqc.kernels.softmin import combine_softmin, empty_softmin
from dask_labelqc.kernels.summary import BlockScan, scan_block
from dask_labelqc.method.gaps import FindGaps, Missing, missing_of, no_gaps, warn_of_missing
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.validity import check_labels, check_predictions, warn_of_sums
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

__all__ = [
    "Candidates",
    "Dense",
    "ImageStatistics",
    "ReadBlock",
    "RegionSummary",
    "Statistics",
    "summarize",
]

ReadBlock: TypeAlias = Callable[[Box], tuple[AnyArray, AnyArray]]
"""Reads the labels (n, *spatial) and the stored predictions (n, K, *spatial) of a box."""


@dataclass(frozen=True)
class Statistics:
    """What is added up over the whole dataset; `+` is exact, so its order does not matter.

    Attributes
    ----------
    class_sum
        Python integers (K,): self-confidence of the cells labelled k, times 2**32.
    class_count, pixel_count
        int64 (K,): cells and full-size pixels labelled k.
    histogram
        First digit of the keys of all candidates.
    below_bound
        Cells whose score is not above the usual bound, whatever bound they were collected by.
    highest_disagreeing
        The highest score of a cell that disagrees with its prediction, 0 if none does.
    worst_sum
        (distance from one, image, pixel, sum) of the pixel whose probabilities' sum is worst.
    missing
        What is not in the store.
    """

    class_sum: AnyArray
    class_count: Ints
    pixel_count: Ints
    histogram: Histogram
    below_bound: int
    highest_disagreeing: float
    worst_sum: tuple[float, int, Shape, float]
    missing: Missing

    def __add__(self, other: Statistics) -> Statistics:
        worst = min(self.worst_sum, other.worst_sum, key=lambda w: (-w[0], *w[1:3]))
        return Statistics(
            self.class_sum + other.class_sum,
            self.class_count + other.class_count,
            self.pixel_count + other.pixel_count,
            self.histogram + other.histogram,
            self.below_bound + other.below_bound,
            max(self.highest_disagreeing, other.highest_disagreeing),
            worst,
            self.missing + other.missing,
        )

    def warn(self, params: Parameters) -> None:
        """Warn, on the client of a cluster, of what is unusual about the inputs."""
        warn_of_sums(self.worst_sum, params)
        warn_of_missing(self.missing)


@dataclass(frozen=True)
class ImageStatistics:
    """Of the images of a region, as far as they lie in it.

    Attributes
    ----------
    softmin
        float64 (n, 3), the state of `kernels.softmin`.
    count
        int64 (n,): pixels that take part.
    """

    softmin: Floats
    count: Ints


@dataclass(frozen=True)
class Candidates:
    """The cells of a region that can be selected.

    Attributes
    ----------
    box
        The region, in cells.
    position, score, confidence, given, predicted
        (C,): flat position in the region, s, m, y and a; unless downsampled only of the cells that
        disagree.
    agreeing
        (A,): s of the cells that agree, in any order; empty if downsampled. None of them can be an
        issue, they only take up ranks.
    pixel_cell, pixel_position, pixel_given, pixel_predicted
        (D,), empty unless downsampled: the full-size pixels of the candidates that disagree;
        `pixel_cell` is the ordinal of the candidate, `pixel_position` the flat position in the
        region at full size.
    """

    box: Box
    position: Ints
    score: Floats
    confidence: Floats
    given: Ints
    predicted: Ints
    agreeing: Floats
    pixel_cell: Ints
    pixel_position: Ints
    pixel_given: Ints
    pixel_predicted: Ints

    def keys(self, params: Parameters) -> Keys:
        """Return the sort keys of the candidates."""
        flat = self.box.flat_index(self.position, params.cells_shape)
        agrees = self.given == self.predicted
        return Keys.of(self.score, agrees, flat, params.key_space, self.agreeing)

    def __sizeof__(self) -> int:
        return sum(a.nbytes for a in self.arrays().values())

    @staticmethod
    def dtypes(region: Box, params: Parameters) -> dict[str, np.dtype[np.generic]]:
        """Return the dtype of each array of the candidates of a region, given in pixels."""
        place = np.min_scalar_type(max(region.size - 1, 1))
        score, label = params.probability_dtype, params.class_dtype
        return {
            "position": place,
            "score": score,
            "confidence": score,
            "given": label,
            "predicted": label,
            "agreeing": score,
            "pixel_cell": place,
            "pixel_position": place,
            "pixel_given": label,
            "pixel_predicted": label,
        }

    def arrays(self) -> dict[str, AnyArray]:
        """Return the arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "box"}


@dataclass(frozen=True)
class Dense:
    """The score and the predicted class of every pixel of a box, as far as they are wanted."""

    scores: Floats | None
    predicted: Ints | None

    @classmethod
    def empty(cls, shape: Shape, params: Parameters) -> Dense:
        return cls(
            np.empty(shape, params.probability_dtype) if params.scores else None,
            np.empty(shape, params.class_dtype) if params.predicted else None,
        )

    @classmethod
    def blank(cls, shape: Shape, params: Parameters) -> Dense:
        """Return what stands for pixels that are not audited: NaN and class 0."""
        dense = cls.empty(shape, params)
        if dense.scores is not None:
            dense.scores.fill(np.nan)
        if dense.predicted is not None:
            dense.predicted.fill(0)
        return dense

    def at(self, box: Box) -> Dense:
        """Return views of a box within."""
        scores, predicted = self.scores, self.predicted
        return Dense(
            None if scores is None else scores[box.slices],
            None if predicted is None else predicted[box.slices],
        )


@dataclass(frozen=True)
class RegionSummary:
    """Stage A's result for the region `box`."""

    box: Box
    statistics: Statistics
    images: ImageStatistics
    candidates: Candidates
    dense: Dense

    def __sizeof__(self) -> int:
        arrays = (self.dense.scores, self.dense.predicted)
        return self.candidates.__sizeof__() + sum(a.nbytes for a in arrays if a is not None)


def summarize(
    region: Box,
    blocks: Iterable[Box],
    read: ReadBlock,
    params: Parameters,
    bound: float | None = None,
    dense: Dense | None = None,
    find_gaps: FindGaps = no_gaps,
) -> RegionSummary:
    """Scan the blocks of a region one after the other.

    Parameters
    ----------
    region, blocks
        The region and the blocks that it consists of.
    read
        Returns the labels and the stored predictions of a block.
    params
        Of the audit.
    bound
        Highest score of a candidate that agrees with its prediction, if not the usual one.
    dense
        Where to write the dense outputs, if not to new arrays.
    find_gaps
        Returns what is not in the store of a block that was read.

    Raises
    ------
    InputError
        The data of a block cannot be used; the message says where.
    """
    bound = params.bound if bound is None else bound
    options, table = params.scan_options(bound), params.table
    parts = _Parts(region, params, dense or Dense.empty(region.shape, params))
    for block in blocks:
        labels, stored = without_masked(*read(block))
        encoded = encode_labels(labels, params.num_classes, params.ignore_index)
        check_labels(encoded, labels, block, params)
        native = np.ascontiguousarray(stored, params.dtype)
        scan = scan_block(as_codes(native), encoded.codes, options, table)
        position, reason = int(scan.facts[0]), int(scan.facts[1])
        check_predictions(position, reason, stored, block, params)
        parts.missing += missing_of(find_gaps(block), encoded.codes, block, params)
        parts.add(block, scan)
    return parts.finish()


class _Parts:
    """The blocks of a region, put together as they come."""

    def __init__(self, region: Box, params: Parameters, dense: Dense) -> None:
        self.region, self.params, self.dense = region, params, dense
        self.cells = region.coarsened(params.factors)
        self.class_sum: AnyArray = np.zeros(params.num_classes, object)
        self.class_count = np.zeros(params.num_classes, np.int64)
        self.pixel_count = np.zeros(params.num_classes, np.int64)
        self.worst_sum: tuple[float, int, Shape, float] = (0.0, 0, (), 1.0)
        self.missing = Missing()
        self.softmin = empty_softmin(region.shape[0])
        self.count = np.zeros(region.shape[0], np.int64)
        self.dtypes = Candidates.dtypes(region, params)
        self.lists: list[dict[str, AnyArray]] = []
        self.candidates = 0

    def add(self, block: Box, scan: BlockScan) -> None:
        local = block.within(self.region)
        self.class_sum = self.class_sum + scan.class_sum.astype(object)
        self.class_count += scan.class_count
        self.pixel_count += scan.pixel_count
        if scan.worst_sum[0] > self.worst_sum[0]:
            image, pixel = block.place(int(scan.facts[2]))
            self.worst_sum = (float(scan.worst_sum[0]), image, pixel, float(scan.worst_sum[1]))
        self.softmin[local.images] = combine_softmin(
            self.softmin[local.images], scan.softmin, self.params.temperature
        )
        self.count[local.images] += scan.image_count
        here = self.dense.at(local)
        if here.scores is not None:
            here.scores[...] = scan.dense_score.reshape(local.shape)
        if here.predicted is not None:
            here.predicted[...] = scan.dense_predicted.reshape(local.shape)
        self._add_candidates(local, scan)

    def _add_candidates(self, local: Box, scan: BlockScan) -> None:
        cells = local.coarsened(self.params.factors)
        lists: dict[str, AnyArray] = {name: getattr(scan, name) for name in self.dtypes}
        lists["position"] = cells.flat_index(scan.position, self.cells.shape)
        lists["pixel_position"] = local.flat_index(scan.pixel_position, self.region.shape)
        lists["pixel_cell"] = scan.pixel_cell + self.candidates
        self.lists.append({n: lists[n].astype(d, copy=False) for n, d in self.dtypes.items()})
        self.candidates += scan.position.size

    def finish(self) -> RegionSummary:
        arrays = {name: _joined([part[name] for part in self.lists]) for name in self.dtypes}
        candidates = Candidates(self.cells, **arrays)
        disagreeing = candidates.score[candidates.given != candidates.predicted]
        bound = np.float64(self.params.bound)
        scores = candidates.score, candidates.agreeing
        statistics = Statistics(
            self.class_sum,
            self.class_count,
            self.pixel_count,
            candidates.keys(self.params).histogram(()),
            sum(int(np.count_nonzero(score <= bound)) for score in scores),
            float(disagreeing.max(initial=0.0)),
            self.worst_sum,
            self.missing,
        )
        images = ImageStatistics(self.softmin, self.count)
        return RegionSummary(self.region, statistics, images, candidates, self.dense)


def _joined(parts: list[AnyArray]) -> AnyArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
