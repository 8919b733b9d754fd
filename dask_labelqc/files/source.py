"""Labels and predictions in files, as the images of one dataset."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from dask_labelqc.arguments import positive_integer
from dask_labelqc.errors import InputError
from dask_labelqc.files.geometry import Geometry
from dask_labelqc.files.pairs import paired
from dask_labelqc.files.reader import Form, Reader, Window, name_shape
from dask_labelqc.files.resolution import Resolution
from dask_labelqc.images import ImageTable
from dask_labelqc.typing import AnyArray, Ints

__all__ = ["FileSource", "open_source"]

SIDES = ("labels", "pred_probs")


@dataclass(frozen=True, eq=False)
class FileSource:
    r"""Images of which labels and predictions are read from files; it travels with every task.

    Attributes
    ----------
    table
        The images, or the parts of images that are audited as such.
    labels, pred_probs
        Readers.
    resolution
        How predictions come to the pixels of the labels.
    num_classes, dtype, scale
        Of the predictions of the labels' pixels.
    labels_dtype
        Of the labels.
    fill_labels
        Those that stand for none.
    class_names
        By class, if there are any.
    starts
        int64 (N, d): the first pixel of each part; None if all images are whole.
    geometric
        The files of both say where their pixels are.
    geometries
        Of the images, as far as files tell; not for tasks.
    """

    table: ImageTable
    labels: Reader
    pred_probs: Reader
    resolution: Resolution
    num_classes: int
    dtype: np.dtype[Any]
    labels_dtype: np.dtype[Any]
    scale: float | None = None
    fill_labels: tuple[int, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)
    starts: Ints | None = None
    geometric: bool = False
    geometries: Sequence[Geometry | None] = ()

    def __getstate__(self) -> dict[str, Any]:
        state = {**vars(self), "packed": self.packed}
        return {**state, "geometries": (), "table": None, "starts": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ids, shapes, starts = _unpacked(state["packed"])
        vars(self).update(state, table=ImageTable(ids, shapes), starts=starts)

    @cached_property
    def packed(self) -> bytes:
        """The table and the starts, which every task brings: small, for names are much alike."""
        starts = np.zeros((0, 0), np.int64) if self.starts is None else self.starts
        file = io.BytesIO()
        np.savez_compressed(file, ids=self.table.ids, shapes=self.table.shapes, starts=starts)
        return file.getvalue()

    def read(self, image: int) -> tuple[AnyArray, AnyArray]:
        r"""Read labels (\*spatial) and predictions (K, \*spatial) of an image.

        Raises
        ------
        InputError
            A file is damaged, or the two do not fit; names the file.
        """
        labels = self.read_labels(image)
        return labels, self._predicted(*self.place(image))

    def read_labels(self, image: int) -> AnyArray:
        r"""Read the labels (\*spatial) of an image."""
        id, window = self.place(image)
        given = self.labels.read(id, None if self.starts is None else window)
        shape = tuple(self.table.shapes[image].tolist())
        if given.shape != shape:
            raise InputError(
                f"labels: {self.labels.name(id)} has {name_shape(given.shape)} pixels, and its "
                f"head, or its partner, says {name_shape(shape)}"
            )
        return self._labels(given, id)

    @property
    def ahead(self) -> int:
        """Images that are read while one is worked on."""
        return max(self.labels.ahead, self.pred_probs.ahead)

    @property
    def places(self) -> dict[str, str]:
        """Where labels and predictions are."""
        about = {side: getattr(self, side).about() for side in SIDES}
        return {side: str(of.get("location", of["reader"])) for side, of in about.items()}

    def place(self, image: int) -> tuple[str, Window]:
        """Return the id that an image has in its files, and which part of these it is."""
        id, shape = str(self.table.ids[image]), self.table.shapes[image].tolist()
        if self.starts is None:
            return id, tuple(slice(0, n) for n in shape)
        start = self.starts[image].tolist()
        return id.rpartition("@")[0], tuple(
            slice(a, a + n) for a, n in zip(start, shape, strict=True)
        )

    def tags(self, side: str) -> Iterator[str | None]:
        """Yield what changes with the labels or predictions of each image, None if not known."""
        reader: Reader = getattr(self, side)
        for image in range(self.table.num_images):
            yield reader.tag(self.place(image)[0])

    def about(self) -> dict[str, Any]:
        """Return what the images are made of, besides their sizes and ids, as plain values."""
        about: dict[str, Any] = {**vars(self.resolution), "tiled": self.starts is not None}
        about |= {side: dict(getattr(self, side).about()) for side in SIDES}
        plain: dict[str, Any] = json.loads(json.dumps(about, default=str))
        return plain

    def _labels(self, given: AnyArray, id: str) -> AnyArray:
        same = given.astype(self.labels_dtype, copy=False)
        if given.dtype != self.labels_dtype and not np.array_equal(same, given):
            raise InputError(
                f"labels: {self.labels.name(id)} has {given.dtype}, others have "
                f"{self.labels_dtype}, which cannot hold all of it"
            )
        return same

    def _predicted(self, id: str, window: Window) -> AnyArray:
        reader, shape = self.pred_probs, tuple(part.stop for part in window)
        if self._plain:
            values = reader.read(id)
            self.resolution.check(reader, id, Form(values.shape), Form(shape))
        else:
            form, own = reader.form(id), self.labels.form(id)
            values = self.resolution.read(reader, id, form, window, own)
        if len(values) != self.num_classes:
            raise InputError(
                f"pred_probs: {reader.name(id)} has {len(values)} classes, others have "
                f"{self.num_classes}"
            )
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype != self.dtype:
            raise InputError(
                f"pred_probs: {reader.name(id)} has {values.dtype}, others have {self.dtype}"
            )
        return values

    @property
    def _plain(self) -> bool:
        """Whether predictions are read as they are, without a look at their form."""
        return self.starts is None and not self.resolution.changes and not self.geometric


def _unpacked(packed: bytes) -> tuple[AnyArray, Ints, Ints | None]:
    with np.load(io.BytesIO(packed)) as found:
        ids, shapes, starts = (found[name] for name in ("ids", "shapes", "starts"))
    return ids, shapes, starts if starts.size else None


def open_source(
    labels: Reader,
    pred_probs: Reader,
    resolution: Resolution,
    *,
    tile: int | None = None,
    keep_going: bool = False,
) -> FileSource:
    """Pair images, look at their sizes, and cut those that are to be cut.

    Parameters
    ----------
    labels, pred_probs
        Readers.
    resolution
        How predictions come to the pixels of the labels.
    tile
        Larger images are cut into parts of so many pixels along each axis, which count as images.
    keep_going
        Take the size of what cannot be read from its partner; reading it will fail again.

    Raises
    ------
    InputError
        There are no pairs, or a file cannot be read.
    """
    ids = paired(labels, pred_probs).ids
    forms = _forms(labels, pred_probs, ids, resolution, keep_going)
    sizes = {len(form.shape) for form in forms}
    if len(sizes) > 1 or not sizes <= {1, 2, 3}:
        odd = next((i for i, f in enumerate(forms) if len(f.shape) not in (1, 2, 3)), 0)
        other = next((i for i, f in enumerate(forms) if len(f.shape) != len(forms[odd].shape)), odd)
        raise InputError(
            f"labels: {labels.name(ids[odd])} has shape {forms[odd].shape}, and "
            f"{labels.name(ids[other])} {forms[other].shape}; all must have the same 1 to 3 "
            "dimensions"
        )
    predicted = _first_form(pred_probs, ids, keep_going)
    assert predicted.dtype is not None
    dtype = resolution.dtype(predicted.dtype.newbyteorder("="))
    table = ImageTable.of(ids, [form.shape for form in forms])
    source = FileSource(
        table,
        labels,
        pred_probs,
        resolution,
        predicted.shape[0],
        dtype,
        _labels_dtype(labels, ids, forms, keep_going),
        predicted.scale if dtype.kind in "ui" else None,
        _nodata(labels, ids, forms),
        labels.class_names or pred_probs.class_names,
        geometries=[form.geometry for form in forms],
        geometric=any(form.geometry for form in forms) and predicted.geometry is not None,
    )
    return source if tile is None else _tiled(source, positive_integer("tile", tile))


def _forms(
    labels: Reader,
    pred_probs: Reader,
    ids: Sequence[str],
    resolution: Resolution,
    keep_going: bool,
) -> list[Form]:
    """Return the form of the labels of each image."""
    found = list(labels.forms(ids))
    bad = [i for i, form in enumerate(found) if isinstance(form, InputError)]
    if bad and (not keep_going or len(bad) == len(found)):
        error = found[bad[0]]
        assert isinstance(error, InputError)
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise InputError(f"{error.message}{more}", error.advice) from error
    known = [form for form in found if not isinstance(form, InputError)]
    ndim = len(known[0].shape)
    for i in bad:
        other = pred_probs.try_form(ids[i])
        fits = not isinstance(other, InputError) and len(other.shape) == ndim + 1
        shape = (1,) * ndim
        if fits and not resolution.resample:
            assert isinstance(other, Form)
            shape = tuple(n * resolution.upsample for n in other.shape[1:])
        found[i] = replace(known[0], shape=shape, geometry=None)
    return [form for form in found if isinstance(form, Form)]


def _first_form(reader: Reader, ids: Sequence[str], keep_going: bool) -> Form:
    """Return the form of the first predictions that can be read, with their dtype."""
    first: InputError | None = None
    for id in ids:
        form = reader.try_form(id)
        try:
            if isinstance(form, InputError):
                raise form
            if form.dtype is None:
                image = reader.read(id)
                form = replace(form, shape=image.shape, dtype=image.dtype)
            if not form.shape:
                raise InputError(f"{reader.side}: {reader.name(id)} has one number")
            if reader.side == "pred_probs" and form.shape[0] < 2:
                raise InputError(
                    f"pred_probs: {reader.name(id)} has shape {form.shape}, K = {form.shape[0]} "
                    "classes; it must be (K, *spatial) with 2 classes or more, and class_axis says "
                    "which axis that of the classes is"
                )
            return form
        except InputError as error:
            if not keep_going:
                raise
            first = first or error
    assert first is not None
    raise first


def _labels_dtype(
    reader: Reader, ids: Sequence[str], forms: Sequence[Form], keep_going: bool
) -> np.dtype[Any]:
    """Return a dtype that has room for the labels, as far as their files tell."""
    told = {form.dtype.newbyteorder("=") for form in forms if form.dtype is not None}
    if not told:
        first = _first_form(reader, ids, keep_going).dtype
        assert first is not None
        told = {first.newbyteorder("=")}
    common: np.dtype[Any] = np.result_type(*told)
    return np.dtype(np.uint8) if common.kind == "b" else common


def _nodata(reader: Reader, ids: Sequence[str], forms: Sequence[Form]) -> tuple[int, ...]:
    """Return the label that stands for none; files that say two of them mean different things."""
    found: dict[int, int] = {}
    for i, form in enumerate(forms):
        if form.nodata is not None:
            found.setdefault(form.nodata, i)
    if len(found) > 1:
        (one, i), (two, k) = list(found.items())[:2]
        raise InputError(
            f"labels: {reader.name(ids[i])} has {one} for no data, and {reader.name(ids[k])} "
            f"{two}; one label must stand for none in all"
        )
    return tuple(found)


def _tiled(source: FileSource, tile: int) -> FileSource:
    """Cut images that are larger into parts, each with the id of its image and its first pixel."""
    for reader in (source.labels, source.pred_probs):
        if not reader.in_parts:
            raise InputError(
                f"tile: {reader.name(source.table.ids[0])} cannot be read in parts, which GeoTIFF "
                "and Zarr can"
            )
    ids, starts, shapes, geometries = [], [], [], []
    for id, shape, geometry in zip(
        source.table.ids.tolist(), source.table.shapes.tolist(), source.geometries, strict=True
    ):
        for start in product(*(range(0, n, tile) for n in shape)):
            ids.append(f"{id}@{','.join(map(str, start))}")
            starts.append(start)
            shapes.append([min(tile, n - a) for n, a in zip(shape, start, strict=True)])
            geometries.append(geometry and geometry.shifted(start))
    table, first = ImageTable.of(ids, shapes), np.array(starts, np.int64)
    return replace(source, table=table, starts=first, geometries=geometries)
