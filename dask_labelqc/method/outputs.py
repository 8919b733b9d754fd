"""The table of what an audit of images puts out; everything that makes or holds it reads this.

An output is declared as data: over what it is, of which parts it is made, and how these are
finished. A part says what the scan of a block, or the issues of a region, contribute, and how
contributions are put together. A new output is an entry here, and a line in the kernel if it is
made of something that no other is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from dask_labelqc.kernels.softmin import combine_softmin, empty_softmin, finalize_softmin
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

if TYPE_CHECKING:
    from dask_labelqc.method.parameters import Parameters

__all__ = [
    "OUTPUTS",
    "ImageParts",
    "Output",
    "Part",
    "Parts",
    "combined_parts",
    "contributed",
    "empty_pixels",
    "every_output",
    "finished",
    "only_outputs",
    "outputs_table",
    "summed_parts",
]

Parts: TypeAlias = Mapping[str, AnyArray]
"""What was contributed, by name of the part."""


def _add(mine: AnyArray, other: AnyArray, params: Parameters) -> AnyArray:
    total: AnyArray = mine + other
    return total


def _no_counts(num_images: int, params: Parameters) -> AnyArray:
    return np.zeros(num_images, np.int64)


@dataclass(frozen=True)
class Part:
    """What outputs are made of.

    Attributes
    ----------
    name
        Of the part.
    of
        What contributes: the scan of a block, the issues of a region, or the selection.
    over
        What a contribution is: an array of pixels; one entry for each image of a block or region,
        as far as it lies in it; or one for the dataset.
    contribute
        ``contribute(block scan or issues)``; a part of the selection is what has its name there.
    combine
        ``combine(a, b, parameters)`` of images, which chunks may split. What is over the dataset is
        added up.
    empty
        ``empty(number of images, parameters)``, to which contributions of images are combined.
    """

    name: str
    of: Literal["block", "issues", "selection"]
    over: Literal["pixel", "image", "dataset"]
    contribute: Callable[[Any], AnyArray] | None = None
    combine: Callable[[AnyArray, AnyArray, Parameters], AnyArray] = _add
    empty: Callable[[int, Parameters], AnyArray] = _no_counts


def _itself(values: AnyArray) -> AnyArray:
    return values


@dataclass(frozen=True)
class Output:
    """An output of an audit.

    Attributes
    ----------
    name
        Of the output.
    over
        Pixels (N, *spatial), images (N,), classes (K,) or pairs of a given and a predicted class
        (K, K).
    dtype
        Or an attribute of the parameters that says which.
    about
        What it is, for people.
    parts
        Of which it is made.
    finish
        ``finish(*parts)``; pixels are what is contributed of them.
    fill
        Of pixels that are not audited.
    optional
        It is only made where it is asked for.
    """

    name: str
    over: Literal["pixel", "image", "class", "pair"]
    dtype: type[np.generic] | str
    about: str
    parts: tuple[Part, ...]
    finish: Callable[..., AnyArray] = _itself
    fill: Any = 0
    optional: bool = False

    def dtype_for(self, params: Parameters) -> np.dtype[Any]:
        """Return the dtype for a dataset."""
        found = self.dtype
        return np.dtype(attrgetter(found)(params) if isinstance(found, str) else found)

    @property
    def dtype_name(self) -> str:
        """What is known of the dtype before the inputs are."""
        if isinstance(self.dtype, str):
            return {"probability_dtype": "float32, float64", "class_dtype": "unsigned"}[self.dtype]
        return np.dtype(self.dtype).name

    def shape(self, params: Parameters) -> Shape:
        """Return the shape for a dataset."""
        num_classes = params.num_classes
        shapes = {
            "pixel": params.shape,
            "image": (params.num_images,),
            "class": (num_classes,),
            "pair": (num_classes, num_classes),
        }
        return shapes[self.over]

    def of(self, *sources: str) -> bool:
        """Return whether it is made of any of these."""
        return any(part.of in sources for part in self.parts)


def _combine_softmin(mine: AnyArray, other: AnyArray, params: Parameters) -> AnyArray:
    return combine_softmin(mine, other, params.temperature)


def _empty_softmin(num_images: int, params: Parameters) -> AnyArray:
    return empty_softmin(num_images, params.temperature)


def _fraction(issue_count: Ints, count: Ints) -> Floats:
    """Return the fraction of pixels that are issues; NaN where none takes part."""
    with np.errstate(invalid="ignore"):
        fraction: Floats = issue_count / count
    return fraction


def _of_given(matrix: Ints) -> Ints:
    counts: Ints = matrix.sum(axis=1)
    return counts


THRESHOLDS = Part("thresholds", "selection", "dataset")
SOFTMIN = Part("softmin", "block", "image", attrgetter("softmin"), _combine_softmin, _empty_softmin)
COUNT = Part("count", "block", "image", attrgetter("image_count"))
ISSUE_COUNT = Part("issue_count", "issues", "image", methodcaller("per_image"))
MATRIX = Part("issue_matrix", "issues", "dataset", methodcaller("matrix"))

OUTPUTS = (
    Output(
        "label_issues",
        "pixel",
        np.bool_,
        "the label is estimated to be wrong",
        (Part("mask", "issues", "pixel", methodcaller("mask")),),
        fill=False,
    ),
    Output(
        "pixel_scores",
        "pixel",
        "probability_dtype",
        "the probability of the given label; NaN where a pixel takes part in nothing",
        (Part("scores", "block", "pixel", attrgetter("dense_score")),),
        fill=np.nan,
        optional=True,
    ),
    Output(
        "predicted_label",
        "pixel",
        "class_dtype",
        "the class of the highest probability, the lowest on ties",
        (Part("predicted", "block", "pixel", attrgetter("dense_predicted")),),
        optional=True,
    ),
    Output(
        "image_score",
        "image",
        np.float64,
        "the softmin of the image's pixel scores; lower is worse",
        (SOFTMIN,),
        finalize_softmin,
    ),
    Output(
        "image_issue_fraction",
        "image",
        np.float64,
        "the part of the image's pixels that are issues",
        (ISSUE_COUNT, COUNT),
        _fraction,
    ),
    Output("image_issue_count", "image", np.int64, "the image's issues", (ISSUE_COUNT,)),
    Output(
        "confident_threshold",
        "class",
        np.float64,
        "the mean probability of the class where it is the label",
        (THRESHOLDS,),
    ),
    Output(
        "class_count",
        "class",
        np.int64,
        "pixels labelled with the class",
        (Part("pixel_count", "block", "dataset", attrgetter("pixel_count")),),
    ),
    Output(
        "class_issue_count",
        "class",
        np.int64,
        "issues among the pixels labelled with the class",
        (MATRIX,),
        _of_given,
    ),
    Output(
        "issue_matrix",
        "pair",
        np.int64,
        "issues of each pair of classes",
        (MATRIX,),
    ),
)


def every_output(**optional: bool) -> tuple[Output, ...]:
    """Return all outputs, of the optional ones those that are asked for by name."""
    return tuple(o for o in OUTPUTS if not o.optional or optional.get(o.name, False))


def only_outputs(*names: str) -> tuple[Output, ...]:
    """Return the outputs of these names."""
    return tuple(output for output in OUTPUTS if output.name in names)


def contributed(params: Parameters, of: str, over: str, found: Any) -> dict[str, AnyArray]:
    """Return what a block's scan, or a region's issues, contribute to the wanted outputs."""
    parts = params.parts(of, over)
    return {name: part.contribute(found) for name, part in parts.items() if part.contribute}


def combined_parts(params: Parameters, mine: Parts, other: Parts) -> Parts:
    """Put together what regions contribute to the same images."""
    parts = params.parts("block", "image") | params.parts("issues", "image")
    return {name: parts[name].combine(values, other[name], params) for name, values in mine.items()}


def summed_parts(mine: Parts, other: Parts) -> Parts:
    """Add up what is contributed to the dataset; where nothing is, that of the other."""
    return {name: values + other[name] for name, values in mine.items()} or other


def empty_pixels(params: Parameters, of: str, shape: Shape, blank: bool = False) -> dict[str, Any]:
    """Return arrays for the pixels' outputs; blank ones are those of what is not audited."""
    arrays = {}
    for output in params.outputs:
        if output.over == "pixel" and output.of(of):
            array = np.empty(shape, output.dtype_for(params))
            if blank:
                array.fill(output.fill)
            arrays[output.name] = array
    return arrays


