"""Images in files, as the job takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from dask_labelqc.files.source import FileSource
from dask_labelqc.images import IMAGE, ImageTable, Span
from dask_labelqc.pipeline.image_source import ImageSource, SpanReads
from dask_labelqc.pipeline.stamps import Stamps, stamp
from dask_labelqc.storage.ahead import reading_ahead
from dask_labelqc.storage.coordinates import AFFINE
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["FileImages"]


@dataclass(frozen=True)
class FileImages(ImageSource):
    """Images in files; see `ImageSource`.

    Attributes
    ----------
    files
        What reads them.
    """

    files: FileSource

    @property
    def table(self) -> ImageTable:  # type: ignore[override]
        return self.files.table

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        return self.files.num_classes

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.files.dtype

    @property
    def scale(self) -> float | None:  # type: ignore[override]
        return self.files.scale

    @property
    def labels_dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.files.labels_dtype

    @property
    def fill_labels(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.files.fill_labels

    @property
    def class_names(self) -> Mapping[int, str]:  # type: ignore[override]
        return self.files.class_names

    @property
    def ahead(self) -> int:
        return self.files.ahead

    def read(self, image: int) -> tuple[AnyArray, AnyArray]:
        return self.files.read(image)

    @contextmanager
    def reading(self, span: Span, blocks: Iterable[Span]) -> Iterator[SpanReads]:
        with reading_ahead(self.read, span.numbers.tolist(), self.files.ahead) as images:

            def read(block: Span) -> tuple[AnyArray, AnyArray]:
                labels = np.empty(block.size, self.labels_dtype)
                stored = np.empty((self.num_classes, block.size), self.dtype)
                for part in block.parts(1):
                    (here,) = block.slices_of(part)
                    given, predicted = next(images)
                    labels[here] = given.reshape(-1)
                    stored[:, here] = predicted.reshape(self.num_classes, -1)
                return labels, stored

            yield SpanReads(read)

    def read_labels(self, span: Span) -> AnyArray:
        labels = [self.files.read_labels(number) for number in span.numbers.tolist()]
        return np.concatenate([each.reshape(-1) for each in labels])

    @property
    def places(self) -> Mapping[str, str]:
        return self.files.places

    def stamps(self, name: str, edges: Ints, images: Ints) -> Stamps | None:
        tags = list(self.files.tags(name))
        if None in tags:
            return None
        ids = self.table.ids.tolist()
        each = np.array([stamp(name, *of) for of in zip(ids, map(str, tags), strict=True)], "u8")
        return np.array([np.bitwise_xor.reduce(each[a:b]) for a, b in images.tolist()], "u8")

    def fingerprint(self) -> Mapping[str, Any]:
        return self.files.about()

    def coordinates(self) -> xr.Dataset:
        geometries = self.files.geometries
        if not any(geometries):
            return xr.Dataset()
        ndim = self.table.ndim
        unknown = np.full((ndim, ndim + 1), np.nan)
        affines = [unknown if each is None else np.array(each.affine) for each in geometries]
        found = xr.Dataset(
            coords={AFFINE: ((IMAGE, "world_axis", "index_axis"), np.stack(affines), MEANING)}
        )
        crs = {each.crs for each in geometries if each is not None and each.crs}
        if len(crs) != 1:
            return found
        text = crs.pop()
        return found.assign_coords(spatial_ref=((), 0, {"crs_wkt": text, "spatial_ref": text}))


MEANING = {"long_name": "from the index of a pixel's centre, and 1, to the world"}
