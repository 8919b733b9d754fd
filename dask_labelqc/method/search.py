"""The r-th smallest key of keys that are spread over many blocks, exactly.

Each round counts one digit (16 bits) of the keys that share the digits found so far, block by
block; the counts are added up, and the digit in which the r-th key falls is fixed. Nothing but
histograms travels. A round that finds that all keys of a digit are wanted ends the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_labelqc.kernels.keys import DIGIT_BITS, Histogram, KeySpace

__all__ = ["Search"]


@dataclass(frozen=True)
class Search:
    """How far the search for the last of `rank` keys has come.

    Attributes
    ----------
    space
        The bits of the keys.
    prefix
        The digits found so far.
    rank
        How many keys that begin with them are wanted.
    last
        The digits of a key that separates the wanted from the others, once it is known; empty
        when no key is wanted.

    Examples
    --------
    >>> search = Search.start(KeySpace(32, 10), 3)
    >>> search = search.narrowed(Histogram(np.array([7, 9]), np.array([2, 5])))
    >>> search.prefix, search.rank
    ((9,), 1)
    """

    space: KeySpace
    prefix: tuple[int, ...]
    rank: int
    last: tuple[int, ...] | None = None

    @classmethod
    def start(cls, space: KeySpace, rank: int) -> Search:
        return cls(space, (), rank, None if rank > 0 else ())

    @property
    def done(self) -> bool:
        return self.last is not None

    def narrowed(self, histogram: Histogram) -> Search:
        """Fix the next digit, given the counts of it over all blocks.

        Of the keys of one score those that have no place are the last, and they are not counted:
        if more are wanted than were counted, all that have a place are.
        """
        if self.done:
            return self
        reached = np.cumsum(histogram.counts)
        place = int(np.searchsorted(reached, self.rank))
        if len(self.prefix) >= self.space.score_levels and place == reached.size:
            return replace(self, last=self._ending(self.prefix))
        digit, count = int(histogram.digits[place]), int(histogram.counts[place])
        prefix = (*self.prefix, digit)
        rank = self.rank - (int(reached[place]) - count)
        last = self._ending(prefix) if rank == count else None
        return Search(self.space, prefix, rank, last)

    def _ending(self, prefix: tuple[int, ...]) -> tuple[int, ...]:
        """Return the last of the keys that begin with some digits."""
        return (*prefix, *(2**DIGIT_BITS - 1,) * (self.space.levels - len(prefix)))
