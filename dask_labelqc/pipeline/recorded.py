"""What is on record of a group: its summary as arrays by name, and back.

The candidates are packed. Of hard predictions, most of whose pixels are candidates that agree, a
record takes 1 byte a pixel instead of the 14 that places for all of them took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dask_labelqc.extent import Region
from dask_labelqc.kernels.keys import Histogram, in_order
from dask_labelqc.method.gaps import Missing
from dask_labelqc.method.outputs import Parts
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.statistics import WorstSum
from dask_labelqc.method.summarize import Candidates, RegionSummary, Statistics
from dask_labelqc.storage.packing import pack, unpack
from dask_labelqc.typing import AnyArray

__all__ = ["FORM", "candidates_of", "images_of", "statistics_of", "to_arrays"]

FORM = 3
"""Of the records; those of another form say something else by the same names."""

LISTS = "packed_"
ASCENDING = ("position", "agreeing", "pixel_cell", "pixel_position")
"""Lists that ascend, at least within blocks: their differences are small."""
MISSING = "missing_"
SUMS = "sum_"
IMAGES = "image_"


def candidates_of(group: Region, arrays: Mapping[str, AnyArray], params: Parameters) -> Candidates:
    """Return the candidates of a group from its record."""
    dtypes = Candidates.dtypes(group, params) | {"agreeing": _bits(params.probability_dtype)}
    lists = {
        name: unpack(arrays[LISTS + name], dtype, name in ASCENDING)
        for name, dtype in dtypes.items()
    }
    lists["agreeing"] = lists["agreeing"].view(params.probability_dtype)
    return Candidates(extent=group.coarsened(params.factors), **lists)


def images_of(arrays: Mapping[str, AnyArray]) -> Parts:
    """Return the blocks' parts of the outputs of a group's images from its record."""
    return _named(IMAGES, arrays)


def _packed(candidates: Candidates) -> dict[str, AnyArray]:
    lists = candidates.arrays()
    lists["agreeing"] = in_order(candidates.agreeing.view(_bits(candidates.agreeing.dtype)))
    return {LISTS + name: pack(values, name in ASCENDING) for name, values in lists.items()}


def _bits(scores: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(f"u{scores.itemsize}")


def to_arrays(summary: RegionSummary) -> dict[str, AnyArray]:
    """Return what is put on record of a group; its dense outputs are not."""
    statistics = summary.statistics
    deviation, place, total = statistics.worst_sum
    return {
        "class_sum": statistics.class_sum.astype(np.int64),
        "class_count": statistics.class_count,
        "digits": statistics.histogram.digits,
        "digit_counts": statistics.histogram.counts,
        "below_bound": np.array(statistics.below_bound),
        "highest_disagreeing": np.array(statistics.highest_disagreeing),
        "worst_sum": np.array([deviation, total]),
        "worst_place": np.array(place, np.int64),
        **{MISSING + name: np.asarray(value) for name, value in vars(statistics.missing).items()},
        **{SUMS + name: values for name, values in statistics.sums.items()},
        **{IMAGES + name: values for name, values in summary.images.items()},
    } | _packed(summary.candidates)


def statistics_of(arrays: Mapping[str, AnyArray]) -> Statistics:
    """Return the statistics of a group from its record."""
    deviation, total = (float(v) for v in arrays["worst_sum"])
    place = tuple(int(v) for v in arrays["worst_place"])
    return Statistics(
        class_sum=arrays["class_sum"].astype(object),
        class_count=arrays["class_count"],
        sums=_named(SUMS, arrays),
        histogram=Histogram(arrays["digits"], arrays["digit_counts"]),
        below_bound=int(arrays["below_bound"]),
        highest_disagreeing=float(arrays["highest_disagreeing"]),
        worst_sum=WorstSum(deviation, place, total),
        missing=_missing(arrays),
    )


def _missing(arrays: Mapping[str, AnyArray]) -> Missing:
    found: dict[str, Any] = _named(MISSING, arrays)
    counts = {name: int(value) for name, value in found.items() if not value.ndim}
    return Missing(**found | counts)


def _named(prefix: str, arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Return the arrays whose names begin so, without that."""
    return {n.removeprefix(prefix): arrays[n] for n in arrays if n.startswith(prefix)}
