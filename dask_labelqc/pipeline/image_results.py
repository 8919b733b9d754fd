"""Put the images together from their groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_labelqc.method.outputs import ImageParts, Parts

if TYPE_CHECKING:
    from dask_labelqc.pipeline.images import ImageInputs

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

    def __init__(self, inputs: ImageInputs) -> None:
        self._inputs = inputs
        self.parts = ImageParts(inputs.params, inputs.params.shape[0])
        self._waiting: dict[int, Parts] = {}
        self._next: dict[int, int] = {}

    def add(self, number: int, parts: Parts) -> None:
        """Add a group."""
        self._waiting[number] = parts
        groups = self._inputs.beside(number)
        following = self._next.pop(groups[0], groups[0])
        while following in groups and following in self._waiting:
            images = slice(*self._inputs.items(following))
            self.parts.add(images, self._waiting.pop(following))
            following += 1
        if following in groups:
            self._next[groups[0]] = following
