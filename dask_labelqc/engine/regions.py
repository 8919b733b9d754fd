"""What can be asked of the regions of a dataset, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

__all__ = ["Eager", "Regions", "Scanned"]

T = TypeVar("T")


@dataclass(frozen=True)
class Scanned:
    """What was found in a region.

    Attributes
    ----------
    total
        To be added up over all regions, in any order.
    kept
        What is remembered of the region, for the stages after the one that reads it.
    """

    total: Any
    kept: Any

    def __sizeof__(self) -> int:
        return int(self.kept.__sizeof__())


class Regions(Protocol):
    """The regions of a dataset, and what is kept of each since it was scanned.

    What is returned, and passed on to other stages, are values: plain ones, or objects of a lazy
    graph. So nothing may look at them but the functions that are handed over here; these pickle.
    """

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> Any:
        """Read every region as `how` says; return the total, which `then` sees once."""

    def scan_again(self, how: Any, known: Any) -> Any:
        """Read every region again as the value `how` says, unless that is None.

        Returns the new total, or the one that is `known`.
        """

    def reduce(self, stage: str, function: Callable[..., T], *values: Any) -> T:
        """Add up ``function(kept, *values)`` over all regions."""

    def apply(self, function: Callable[..., T], *values: Any) -> T:
        """Return ``function(*values)``."""

    def repeat(self, step: Callable[[T], T], value: T, done: Callable[[T], bool], most: int) -> T:
        """Step from value to value until one is done, which it is after `most` steps.

        Steps of a value that is done change nothing: where nobody can look, all are taken.
        """


class Eager:
    """The part of `Regions` that follows from `scan` where values are plain."""

    def scan(self, how: Any, then: Callable[[Any], Any] | None = None) -> Any:
        raise NotImplementedError

    def scan_again(self, how: Any, known: Any) -> Any:
        return known if how is None else self.scan(how)

    def apply(self, function: Callable[..., T], *values: Any) -> T:
        return function(*values)

    def repeat(self, step: Callable[[T], T], value: T, done: Callable[[T], bool], most: int) -> T:
        while not done(value):
            value = step(value)
        return value
