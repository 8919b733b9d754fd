"""Stage A: everything that an audit needs of a region, from one read of its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import distributed
import numpy as np

from dask_labelqc.errors import LabelQCWarning
from dask_labelqc.extent import Extent
from dask_labelqc.kernels.keys import Histogram, Keys
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.predictions import as_indices, without_masked
from dask_labelqc.kernels.summary import BlockScan, scan_block
from dask_labelqc.method.gaps import FindGaps, Missing, missing_of, no_gaps, warn_of_missing
from dask_labelqc.method.outputs import (
    ImageParts,
    Parts,
    contributed,
    empty_pixels,
    summed_parts,
)
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.statistics import NO_SUM, ClassStatistics, WorstSum
from dask_labelqc.method.validity import check_labels, check_predictions, wrong_sum
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = [
    "Candidates",
    "ReadBlock",
    "RegionSummary",
    "Statistics",
    "summarize",
]

ReadBlock: TypeAlias = Callable[[Extent], tuple[AnyArray, AnyArray]]
"""Reads the labels (n, *spatial) and the stored predictions (n, K, *spatial) of an extent."""


@dataclass(frozen=True)
class Statistics(ClassStatistics):
    """What is added up over the pixels of a dataset.

    Attributes
    ----------
    class_sum, class_count, worst_sum
        As of all; what has a class are cells.
    sums
        What else blocks contribute to the outputs.
    histogram
        First digit of the keys of all candidates.
    below_bound
        Cells whose score is not above the usual bound, whatever bound they were collected by.
    highest_disagreeing
        The highest score of a cell that disagrees with its prediction, 0 if none does.
    missing
        What is not in the store.
    """

    sums: Parts
    histogram: Histogram
    below_bound: int
    highest_disagreeing: float
    missing: Missing

    def __add__(self, other: Statistics) -> Statistics:
        return replace(
            super().__add__(other),
            sums=summed_parts(self.sums, other.sums),
            histogram=self.histogram + other.histogram,
            below_bound=self.below_bound + other.below_bound,
            highest_disagreeing=max(self.highest_disagreeing, other.highest_disagreeing),
            missing=self.missing + other.missing,
        )

    def warn(self, params: Parameters) -> None:
        """Warn, on the client of a cluster, of what is unusual about the inputs."""
        message = wrong_sum(self.worst_sum, params.sum_tolerance)
        if message and params.validate == "full":
            distributed.warn(message, LabelQCWarning)
        warn_of_missing(self.missing)


@dataclass(frozen=True)
class Candidates:
    """The cells of a region that can be selected.

    Attributes
    ----------
    extent
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

    extent: Extent
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
        flat = self.extent.flat_index(self.position, params.cells_shape)
        agrees = self.given == self.predicted
        return Keys.of(self.score, agrees, flat, params.key_space, self.agreeing)

    def __sizeof__(self) -> int:
        return sum(a.nbytes for a in self.arrays().values())

    @staticmethod
    def dtypes(region: Extent, params: Parameters) -> dict[str, np.dtype[np.generic]]:
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
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extent"}


@dataclass(frozen=True)
class RegionSummary:
    """Stage A's result for a region; it is an `engine.regions.Scanned`, too.

    Attributes
    ----------
    extent
        The region.
    statistics, candidates
        To be added up, and to be kept.
    images
        The blocks' parts of the outputs of images, as far as these lie in the region.
    dense
        The outputs of pixels that are known.
    """

    extent: Extent
    statistics: Statistics
    images: Parts
    candidates: Candidates
    dense: Parts

    @property
    def total(self) -> Statistics:
        return self.statistics

    @property
    def kept(self) -> Candidates:
        return self.candidates

    def __sizeof__(self) -> int:
        return self.candidates.__sizeof__() + sum(a.nbytes for a in self.dense.values())


def summarize(
    region: Extent,
    blocks: Iterable[Extent],
    read: ReadBlock,
    params: Parameters,
    bound: float | None = None,
    dense: Parts | None = None,
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
    dense = empty_pixels(params, "block", region.shape) if dense is None else dense
    parts = _Parts(region, params, dense)
    for block in blocks:
        labels, stored = without_masked(*read(block))
        encoded = encode_labels(labels, params.num_classes, params.ignore_index)
        check_labels(encoded, labels, block, params)
        native = np.ascontiguousarray(stored, params.dtype)
        scan = scan_block(as_indices(native), encoded.codes, options, table)
        check_predictions(*scan.unusable, stored, block, params)
        parts.missing += missing_of(find_gaps(block), encoded.codes, block, params)
        parts.add(block, scan)
    return parts.finish()


class _Parts:
    """The blocks of a region, put together as they come."""

    def __init__(self, region: Extent, params: Parameters, dense: Parts) -> None:
        self.region, self.params, self.dense = region, params, dense
        self.cells = region.coarsened(params.factors)
        self.class_sum: AnyArray = np.zeros(params.num_classes, object)
        self.class_count = np.zeros(params.num_classes, np.int64)
        self.sums: Parts = {}
        self.worst_sum = NO_SUM
        self.missing = Missing()
        self.images = ImageParts(params, region.shape[0], "block")
        self.dtypes = Candidates.dtypes(region, params)
        self.lists: list[dict[str, AnyArray]] = []
        self.candidates = 0

    def add(self, block: Extent, scan: BlockScan) -> None:
        local = block.within(self.region)
        self.class_sum = self.class_sum + scan.class_sum.astype(object)
        self.class_count += scan.class_count
        self.sums = summed_parts(self.sums, contributed(self.params, "block", "dataset", scan))
        if scan.worst_sum[0] > self.worst_sum[0]:
            image, pixel = block.place(scan.worst_sum_pixel)
            deviation, total = scan.worst_sum.tolist()
            self.worst_sum = WorstSum(deviation, (image, *pixel), total)
        self.images.add(local.images, contributed(self.params, "block", "image", scan))
        for name, values in contributed(self.params, "block", "pixel", scan).items():
            self.dense[name][local.slices] = values.reshape(local.shape)
        self._add_candidates(local, scan)

    def _add_candidates(self, local: Extent, scan: BlockScan) -> None:
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
            self.worst_sum,
            self.sums,
            candidates.keys(self.params).histogram(()),
            sum(int(np.count_nonzero(score <= bound)) for score in scores),
            float(disagreeing.max(initial=0.0)),
            self.missing,
        )
        return RegionSummary(self.region, statistics, self.images.arrays, candidates, self.dense)


def _joined(parts: list[AnyArray]) -> AnyArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
