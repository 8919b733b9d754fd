"""Put the images together from their groups."""

from __future__ import annotations

from dask_labelqc.method.outputs import ImageParts
from dask_labelqc.pipeline.groups import GroupIssues, Job

__all__ = ["Images"]


class Images:
    """What is known of each image; groups come in any order, and are added in their own.

    The groups of the same images follow one another, so only those of images that are not yet
    whole wait here. Images of groups that never come stay as they are: without a score.

    Attributes
    ----------
    parts
        Of the outputs of images.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.parts = ImageParts(job.params, job.params.shape[0])
        self._waiting: dict[int, GroupIssues] = {}
        self._next: dict[int, int] = {}

    def add(self, number: int, issues: GroupIssues) -> None:
        """Add a group."""
        self._waiting[number] = issues
        groups = self._job.groups_beside(number)
        following = self._next.pop(groups[0], groups[0])
        while following in groups and following in self._waiting:
            images = self._waiting.pop(following).images
            self.parts.add(self._job.box(following).images, images)
            following += 1
        if following in groups:
            self._next[groups[0]] = following
