"""How arrays line up: dimensions by name, the positions along them by label.

Names are matched wherever both arrays have names, labels wherever both have an index along a
dimension that they share. Where one has none, positions decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from dask_labelqc.errors import InputError, advise
from dask_labelqc.storage.dimensions import Dimensions
from dask_labelqc.storage.layout import Layout, Order
from dask_labelqc.typing import Shape

__all__ = ["ClassDim", "ImageDim", "Lineup", "line_up"]

ImageDim: TypeAlias = "str | int | Literal[False] | None"
"""Name or axis of the dimension that counts the images; False if there is none."""
ClassDim: TypeAlias = "str | int | None"

SPATIAL_NAMES = frozenset(
    {"x", "y", "z", "h", "w", "height", "width", "depth", "row", "rows", "col", "cols", "column"}
    | {"columns", "line", "lines", "lat", "lon", "latitude", "longitude", "rlat", "rlon", "xc"}
    | {"yc", "northing", "easting", "south_north", "west_east", "level", "lev", "altitude"}
    | {"projection_x_coordinate", "projection_y_coordinate"}
)
"""Names of dimensions along which places lie, in lower case."""
CLASS_NAMES = frozenset({"class", "classes", "category", "band", "bands", "channel", "c"})
"""Names of the classes' dimension, where only the predictions have names."""
ROUNDING = 1e-6
"""Labels that differ by less than that, relative to the largest, look as if they were rounded."""


@dataclass(frozen=True)
class Lineup:
    r"""How the arrays of a call are seen, so that the same place is the same index in all.

    Attributes
    ----------
    pixels
        Of each array (N, \*spatial); the first decides the order.
    pred_probs
        Of the predictions, if there are any.
    image_dim, class_dim
        Name of the dimension, or axis where there are no names; None for the images of one scene.
    """

    pixels: tuple[Layout, ...]
    pred_probs: Layout
    image_dim: Hashable | None = 0
    class_dim: Hashable | None = 1

    @property
    def labels(self) -> Layout:
        return self.pixels[-1]

    @property
    def one_scene(self) -> bool:
        """Whether there is no dimension of images."""
        return self.image_dim is None

    def attributes(self) -> dict[str, Any]:
        """Return what was decided as plain values, for the attributes of an output."""
        named = {"image_dim": self.image_dim, "class_dim": self.class_dim}
        return {key: _plain("none" if dim is None else dim) for key, dim in named.items()}

    def fingerprint(self) -> dict[str, Any]:
        """Return what the values of an output depend on, as plain values."""
        layouts = {"labels": self.labels, "pred_probs": self.pred_probs}
        found = {f"{name}.axes": layout.axes for name, layout in layouts.items()}
        return {**found, "pred_probs.order": _digest(self.pred_probs.order)}


def _plain(dim: Hashable) -> str | int:
    return dim if isinstance(dim, int) else str(dim)


def _digest(orders: Iterable[Order]) -> str | None:
    """Return a hash of how positions are taken, None if all are taken as they are."""
    if all(order is None for order in orders):
        return None
    hashed = hashlib.sha256()
    for order in orders:
        positions = np.empty(0, "<i8") if order is None else np.asarray(order, "<i8")
        hashed.update(len(positions).to_bytes(8, "little") + positions.tobytes())
    return hashed.hexdigest()[:16]


