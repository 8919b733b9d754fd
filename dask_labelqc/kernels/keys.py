"""Sort keys of candidates as integers, looked at 16 bits at a time.

The order of the method: the lowest score first; among equal scores those that disagree with
their prediction; among those the lowest flat index. Where scores are never negative, the order of
their bit patterns is theirs. The key is (bits of the score, agrees, flat index).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_labelqc.typing import BoolArray, Floats, Ints

__all__ = ["DIGIT_BITS", "Histogram", "KeySpace", "Keys"]

DIGIT_BITS = 16


@dataclass(frozen=True)
class Histogram:
    """How many keys have each digit: ascending digits and their counts, zeros left out."""

    digits: Ints
    counts: Ints

    @classmethod
    def of(cls, digits: Ints) -> Histogram:
        counts = np.bincount(digits, minlength=1)
        (present,) = np.nonzero(counts)
        return cls(present, counts[present])

    def __add__(self, other: Histogram) -> Histogram:
        digits, place = np.unique(np.concatenate([self.digits, other.digits]), return_inverse=True)
        counts = np.zeros(digits.size, np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Histogram(digits, counts)


@dataclass(frozen=True)
class KeySpace:
    """How many bits keys have, and so how many digits.

    Attributes
    ----------
    score_bits
        32 or 64.
    index_bits
        Bits that hold every flat index of the dataset.
    """

    score_bits: int
    index_bits: int

    @property
    def score_levels(self) -> int:
        return self.score_bits // DIGIT_BITS

    @property
    def place_levels(self) -> int:
        return -(-(self.index_bits + 1) // DIGIT_BITS)

    @property
    def levels(self) -> int:
        return self.score_levels + self.place_levels


@dataclass(frozen=True)
class Keys:
    """The keys of some candidates.

    Attributes
    ----------
    score
        uint64: the bits of the score.
    place
        uint64: the flat index, with one more bit above for candidates that agree.
    space
        Their bits.
    """

    score: Ints
    place: Ints
    space: KeySpace

    @classmethod
    def of(cls, score: Floats, agrees: BoolArray, flat_index: Ints, space: KeySpace) -> Keys:
        bits = (score + score.dtype.type(0)).view(f"u{score.itemsize}")  # -0.0 becomes 0.0
        place = flat_index.astype(np.uint64) | (
            agrees.astype(np.uint64) << np.uint64(space.index_bits)
        )
        return cls(bits.astype(np.uint64), place, space)

    @classmethod
    def of_any_sign(cls, score: Floats, flat_index: Ints, space: KeySpace) -> Keys:
        """Return keys of scores that may be below zero; only the index decides between ties.

        The bits of negative numbers order the other way round, and lie above the others.
        """
        bits = (score + score.dtype.type(0)).view(f"u{score.itemsize}")
        top = bits.dtype.type(2 ** (8 * score.itemsize - 1))
        ordered = np.where(bits >= top, ~bits, bits | top)
        return cls(ordered.astype(np.uint64), flat_index.astype(np.uint64), space)

    def histogram(self, prefix: tuple[int, ...]) -> Histogram:
        """Count the next digit of the keys that begin with the digits of `prefix`."""
        level, levels = len(prefix), self.space.score_levels
        if level < levels:
            rest = self.score >> np.uint64(DIGIT_BITS * (levels - level - 1))
            matching = (rest >> np.uint64(DIGIT_BITS)) == joined(prefix)
        else:
            after = DIGIT_BITS * (self.space.levels - level - 1)
            rest = self.place >> np.uint64(after)
            matching = self.score == joined(prefix[:levels])
            if level > levels:
                matching &= (rest >> np.uint64(DIGIT_BITS)) == joined(prefix[levels:])
        return Histogram.of((rest[matching] & np.uint64(2**DIGIT_BITS - 1)).astype(np.int64))

    def up_to(self, last: tuple[int, ...]) -> BoolArray:
        """Return which keys are not above the key with the digits `last`."""
        levels = self.space.score_levels
        score, place = joined(last[:levels]), joined(last[levels:])
        selected: BoolArray = (self.score < score) | ((self.score == score) & (self.place <= place))
        return selected


def joined(digits: tuple[int, ...]) -> np.uint64:
    """Return the number that the digits write."""
    value = 0
    for digit in digits:
        value = (value << DIGIT_BITS) | digit
    return np.uint64(value)
