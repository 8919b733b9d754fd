"""Predictions that lie in files as they are, read piece by piece as they are scanned.

A whole chunk would pass through memory twice, into its buffer and out of it again; a piece is in
the cache when it is scanned.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Self

import numpy as np

from dask_labelqc.typing import AnyArray, Shape

__all__ = ["FilePlanes"]


class FilePlanes:
    """Numbers (n, K, *spatial), whose images lie one after the other in files.

    Attributes
    ----------
    shape, dtype
        Of all.
    seconds
        For which files were read so far.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        decoding: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.shape, self.dtype, self.seconds = shape, dtype, 0.0
        self._decoding = decoding
        self._images: list[tuple[int, int]] = []
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._files.close()

    def add(self, path: str, images: range, chunk: Sequence[int]) -> bool:
        """Add images of a chunk; say if it is there, as long as it should be."""
        try:
            file = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return False
        self._files.callback(os.close, file)
        size = math.prod(chunk[1:]) * self.dtype.itemsize
        self._images += [(file, image * size) for image in images]
        return os.fstat(file).st_size == chunk[0] * size

    def read(self, image: int, start: int, target: AnyArray) -> None:
        """Read pixels of an image, from a flat position on, into memory (K, L)."""
        begun = time.perf_counter()
        (file, offset), item = self._images[image], self.dtype.itemsize
        pixels = math.prod(self.shape[2:])
        with self._decoding():
            for k, row in enumerate(target):
                place = offset + (k * pixels + start) * item
                if os.preadv(file, [row], place) != row.nbytes:
                    raise EOFError("it has become shorter")
        self.seconds += time.perf_counter() - begun

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        images, num_classes, *spatial = self.shape
        whole = np.empty((images, num_classes, math.prod(spatial)), self.dtype)
        for image in range(images):
            self.read(image, 0, whole[image])
        return whole.reshape(self.shape).astype(dtype or self.dtype, copy=False)