def line_up(
    pixels: Sequence[Dimensions],
    pred_probs: Dimensions | None = None,
    *,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> Lineup:
    r"""Find out how arrays line up; shapes that do not fit are left for others to find.

    Parameters
    ----------
    pixels
        Labels and whatever else has one value for each pixel; the others follow the first.
    pred_probs
        With one dimension more, that of the classes.
    image_dim
        Name, or axis of the first array, of the dimension that counts the images; False if there
        is none. By default the first one, unless its name is that of a place; without names,
        unless labels are 2-D and the predictions are (K, H, W) and cannot be (N, K, W).
    class_dim
        Name, or axis of the predictions, of the classes' dimension. By default that which only
        the predictions have, or where only they have names the one called as classes are; without
        names the first of one scene, otherwise the one after the images.

    Raises
    ------
    InputError
        Dimensions or the labels along them differ, or it is unclear which one is which.
    """
    frame = _Frame(pixels[0])
    others = [*pixels[1:], *([] if pred_probs is None else [pred_probs])]
    extra = [other is pred_probs for other in others]
    ndim = len(frame.base.shape)
    if any(len(o.shape) != ndim + e for o, e in zip(others, extra, strict=True)):
        layouts = [Layout.plain(len(a.shape)) for a in (*pixels, *others[-1:])]
        return Lineup(tuple(layouts[: len(pixels)]), layouts[-1])
    axes = [frame.add(other) for other in pixels[1:]]
    if pred_probs is None:
        image, classes = _image_axis(frame, None, None, image_dim), None
    else:
        classes = _class_axis(frame, pred_probs, class_dim)
        if frame.names is None and classes is not None:
            frame.name(_without(pred_probs.names, classes))
        image = _image_axis(frame, pred_probs, classes, image_dim)
        if classes is None:
            classes = 0 if image is None else image + 1
        axes.append(frame.axes_of(pred_probs, classes))
        _check_scene(frame, pred_probs, classes, image)
    seen = [None if image is None else image, *(a for a in range(ndim) if a != image)]
    whole = tuple(range(ndim))
    layouts = [
        _layout(seen, own, frame.orders(other), classes if other is pred_probs else None)
        for other, own in zip((frame.base, *others), (whole, *axes), strict=True)
    ]
    return Lineup(
        tuple(layouts[: len(pixels)]),
        layouts[-1],
        None if image is None else _name(frame.names, image),
        None if classes is None or pred_probs is None else _name(pred_probs.names, classes),
    )


class _Frame:
    """The dimensions of the first array, and what the others know of them besides."""

    def __init__(self, base: Dimensions) -> None:
        self.base = base
        self.names = base.names
        self.members = [base]

    def name(self, names: tuple[Hashable, ...] | None) -> None:
        """Take over names, if there are none yet."""
        self.names = self.names or names

    def add(self, other: Dimensions) -> Shape:
        """Take up an array with the same dimensions; return which axis of it each is."""
        axes = self.axes_of(other)
        self.name(other.names)
        self.members.append(other)
        return axes

    def axes_of(self, other: Dimensions, without: int | None = None) -> Shape:
        """Return which axis of another array each of the dimensions is."""
        left = [axis for axis in range(len(other.shape)) if axis != without]
        if self.names is None or other.names is None:
            return tuple(left)
        found = {other.names[axis]: axis for axis in left}
        if found.keys() != set(self.names):
            raise self.differing(other, "" if without is None else " and one for the classes")
        return tuple(found[name] for name in self.names)

    def differing(self, other: Dimensions, more: str) -> InputError:
        named = next(member for member in self.members if member.names is not None)
        return InputError(
            f"{other.argument}: got dimensions {other.names}, they must be those of "
            f"{named.argument} {named.names}{more}; rename them where they mean the same"
        )

    def orders(self, other: Dimensions) -> tuple[Order, ...]:
        """Return which positions of another array are those of the first, along each dimension."""
        if self.names is None or other.names is None or other is self.base:
            return (None,) * len(self.base.shape)
        return tuple(self._order(other, name) for name in self.names)

    def _order(self, other: Dimensions, name: Hashable) -> Order:
        for member in self.members:
            if member is other or member.shares_coordinates(other):
                return None
            if (index := member.index(name)) is not None:
                found = other.index(name)
                return None if found is None else _order_of(index, found, name, member, other)
        return None


def _layout(
    seen: Sequence[int | None], own: Shape, orders: Sequence[Order], classes: int | None
) -> Layout:
    axes = [None if axis is None else own[axis] for axis in seen]
    order = [None if axis is None else orders[axis] for axis in seen]
    if classes is not None:
        axes.insert(1, classes)
        order.insert(1, None)
    return Layout(tuple(axes), tuple(order))


def _name(names: tuple[Hashable, ...] | None, axis: int) -> Hashable:
    return axis if names is None else names[axis]


def _without(names: tuple[Hashable, ...] | None, axis: int) -> tuple[Hashable, ...] | None:
    return None if names is None else names[:axis] + names[axis + 1 :]


def _axis(value: Any, argument: str, array: Dimensions, names: tuple[Hashable, ...] | None) -> int:
    """Return the axis that an argument names or counts."""
    if names is not None and value in names:
        return names.index(value)
    ndim = len(array.shape)
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if integer and -ndim <= value < ndim:
        return int(value) % ndim
    known = f"one of {names}, or " if names is not None else ""
    raise InputError(
        f"{argument}: got {value!r}, it must be {known}an axis of {array.argument} of shape "
        f"{array.shape}"
    )


def _class_axis(frame: _Frame, pred_probs: Dimensions, class_dim: ClassDim) -> int | None:
    """Return which axis of the predictions is that of the classes, None if names do not say."""
    names = pred_probs.names
    if class_dim is not None:
        return _axis(class_dim, "class_dim", pred_probs, names)
    if names is None:
        return None
    if frame.names is None:
        known = [axis for axis, name in enumerate(names) if str(name).casefold() in CLASS_NAMES]
        return known[0] if len(known) == 1 else None
    extra = [axis for axis, name in enumerate(names) if name not in frame.names]
    if len(extra) != 1:
        raise frame.differing(pred_probs, " and one for the classes")
    return extra[0]


def _image_axis(
    frame: _Frame, pred_probs: Dimensions | None, classes: int | None, image_dim: ImageDim
) -> int | None:
    """Return which axis counts the images, None if there is none."""
    if image_dim is False:
        return None
    if image_dim is not None:
        return _axis(image_dim, "image_dim", frame.base, frame.names)
    if frame.names is not None:
        return _image_axis_of(frame.names, frame.base.argument)
    shape = frame.base.shape
    if pred_probs is not None and classes is None and len(shape) == 2:
        probs = pred_probs.shape
        return None if probs[1:] == shape != (probs[0], *probs[2:]) else 0
    if classes == 0:
        raise InputError(
            f"image_dim: {frame.base.argument} of shape {shape} may be {shape[0]} images or one "
            "scene",
            advise("say which: {image_dim}", image_dim=[0, False]),
        )
    return 0


def _image_axis_of(names: tuple[Hashable, ...], argument: str) -> int | None:
    other = [name for name in names if str(name).casefold() not in SPATIAL_NAMES]
    if not other:
        return None
    if names[0] == other[0]:
        return 0
    raise InputError(
        f"image_dim: {argument} has dimensions {names}; whether {other[0]!r} counts images is not "
        "clear",
        advise("say {image_dim}, the last for one scene", image_dim=[other[0], False]),
    )


def _check_scene(frame: _Frame, pred_probs: Dimensions, classes: int, image: int | None) -> None:
    """Raise InputError if predictions do not have the shape of one scene that is said to be one."""
    left = tuple(n for axis, n in enumerate(pred_probs.shape) if axis != classes)
    wanted = frame.base.shape
    if image is None and sorted(left) != sorted(wanted):
        raise InputError(
            f"pred_probs: got shape {pred_probs.shape}, it must be (K, *spatial) for one scene: "
            f"{frame.base.argument} of shape {wanted}",
            advise("{image_dim} names the dimension of images, if there is one", image_dim=...),
        )


def _order_of(
    index: pd.Index[Any], other: pd.Index[Any], name: Hashable, one: Dimensions, two: Dimensions
) -> Order:
    """Return where along its dimension the other array has the labels of the first."""
    if index.equals(other):
        return None
    for labels, array in ((index, one), (other, two)):
        if not labels.is_unique:
            twice = _said(labels[labels.duplicated()][0])
            raise InputError(
                f"{array.argument}: the label {twice} stands along {name!r} more than once, and "
                f"{one.argument} and {two.argument} do not have the same labels in the same order; "
                f"make them unique, or drop this coordinate of one to go by position"
            )
    found = other.get_indexer(index)
    if len(index) != len(other) or (found < 0).any():
        raise _differing_labels(index, other, name, one, two)
    if (np.diff(found) == 1).all():
        return None  # the same but for the dtype
    if (np.diff(found) == -1).all():
        return range(len(found) - 1, -1, -1)
    return found.astype(np.min_scalar_type(len(found)))


def _differing_labels(
    index: pd.Index[Any], other: pd.Index[Any], name: Hashable, one: Dimensions, two: Dimensions
) -> InputError:
    found = [
        f"{len(only)} of {len(own)} that {array.argument} has are not in {another.argument}, the "
        f"first is {_said(only[0])}"
        for own, only, array, another in (
            (index, index[~index.isin(other)], one, two),
            (other, other[~other.isin(index)], two, one),
        )
        if len(only)
    ]
    advice = (
        f"select the same ones of both (xarray.align(..., join='inner')), or drop the coordinate "
        f"{name!r} of one to go by position"
    )
    return InputError(
        f"{two.argument}: the labels along {name!r} differ from those of {one.argument}: "
        f"{'; '.join(found)}{_rounded(index, other)}; {advice}"
    )


def _rounded(index: pd.Index[Any], other: pd.Index[Any]) -> str:
    """Say so where labels differ as if they had been rounded."""
    if len(index) != len(other) or {index.dtype.kind, other.dtype.kind} - set("fiu"):
        return ""
    a, b = (np.sort(np.asarray(i, np.float64)) for i in (index, other))
    gap = np.abs(a - b).max()
    if not gap <= ROUNDING * np.abs(a).max():
        return ""
    return (
        f"; none is off by more than {gap:.2g}, so they may be the same but for rounding: give "
        "both the same numbers (assign_coords)"
    )


def _said(label: Any) -> str:
    plain = label.item() if isinstance(label, np.generic) else label
    return repr(plain) if isinstance(plain, str) else str(plain)
