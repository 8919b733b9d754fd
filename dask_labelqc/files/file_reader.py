"""The files of a folder, one for each image, and how they are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_labelqc.files.formats import FileFormat, reading
from dask_labelqc.files.places import Files
from dask_labelqc.files.reader import Form, Reader, Window
from dask_labelqc.storage.ahead import reads_ahead
from dask_labelqc.typing import AnyArray

__all__ = ["FileReader"]


class FileReader(Reader):
    """Files with one image each.

    Parameters
    ----------
    side
        "labels" or "pred_probs".
    files
        By the ids of the images.
    format
        Of all of them.
    """

    def __init__(self, side: str, files: Files, format: FileFormat) -> None:
        self.side, self.files, self.format = side, files, format
        self.ids, self.ahead = files.ids, reads_ahead(files.store)
        self.class_names = dict(format.colors.names) if format.colors else {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "ids"}

    @property
    def in_parts(self) -> bool:  # type: ignore[override]
        """Whether the format has parts that are read alone."""
        return self.format.in_parts

    def name(self, id: str) -> str:
        """Return the path or URL of a file."""
        return self.files.name(id)

    def tag(self, id: str) -> str | None:
        """Return what changes with a file."""
        return self.files.tag(id)

    def about(self) -> Mapping[str, Any]:
        """Return where the files are, and how they are decoded."""
        colors = self.format.colors
        return {
            "reader": type(self.format).__name__,
            "location": self.files.place,
            "colors": None if colors is None else [colors.packed, colors.classes],
            "class_axis": self.format.class_axis,
        }

    def form(self, id: str) -> Form:
        """Return what the head of a file tells."""
        with reading(self.side, self.name(id)), self.files.open(id) as file:
            return self.format.form(file)

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Read a file, or a part of it."""
        with reading(self.side, self.name(id)):
            if window is not None and self.in_parts:
                with self.files.open(id) as file:
                    return self.format.read(file, window)
            with self.files.read(id) as file:
                image = self.format.read(file)
            whole: tuple[Any, ...] = (..., *(window or ()))
            return image[whole]
