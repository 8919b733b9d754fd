"""What an audit asks of the images of one side: their ids, and the pixels of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from dask_labelqc.arguments import check_unicode
from dask_labelqc.errors import InputError, StoreError
from dask_labelqc.files.geometry import Geometry
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["Form", "ImageReader", "OwnReader", "Reader", "Window", "name_shape"]

Window: TypeAlias = tuple[slice, ...]
"""Of the spatial axes: a part of an image that is read alone."""

HEADERS_AT_ONCE = 16
"""Files whose sizes are looked at together: each is a request or two, and little work."""


@dataclass(frozen=True)
class Form:
    r"""What is known of an image without reading it.

    Attributes
    ----------
    shape
        (\*spatial) of labels, (K, \*spatial) of predictions.
    dtype
        As it is read; None if only reading it tells.
    geometry
        Where the pixels are, if the file says so.
    nodata
        The label that stands for none, if the file says so.
    scale
        By which stored integers are multiplied, if the file says so.
    """

    shape: Shape
    dtype: np.dtype[Any] | None = None
    geometry: Geometry | None = None
    nodata: int | None = None
    scale: float | None = None


@runtime_checkable
class ImageReader(Protocol):
    r"""Images of one side, labels or predictions: what a reader of your own has to have.

    It travels to the workers, so it must pickle. A method ``shape(id)``, if there is one, tells
    the shape of an image without reading it; an attribute ``class_names`` names the classes.

    Attributes
    ----------
    ids
        A text for each image; labels and predictions of the same image have the same.

    Examples
    --------
    >>> class Squares:
    ...     ids = ["a", "b"]
    ...
    ...     def read(self, id):
    ...         return np.zeros((4, 4), np.uint8)
    >>> isinstance(Squares(), ImageReader)
    True
    """

    @property
    def ids(self) -> Sequence[str]: ...

    def read(self, id: str) -> AnyArray:
        r"""Return labels (\*spatial), or predictions (K, \*spatial)."""


class Reader:
    """What the audit uses; the readers of the formats are such, and one of your own becomes one.

    Attributes
    ----------
    side
        "labels" or "pred_probs", which every error begins with.
    ids
        Of the images, in their order.
    class_names
        By class, if there are any.
    in_parts
        A part of an image can be read alone.
    ahead
        Images that are read while one is worked on.
    """

    side: str = "labels"
    ids: Sequence[str]
    class_names: Mapping[int, str] = {}
    in_parts: bool = False
    ahead: int = 0

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Return the pixels of an image, or of a part of it."""
        raise NotImplementedError

    def form(self, id: str) -> Form:
        """Return what is known of an image without reading all of it, if that can be."""
        image = self.read(id)
        return Form(image.shape, image.dtype)

    def name(self, id: str) -> str:
        """Return how an image is called in a message: the path or URL of its file."""
        return repr(id)

    def tag(self, id: str) -> str | None:
        """Return what changes with the image, None if nothing tells."""
        return None

    def about(self) -> Mapping[str, Any]:
        """Return what the pixels depend on besides the images, as plain values.

        That is the ``reader``, and the ``location`` of its files if it has any.
        """
        return {"reader": type(self).__name__}

    def forms(self, ids: Sequence[str]) -> Iterator[Form | InputError]:
        """Yield the form of each image, or why it cannot be read.

        Yields
        ------
        Form or InputError
            In the order of the ids.
        """
        with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
            yield from pool.map(self.try_form, ids)

    def try_form(self, id: str) -> Form | InputError:
        """Return the form of an image, or why it cannot be read."""
        try:
            return self.form(id)
        except InputError as error:
            return error
        except StoreError as error:
            return InputError(f"{self.side}: {error}")


class OwnReader(Reader):
    """A reader that a user wrote, with what else the audit asks.

    Parameters
    ----------
    reader
        With ``ids`` and ``read(id)``.
    side
        "labels" or "pred_probs".
    """

    def __init__(self, reader: ImageReader, side: str) -> None:
        self.reader, self.side = reader, side
        self.ids = [str(id) for id in reader.ids]
        for id in self.ids:
            check_unicode(side, id)
        self.class_names = dict(getattr(reader, "class_names", {}))

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Return the pixels of an image."""
        image = np.asarray(self.reader.read(id))
        whole: tuple[Any, ...] = (..., *(window or ()))
        return image[whole]

    def form(self, id: str) -> Form:
        """Return the shape of an image, if the reader has a method for it, or read it."""
        shape = getattr(self.reader, "shape", None)
        return Form(tuple(shape(id))) if callable(shape) else super().form(id)

    def forms(self, ids: Sequence[str]) -> Iterator[Form | InputError]:
        """Yield the form of each image, one after the other: who wrote it need not know threads."""
        yield from map(self.try_form, ids)

    def about(self) -> Mapping[str, Any]:
        """Return which class it is."""
        kind = type(self.reader)
        return {"reader": f"{kind.__module__}.{kind.__qualname__}"}


def name_shape(shape: Shape) -> str:
    """Name a shape in a message.

    Examples
    --------
    >>> name_shape((512, 640))
    '512 x 640'
    """
    return " x ".join(map(str, shape))