class ImageParts:
    """The parts of images, put together block by block or region by region, in their order.

    Parameters
    ----------
    params, num_images
        Of the audit, and how many images these are.
    sources
        Of what the parts are, all by default.

    Attributes
    ----------
    arrays
        By name; of images of which no region comes they are empty.
    """

    def __init__(self, params: Parameters, num_images: int, *sources: str) -> None:
        self._params = params
        self.arrays = {
            name: part.empty(num_images, params)
            for of in sources or ("block", "issues")
            for name, part in params.parts(of, "image").items()
        }

    def add(self, images: slice, parts: Parts) -> None:
        """Add what a region contributes to its images."""
        mine = {name: self.arrays[name][images] for name in parts}
        for name, values in combined_parts(self._params, mine, parts).items():
            self.arrays[name][images] = values


def finished(output: Output, parts: Iterable[Parts]) -> AnyArray:
    """Return an output that is not over pixels, made of its parts wherever they are."""
    found = {name: values for some in parts for name, values in some.items()}
    return output.finish(*(found[part.name] for part in output.parts))


def outputs_table() -> str:
    """Return the table for people, in Markdown.

    Examples
    --------
    >>> print(outputs_table().splitlines()[-1])
    | `issue_matrix` | given_class, predicted_class | int64 | issues of each pair of classes |
    """
    dims = {
        "pixel": "image, y, x",
        "image": "image",
        "class": "class",
        "pair": "given_class, predicted_class",
    }
    rows = [
        f"| `{output.name}`{' (if asked for)' if output.optional else ''} | {dims[output.over]} | "
        f"{output.dtype_name} | {output.about} |"
        for output in OUTPUTS
    ]
    return "\n".join(["| variable | dims | dtype | |", "|---|---|---|---|", *rows])
