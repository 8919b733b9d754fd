"""The order of the stages: summarize, count, select. How each one is run is left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dask_labelqc.graph.select import Search
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.issues import confident_thresholds, start_search
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.summary import Statistics
from dask_labelqc.typing import Floats

__all__ = ["Selection", "Stages", "select"]


class Stages(Protocol):
    """Each stage over all regions, its results added up."""

    def summarize(self, bound: float | None = None) -> Statistics:
        """Read and summarize every region; candidates that agree have scores up to `bound`."""

    def count(self, thresholds: Floats) -> int:
        """Count the off-diagonal candidates."""

    def histogram(self, prefix: tuple[int, ...]) -> Histogram:
        """Count the next digit of the candidates' keys."""


@dataclass(frozen=True)
class Selection:
    """What was learned over the whole dataset.

    Attributes
    ----------
    statistics, thresholds
        Sums, and the confident thresholds (K,).
    num_selected
        n, the number of cells with the lowest scores that were selected.
    search
        Says which they are.
    """

    statistics: Statistics
    thresholds: Floats
    num_selected: int
    search: Search


def select(stages: Stages, params: Parameters) -> Selection:
    """Run the stages up to the selection.

    The predictions are read a second time only where their sums exceed one by more than the
    tolerance and the cut falls above the bound.
    """
    statistics = stages.summarize()
    thresholds = confident_thresholds(statistics.class_sum, statistics.class_count)
    num_selected = stages.count(thresholds)
    if num_selected > statistics.below_bound:
        statistics = stages.summarize(statistics.highest_disagreeing)
    search = start_search(statistics, num_selected, params)
    while not search.done:
        search = search.narrowed(stages.histogram(search.prefix))
    return Selection(statistics, thresholds, num_selected, search)
