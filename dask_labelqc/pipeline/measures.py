"""What a run took, and what it left out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from dask_labelqc.errors import Advice

__all__ = ["Failure", "Measures"]


@dataclass(frozen=True)
class Failure:
    """Images, or examples, that could not be audited.

    Attributes
    ----------
    images
        The first, and the one after the last.
    cause
        What went wrong, and where.
    advice
        What to do about it.
    """

    images: tuple[int, int]
    cause: str
    advice: Advice | None = field(default=None, compare=False)


class Measures:
    """What a run took.

    Attributes
    ----------
    seconds
        Of each stage.
    bytes_read
        Of predictions, decoded.
    task_seconds, read_seconds
        Of the tasks that read the predictions, and how much of that they waited for data.
    peak_bytes
        The most memory that a worker has held.
    num_resumed
        Groups that an earlier run had finished.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.bytes_read = 0
        self.task_seconds = self.read_seconds = 0.0
        self.peak_bytes = 0
        self.num_resumed = 0
