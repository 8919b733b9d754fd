"""Parquet files with encoded images in a column, by PyArrow."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dask_labelqc.errors import InputError
from dask_labelqc.files.class_colors import Colors
from dask_labelqc.files.formats import FileFormat, decode, needed, reading
from dask_labelqc.files.places import Locations, find_files
from dask_labelqc.files.reader import Form, Reader, Window
from dask_labelqc.typing import AnyArray

__all__ = ["ParquetImages"]

IDS = ("id", "image_id", "file_name", "name")
"""Columns that name the images."""
COLUMNS = {
    "labels": ("labels", "label", "mask", "annotation"),
    "pred_probs": ("pred_probs", "probabilities", "probs", "logits"),
}


class ParquetImages(Reader):
    """A row for each image: its id, and its pixels, encoded as in a file (PNG, TIFF, npy, npz).

    Parameters
    ----------
    location
        Of the files.
    side
        "labels" or "pred_probs".
    column
        With the pixels, as bytes, or as a struct with ``bytes``; one that is called like the side
        by default.
    colors, class_axis
        As of a `FileFormat`.
    storage_options
        Of the store.
    """

    def __init__(
        self,
        location: Locations,
        side: str,
        column: str | None = None,
        *,
        colors: Colors | None = None,
        class_axis: int = 0,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.side = side
        self._files = find_files(side, location, (".parquet",), storage_options)
        self._how: dict[str, Any] = {"colors": colors, "class_axis": class_axis}
        self._kept = _Kept()
        self._rows: dict[str, tuple[str, int, int]] = {}
        self._column = ""
        for file in self._files.ids:
            with reading(side, self._files.name(file)):
                self._look_into(file, column)
        self.ids = list(self._rows)

    def _look_into(self, file: str, column: str | None) -> None:
        """Learn which images a file has, and which of its groups of rows has each."""
        with self._files.open(file) as opened:
            table = _parquet(opened)
            names = table.schema_arrow.names
            id_column = _one_of(names, IDS, None)
            self._column = _one_of(names, COLUMNS[self.side], column)
            for group in range(table.num_row_groups):
                ids = table.read_row_group(group, columns=[id_column])[id_column].to_pylist()
                for row, value in enumerate(ids):
                    id = Path(value).stem if id_column == "file_name" else str(value)
                    if id in self._rows:
                        raise InputError(f"has the image {id!r}, which was there before")
                    self._rows[id] = file, group, row

    def name(self, id: str) -> str:
        """Return the file, and which image of it."""
        return f"{self._files.name(self._rows[id][0])}, image {id!r},"

    def tag(self, id: str) -> str | None:
        """Return what changes with the file."""
        return self._files.tag(self._rows[id][0])

    def about(self) -> Mapping[str, Any]:
        """Return which column is read, and how."""
        colors = self._how["colors"]
        about = {"reader": "parquet", "location": self._files.place, "column": self._column}
        return about | {"class_axis": self._how["class_axis"], "colors": colors and vars(colors)}

    def forms(self, ids: Sequence[str]) -> Iterator[Form | InputError]:
        """Yield the form of each image, one after the other: they lie in groups of rows."""
        yield from map(self.try_form, ids)

    def form(self, id: str) -> Form:
        """Return what the bytes of an image begin with."""
        with reading(self.side, self.name(id)):
            data = self._bytes(id)
            return self._format(data).form(io.BytesIO(data))

    def read(self, id: str, window: Window | None = None) -> AnyArray:
        """Decode an image."""
        with reading(self.side, self.name(id)):
            data = self._bytes(id)
            return self._format(data).read(io.BytesIO(data))

    def _format(self, data: bytes) -> FileFormat:
        return decode(data)(self.side == "pred_probs", **self._how)

    def _bytes(self, id: str) -> bytes:
        file, group, row = self._rows[id]
        if self._kept.place != (file, group):
            with self._files.open(file) as opened:
                column = _parquet(opened).read_row_group(group, columns=[self._column])
            self._kept.place, self._kept.column = (file, group), column[self._column]
        value = self._kept.column[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise InputError(f"has {type(data).__name__} in the column {self._column!r}, not bytes")
        return data


class _Kept(threading.local):
    """The rows that a thread has read last: the next image is most often one of them."""

    def __init__(self) -> None:
        self.place: tuple[str, int] | None = None
        self.column: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ()


def _parquet(file: Any) -> Any:
    return needed("pyarrow.parquet", "parquet", "Parquet").ParquetFile(file)


def _one_of(names: Sequence[str], usual: Sequence[str], wanted: str | None) -> str:
    found = [name for name in ((wanted,) if wanted else usual) if name in names]
    if not found:
        asked = repr(wanted) if wanted else " or ".join(map(repr, usual))
        raise InputError(f"has no column {asked}; it has {', '.join(names)}")
    return found[0]
