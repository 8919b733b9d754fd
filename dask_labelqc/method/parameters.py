"""What is asked of an audit, and of what: the form that travels to the workers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError
from dask_labelqc.images import ImageTable
from dask_labelqc.kernels.keys import KeySpace
from dask_labelqc.kernels.summary import ScanOptions
from dask_labelqc.method.format import Format, check_dtypes, check_scale, stored_as, warn_of_fill
from dask_labelqc.plan import spatial_factors
from dask_labelqc.typing import LabelDownsample, Shape, Validate

if TYPE_CHECKING:
    from dask_labelqc.method.outputs import Output, Part

__all__ = ["Options", "Parameters", "Ragged"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked of an audit, whatever its inputs; made and checked by `of`.

    Attributes
    ----------
    ignore_index
        Labels that take part in nothing.
    temperature
        Of the softmin.
    from_logits
        The predictions are logits.
    downsample
        Factor along every spatial axis.
    label_downsample
        How the label of a cell is found.
    validate
        What is checked while computing.
    outputs
        Those that are wanted.
    """

    ignore_index: tuple[int, ...] = ()
    temperature: float = 0.1
    from_logits: bool = False
    downsample: int = 1
    label_downsample: LabelDownsample = "mean"
    validate: Validate = "full"
    outputs: tuple[Output, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        ignore_index: int | Iterable[int] | None = None,
        temperature: float = 0.1,
        from_logits: bool = False,
        downsample: int = 1,
        label_downsample: LabelDownsample = "mean",
        validate: Validate = "full",
        outputs: tuple[Output, ...] = (),
    ) -> Options:
        """Check the arguments of a public function.

        Raises
        ------
        InputError
            Naming the argument, what it is, and what it may be.
        """
        for name, value, allowed in (
            ("label_downsample", label_downsample, get_args(LabelDownsample)),
            ("validate", validate, get_args(Validate)),
        ):
            if value not in allowed:
                raise InputError(f"{name}: got {value!r}, it must be one of {', '.join(allowed)}")
        if not (isinstance(temperature, Real) and 0 < temperature < math.inf):
            raise InputError(f"temperature: got {temperature!r}, it must be a number above 0")
        return cls(
            ignore_index=_ignored(ignore_index),
            temperature=float(temperature),
            from_logits=bool(from_logits),
            downsample=positive_integer("downsample", downsample),
            label_downsample=label_downsample,
            validate=validate,
            outputs=outputs,
        )


class Ragged(NamedTuple):
    """What there is of images of every size.

    Attributes
    ----------
    num_images, ndim
        N, and the spatial dimensions of each.
    """

    num_images: int
    ndim: int


