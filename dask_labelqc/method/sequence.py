"""The order of the stages, for pixels and examples: summarize, count, select.

What each stage does is the method's; how it runs over the regions of a dataset is `Regions`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from dask_labelqc.engine.regions import Regions
from dask_labelqc.kernels.keys import Histogram
from dask_labelqc.method.search import Search

__all__ = ["Method", "Selection", "search_last", "select"]


class Method(Protocol):
    """What is done with the regions. All but `first` is called where the values are.

    Attributes
    ----------
    most_rounds
        How many digits are looked for at the most, after those that `start` knows.
    """

    @property
    def most_rounds(self) -> int: ...

    @property
    def first(self) -> Any:
        """How the regions are scanned at first."""

    def warn(self, total: Any) -> Any:
        """Warn of what is unusual about the inputs, and return the total."""

    def thresholds(self, total: Any) -> Any:
        """Return what the stages after the first need to know, the confident thresholds."""

    def count(self, kept: Any, thresholds: Any) -> Any:
        """Count issues of a region; these add up."""

    def number(self, counts: Any) -> int:
        """Return the number of issues."""

    def again(self, total: Any, thresholds: Any, number: int) -> Any:
        """Return how the regions are to be scanned again; None if what was kept will do."""

    def start(self, total: Any, number: int) -> Search:
        """Begin the search for the last of so many keys."""

    def histogram(self, kept: Any, search: Search, thresholds: Any) -> Histogram:
        """Count the next digit of the keys of a region; nothing if the search is done."""


@dataclass(frozen=True)
class Selection:
    """What was learned over the whole dataset, as values of the regions.

    Attributes
    ----------
    total, thresholds
        Of the first scan, and the confident thresholds (K,).
    known
        The total of the last scan.
    number
        n, how many of the lowest scores are selected.
    search
        Says which they are.
    """

    total: Any
    thresholds: Any
    known: Any
    number: Any
    search: Any


def select(regions: Regions, method: Method) -> Selection:
    """Run the stages up to the selection; the predictions are read once if that will do."""
    total = regions.scan(method.first, method.warn)
    thresholds = regions.apply(method.thresholds, total)
    counts = regions.reduce("count", method.count, thresholds)
    number = regions.apply(method.number, counts)
    how = regions.apply(method.again, total, thresholds, number)
    known = regions.scan_again(how, total)
    search = search_last(regions, method, known, thresholds, number)
    return Selection(total, thresholds, known, number, search)


def search_last(regions: Regions, method: Method, total: Any, thresholds: Any, number: Any) -> Any:
    """Look for the last of so many keys of what is kept, digit by digit."""

    def narrow(search: Any) -> Any:
        histogram = regions.reduce("select", method.histogram, search, thresholds)
        return regions.apply(Search.narrowed, search, histogram)

    search = regions.apply(method.start, total, number)
    return regions.repeat(narrow, search, _is_done, method.most_rounds)


def _is_done(search: Search) -> bool:
    return search.done
