"""Formats of files that hold one image each: a few lines over the library of each.

A format says what is in a file without reading all of it (`form`), and reads it (`read`). The
libraries are imported where they are used.
"""

from __future__ import annotations

import gzip
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from dask_labelqc.errors import InputError, LabelQCError, advise
from dask_labelqc.files.class_colors import Colors, classes_of_colors
from dask_labelqc.files.geometry import Geometry
from dask_labelqc.files.reader import Form, Window
from dask_labelqc.typing import AnyArray, Shape

__all__ = [
    "FORMATS",
    "FileFormat",
    "GeoTiff",
    "Nifti",
    "Npy",
    "Npz",
    "Picture",
    "Tiff",
    "decode",
    "needed",
    "reading",
]

NPZ_NAMES = ("pred_probs", "probabilities", "probs", "softmax", "labels", "arr_0")
"""Names of the array of a file that has several."""
PICTURE_DTYPES = {
    **dict.fromkeys(("1", "L", "P"), "u1"),
    **dict.fromkeys(("I;16", "I;16B", "I;16L"), "u2"),
    "I": "i4",
    "F": "f4",
}
"""Of the modes of Pillow that are one number a pixel."""
BYTE_ORDERS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def needed(name: str, extra: str, what: str) -> Any:
    """Import what reads a format.

    Raises
    ------
    ImportError
        It is not installed; the message has the line to type.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("PIL", "pillow")
        raise ImportError(f'{what} needs {package}: pip install "dask-labelqc[{extra}]"') from error


@contextmanager
def reading(side: str, name: str) -> Iterator[None]:
    """Say which file it was that could not be read.

    Raises
    ------
    InputError
        With the side and the name.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{side}: {name} {error.message}", error.advice) from error
    except (LabelQCError, ImportError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{side}: {name} is not there") from error
    except Exception as error:  # whatever a library raises over a file that was cut short
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{side}: {name} cannot be read: {reason}") from error


@dataclass(frozen=True)
class FileFormat:
    """How a file is decoded.

    Attributes
    ----------
    classes
        The files are predictions: one of the axes is that of the classes.
    colors
        Of the classes, where labels are colours.
    class_axis
        Of predictions, which of the stored axes.
    """

    classes: bool = False
    colors: Colors | None = None
    class_axis: int = 0

    suffixes: ClassVar[tuple[str, ...]] = ()
    in_parts: ClassVar[bool] = False

    def form(self, file: BinaryIO) -> Form:
        """Return what is known of an image from the head of its file."""
        raise NotImplementedError

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return the pixels, of predictions with the classes first."""
        raise NotImplementedError

    def _classes_first(self, image: AnyArray) -> AnyArray:
        if not self.classes:
            return image
        self._check_axis(image.ndim)
        return np.moveaxis(image, self.class_axis, 0)

    def _classes_first_of(self, shape: Shape) -> Shape:
        if not self.classes:
            return shape
        self._check_axis(len(shape))
        sizes = list(shape)
        return (sizes.pop(self.class_axis), *sizes)

    def _check_axis(self, ndim: int) -> None:
        if not -ndim <= self.class_axis < ndim:
            raise InputError(f"has {ndim} dimensions, and class_axis is {self.class_axis}")


class Picture(FileFormat):
    """PNG and other pictures, by Pillow: of a palette the indices, or colours."""

    suffixes = (".png", ".bmp", ".gif", ".webp")

    def form(self, file: BinaryIO) -> Form:
        """Return the size."""
        image = self._open(file)
        stored = PICTURE_DTYPES.get(image.mode)
        dtype = None if stored is None else np.dtype(stored)
        return Form((image.height, image.width), self.colors.dtype if self.colors else dtype)

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return class ids."""
        image = self._open(file)
        if self.colors is not None:
            return classes_of_colors(np.asarray(image.convert("RGB")), self.colors)
        if image.mode not in PICTURE_DTYPES:
            raise InputError(
                f"is a picture of mode {image.mode}, whose colours say nothing of classes",
                advise("{class_colors} says which colour is which class", class_colors="FILE"),
            )
        return whole_numbers(np.asarray(image))

    def _open(self, file: BinaryIO) -> Any:
        if self.classes:
            raise InputError(
                "is a picture; predictions are .npy, .npz, .tif, .nii, Zarr or Parquet"
            )
        return needed("PIL.Image", "files", "a picture").open(file)


class Tiff(FileFormat):
    """TIFF, by tifffile: labels of two or three dimensions, or a band for each class."""

    suffixes = (".tif", ".tiff")

    def form(self, file: BinaryIO) -> Form:
        """Return shape and dtype."""
        with self._open(file) as opened:
            series = opened.series[0]
            sizes, dtype = list(series.shape), np.dtype(series.dtype)
            if self.classes:
                return Form((sizes.pop(self._axis(series)), *sizes), dtype)
            if self.colors is not None and "S" in series.axes:
                del sizes[series.axes.index("S")]
                dtype = self.colors.dtype
            return Form(tuple(sizes), dtype)

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return class ids or predictions."""
        with self._open(file) as opened:
            series = opened.series[0]
            image = np.asarray(series.asarray())
            if self.classes:
                return np.moveaxis(image, self._axis(series), 0)
            if self.colors is not None and "S" in series.axes:
                rgb = np.moveaxis(image, series.axes.index("S"), -1)
                return classes_of_colors(rgb[..., :3], self.colors)
            if "S" in series.axes:
                raise InputError(
                    f"has {image.shape[series.axes.index('S')]} samples a pixel",
                    advise("{class_colors} says which colour is which class", class_colors="FILE"),
                )
            return whole_numbers(image)

    def _axis(self, series: Any) -> int:
        """Return the axis of the classes: the samples of a pixel, or as it was said."""
        axes = str(series.axes)
        if self.class_axis == 0 and "S" in axes:
            return axes.index("S")
        self._check_axis(len(axes))
        return self.class_axis

    def _open(self, file: BinaryIO) -> Any:
        return needed("tifffile", "files", "TIFF").TiffFile(file)


class GeoTiff(FileFormat):
    """GeoTIFF and cloud-optimised GeoTIFF, by rasterio: bands are classes; parts are read alone."""

    suffixes = (".tif", ".tiff")
    in_parts = True

    def form(self, file: BinaryIO) -> Form:
        """Return shape, dtype, where it is, and which label stands for none."""
        with self._open(file) as raster:
            shape = (raster.height, raster.width)
            bands = (raster.count,) if self.classes else ()
            a, b, c, d, e, f = raster.transform[:6]
            rows = ((b, a, c + (a + b) / 2), (e, d, f + (d + e) / 2), (0, 0, 1))
            crs = "" if raster.crs is None else raster.crs.to_wkt()
            known = bool(crs) or not raster.transform.is_identity
            geometry = Geometry.of(rows, crs) if known else None
            # Of colours it is a part of one.
            nodata = None if self.classes or self.colors else whole_number(raster.nodata)
            dtype = np.dtype(raster.dtypes[0]) if self.colors is None else self.colors.dtype
            return Form((*bands, *shape), dtype, geometry, nodata)

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return class ids or predictions, of a part if it is wanted."""
        with self._open(file) as raster:
            part = None
            if window is not None:
                rows, columns = window
                part = ((rows.start, rows.stop), (columns.start, columns.stop))
            if self.classes:
                return np.asarray(raster.read(window=part))
            if self.colors is not None:
                bands = np.asarray(raster.read([1, 2, 3], window=part))
                return classes_of_colors(np.moveaxis(bands, 0, -1), self.colors)
            if raster.count > 1:
                raise InputError(
                    f"has {raster.count} bands",
                    advise("{class_colors} says which colour is which class", class_colors="FILE"),
                )
            return whole_numbers(np.asarray(raster.read(1, window=part)))

    def _open(self, file: BinaryIO) -> Any:
        rasterio = needed("rasterio", "geo", "GeoTIFF")
        path = getattr(file, "name", None)
        named = isinstance(path, str | Path)
        with warnings.catch_warnings():
            # Whoever has files that do not say where they are knows.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(str(path) if named else file)


class Nifti(FileFormat):
    """NIfTI, by nibabel: labels of three dimensions, predictions with the classes last."""

    suffixes = (".nii", ".nii.gz")

    def form(self, file: BinaryIO) -> Form:
        """Return shape, and where it is."""
        image = self._open(file)
        shape, stored = tuple(image.shape), image.dataobj
        plain = (stored.slope, stored.inter) == (1, 0)
        dtype = image.get_data_dtype().newbyteorder("=") if plain else None
        classes_first = (shape[-1], *shape[:-1]) if self.classes else shape
        return Form(classes_first, dtype, Geometry.of(image.affine))

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return class ids or predictions."""
        image = np.asanyarray(self._open(file).dataobj)
        return np.moveaxis(image, -1, 0) if self.classes else whole_numbers(image)

    def _open(self, file: BinaryIO) -> Any:
        nibabel = needed("nibabel", "nifti", "NIfTI")
        begins = file.read(2)
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if begins == b"\x1f\x8b" else file
        size = stream.read(4)
        stream.seek(0)
        second = 540 in (int.from_bytes(size, order) for order in ("little", "big"))
        kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
        return kind.from_stream(stream)


class Npy(FileFormat):
    """One array of NumPy."""

    suffixes = (".npy",)

    def form(self, file: BinaryIO) -> Form:
        """Return shape and dtype."""
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        shape, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
        if dtype.hasobject:
            raise InputError("holds pickled objects; save an array of numbers")
        return Form(self._classes_first_of(shape), dtype)

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return class ids or predictions."""
        image = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        return self._classes_first(image) if self.classes else whole_numbers(image)


class Npz(Npy):
    """One array of an archive of NumPy."""

    suffixes = (".npz",)

    def form(self, file: BinaryIO) -> Form:
        """Return shape and dtype."""
        with self._member(file) as member:
            return super().form(member)

    def read(self, file: BinaryIO, window: Window | None = None) -> AnyArray:
        """Return class ids or predictions."""
        with self._member(file) as member:
            return super().read(member)

    @contextmanager
    def _member(self, file: BinaryIO) -> Iterator[BinaryIO]:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            known = [name for name in NPZ_NAMES if name in names]
            if len(names) != 1 and not known:
                raise InputError(
                    f"has the arrays {', '.join(names) or 'none'}; the one to read must be alone, "
                    f"or be called {NPZ_NAMES[0]!r}"
                )
            with archive.open(f"{(known or names)[0]}.npy") as member:
                yield member  # type: ignore[misc]


FORMATS: Mapping[str, Callable[..., FileFormat]] = {
    "picture": Picture,
    "tiff": Tiff,
    "geotiff": GeoTiff,
    "nifti": Nifti,
    "npy": Npy,
    "npz": Npz,
}


def decode(data: bytes) -> type[FileFormat]:
    """Return the format of encoded bytes, which they begin with."""
    if data[:6] == b"\x93NUMPY":
        return Npy
    if data[:2] == b"PK":
        return Npz
    return Tiff if data[:4] in BYTE_ORDERS else Picture


def whole_number(value: float | None) -> int | None:
    """Return a number of a file as a class id, None if it is none."""
    return int(value) if value is not None and float(value).is_integer() else None


def whole_numbers(labels: AnyArray) -> AnyArray:
    """Return labels as they are, but plain numbers for those that a byte order or a bit has."""
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    return labels.astype(labels.dtype.newbyteorder("="), copy=False)
