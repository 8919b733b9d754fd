"""Put the images together from their groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dask_labelqc.kernels.softmin import combine_softmin, empty_softmin, finalize_softmin
from dask_labelqc.method.summary import ImageStatistics
from dask_labelqc.typing import Floats, Ints

if TYPE_CHECKING:
    from dask_labelqc.pipeline.images import ImageInputs

__all__ = ["GroupIssues", "Images"]


@dataclass(frozen=True)
class GroupIssues:
    """What the last stage tells of a group.

    Attributes
    ----------
    images, issue_count
        Of its images, as far as they lie in the group.
    """

    images: ImageStatistics
    issue_count: Ints


class Images:
    """What is known of each image; groups come in any order, and are added in their own.

    The groups of the same images follow one another, so only those of images that are not yet
    whole wait here. Images of groups that never come stay as they are: without a score.

    Attributes
    ----------
    count, issue_count
        int64 (N,): pixels that take part, and those of them that are issues.
    """

    def __init__(self, inputs: ImageInputs) -> None:
        self._inputs = inputs
        num_images = inputs.plan.shape[0]
        self._softmin = empty_softmin(num_images)
        self.count, self.issue_count = np.zeros((2, num_images), np.int64)
        self._waiting: dict[int, GroupIssues] = {}
        self._next: dict[int, int] = {}

    def add(self, number: int, issues: GroupIssues) -> None:
        """Add a group."""
        self._waiting[number] = issues
        groups = self._inputs.beside(number)
        following = self._next.pop(groups[0], groups[0])
        while following in groups and following in self._waiting:
            self._combine(following, self._waiting.pop(following))
            following += 1
        if following in groups:
            self._next[groups[0]] = following

    def _combine(self, number: int, issues: GroupIssues) -> None:
        images = slice(*self._inputs.items(number))
        self._softmin[images] = combine_softmin(
            self._softmin[images], issues.images.softmin, self._inputs.params.temperature
        )
        self.count[images] += issues.images.count
        self.issue_count[images] += issues.issue_count

    def score(self) -> Floats:
        """Return the softmin scores, float64 (N,)."""
        return finalize_softmin(self._softmin)

    def issue_fraction(self) -> Floats:
        """Return the part of the pixels that are issues, float64 (N,)."""
        with np.errstate(invalid="ignore"):
            fraction: Floats = self.issue_count / self.count
        return fraction
