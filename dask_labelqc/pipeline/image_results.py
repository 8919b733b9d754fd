"""The results of images: put together from their groups, and from the whole dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_labelqc.engine.regions import Regions
from dask_labelqc.method.outputs import ImageParts, Parts, finished, summed_parts
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.pixels import PixelMethod
from dask_labelqc.method.search import Search
from dask_labelqc.method.sequence import select
from dask_labelqc.pipeline.inputs import Results
from dask_labelqc.pipeline.tasks import PaintedGroups
from dask_labelqc.storage.coordinates import CLASS_DIMS

if TYPE_CHECKING:
    from dask_labelqc.pipeline.images import ImageInputs

__all__ = ["Images", "Sums", "found_images"]


@dataclass(frozen=True)
class Sums:
    """What regions contribute to the dataset, to be added up."""

    parts: Parts

    def __add__(self, other: Sums) -> Sums:
        return Sums(summed_parts(self.parts, other.parts)) if other.parts else self


def found_images(
    params: Parameters,
    stages: Regions,
    paint: Callable[[Search], Iterator[PaintedGroups]],
    together: Callable[[Iterable[tuple[int, Parts]]], ImageParts],
    image_dim: str,
    attributes: Mapping[str, Any],
) -> Results:
    """Run the stages over images, and return what is written at the end.

    Parameters
    ----------
    params, stages
        What is asked, and the stages of the job.
    paint
        Runs the last of them.
    together
        Puts images together from the parts of groups, which come in any order.
    image_dim, attributes
        Name of the dimension of images, and what the output says besides the parameters.
    """
    selection = select(stages, PixelMethod(params))
    total = Sums({})

    def parts() -> Iterator[tuple[int, Parts]]:
        nonlocal total
        for painted in paint(selection.search):
            yield from painted.parts.items()
            total += painted.total

    images = together(parts())
    sums = {**total.parts, **selection.total.sums, "thresholds": selection.thresholds}
    dims = {"image": (image_dim,), "class": CLASS_DIMS[:1], "pair": CLASS_DIMS[1:]}
    small = [
        (output.name, dims[output.over], finished(output, (images.arrays, sums)))
        for output in params.outputs
        if output.over != "pixel"
    ]
    num_issues = int(sums["issue_matrix"].sum())
    facts = {"num_issues": num_issues, "num_selected": selection.number}
    return Results(small, {**params.attributes(), **params.naming(), **attributes, **facts})


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