@dataclass(frozen=True)
class Parameters(Format, Options):
    """What is asked of an audit of images, and the facts about these that the method needs.

    Attributes
    ----------
    shape
        Of what there is for each pixel: (N, *spatial), or (pixels,) of images of every size.
    ragged
        Of the latter.
    """

    ragged: Ragged | None = None

    @classmethod
    def of_table(
        cls,
        options: Options,
        table: ImageTable,
        num_classes: int,
        labels_dtype: np.dtype[np.generic],
        probs_dtype: np.dtype[np.generic],
        *,
        scale: float | None = None,
        class_names: Mapping[int, str] | None = None,
        fill_labels: tuple[int, ...] = (),
    ) -> Parameters:
        """Check options against images of every size; see `of_images`."""
        _check_classes(num_classes)
        table.coarsened(options.downsample)
        facts = options, labels_dtype, num_classes, probs_dtype, scale, class_names, fill_labels
        ragged = Ragged(table.num_images, table.ndim)
        return cls._checked((table.num_pixels,), *facts, ragged)

    @classmethod
    def of_images(
        cls,
        options: Options,
        labels_shape: Shape,
        labels_dtype: np.dtype[np.generic],
        probs_shape: Shape,
        probs_dtype: np.dtype[np.generic],
        *,
        scale: float | None = None,
        class_names: Mapping[int, str] | None = None,
        fill_labels: tuple[int, ...] = (),
    ) -> Parameters:
        """Check options against labels (N, *spatial) and pred_probs (N, K, *spatial).

        `fill_labels` are those that stand for no label where they are stored: they are ignored too.

        Raises
        ------
        InputError
            Naming the argument, what it is, and what it may be.
        """
        _check_shapes(labels_shape, probs_shape)
        num_classes = probs_shape[1]
        spatial_factors(options.downsample, labels_shape[1:])
        facts = options, labels_dtype, num_classes, probs_dtype, scale, class_names, fill_labels
        return cls._checked(labels_shape, *facts)

    @classmethod
    def _checked(
        cls,
        shape: Shape,
        options: Options,
        labels_dtype: np.dtype[np.generic],
        num_classes: int,
        probs_dtype: np.dtype[np.generic],
        scale: float | None,
        class_names: Mapping[int, str] | None,
        fill_labels: tuple[int, ...],
        ragged: Ragged | None = None,
    ) -> Parameters:
        # xarray decodes labels to floats where they have a fill value.
        check_dtypes(labels_dtype, probs_dtype, options.from_logits, label_kinds="iubf")
        check_scale(scale)
        warn_of_fill(set(fill_labels) - set(options.ignore_index), num_classes)
        asked = vars(options) | {"ignore_index": _ignored((*options.ignore_index, *fill_labels))}
        stored, names = stored_as(probs_dtype, scale), class_names or {}
        return cls(shape, num_classes, class_names=names, ragged=ragged, **stored, **asked)

    @property
    def pixel_bytes(self) -> int:
        return self.item_bytes

    @property
    def num_images(self) -> int:
        return self.ragged.num_images if self.ragged else self.shape[0]

    @property
    def factors(self) -> Shape:
        ndim = self.ragged.ndim if self.ragged else len(self.shape) - 1
        return (self.downsample,) * ndim

    @property
    def cells_shape(self) -> Shape:
        """(N, *spatial) of the downsampled grid, or (cells,)."""
        if self.ragged:
            return (self.shape[0] // math.prod(self.factors),)
        return (self.shape[0], *(n // self.downsample for n in self.shape[1:]))

    @property
    def bound(self) -> float:
        """The highest score that can be selected when all sums are within the tolerance.

        A pixel that disagrees has s <= m, so s <= (s + m) / 2 <= sum / 2, and at least as many
        pixels disagree as are selected.
        """
        return (1 + self.sum_tolerance) / 2

    @property
    def key_space(self) -> KeySpace:
        cells = math.prod(self.cells_shape)
        return KeySpace(8 * self.probability_dtype.itemsize, max((cells - 1).bit_length(), 1))

    def wants(self, name: str) -> bool:
        """Return whether an output is wanted."""
        return any(output.name == name for output in self.outputs)

    def parts(self, of: str, over: str) -> dict[str, Part]:
        """Return the parts of the wanted outputs by name; of pixels by that of the output."""
        return {
            output.name if over == "pixel" else part.name: part
            for output in self.outputs
            for part in output.parts
            if (part.of, part.over) == (of, over)
        }

    def attributes(self) -> dict[str, Any]:
        """Return the arguments of the audit as plain values."""
        return {
            "ignore_index": list(self.ignore_index),
            "temperature": self.temperature,
            "from_logits": self.from_logits,
            "probability_scale": self.scale,
            "downsample": self.downsample,
            "label_downsample": self.label_downsample,
            "validate": self.validate,
        }

    def scan_options(self, bound: float) -> ScanOptions:
        return ScanOptions(
            bound=bound,
            temperature=self.temperature if self.wants("image_score") else math.inf,
            from_logits=self.from_logits,
            check=self.validate == "full",
            scores=self.wants("pixel_scores"),
            predicted=self.wants("predicted_label"),
            factors=self.factors,
            majority=self.label_downsample == "majority",
            candidates=any(output.of("issues", "selection") for output in self.outputs),
        )


def _check_shapes(labels: Shape, probs: Shape) -> None:
    if len(labels) < 2:
        raise InputError(
            f"labels: got shape {labels}, it must be (N, *spatial) with 1 to 3 spatial dimensions"
        )
    if len(labels) > 4:
        raise InputError(f"labels: got shape {labels}, at most 3 spatial dimensions are supported")
    if len(probs) != len(labels) + 1:
        raise InputError(
            f"pred_probs: got shape {probs}, it must be (N, K, *spatial) with one dimension more "
            f"than labels, which have shape {labels}"
        )
    if (probs[0], *probs[2:]) != labels:
        raise InputError(
            f"pred_probs: got shape {probs}, it must be (N, K, *spatial) with the N and spatial "
            f"shape of labels {labels}"
        )
    if 0 in labels:
        raise InputError(f"labels: got shape {labels}, the dataset is empty")
    _check_classes(probs[1], f"got shape {probs}, ")


def _check_classes(num_classes: int, found: str = "got ") -> None:
    if num_classes < 2:
        raise InputError(f"pred_probs: {found}K = {num_classes} classes; it must be 2 up")


def _ignored(ignore_index: int | Iterable[int] | None) -> tuple[int, ...]:
    if ignore_index is None:
        return ()
    several = isinstance(ignore_index, Iterable) and not isinstance(ignore_index, str)
    values: tuple[Any, ...] = tuple(ignore_index) if several else (ignore_index,)  # type: ignore[arg-type]
    for value in values:
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise InputError(f"ignore_index: got {value!r}, it must be an integer or several")
    return tuple(sorted({int(value) for value in values}))
