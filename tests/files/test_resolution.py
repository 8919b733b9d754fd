"""Predictions at another resolution, or on another grid, do not depend on how images are cut."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from nibabel.processing import resample_from_to
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from dask_labelqc import files
from dask_labelqc.errors import InputError
from dask_labelqc.files.geometry import Geometry
from dask_labelqc.files.reader import Window
from dask_labelqc.files.resolution import Resolution, upsampled
from tests.files import written

KINDS = ("bilinear", "nearest")


def whole(shape: tuple[int, ...]) -> Window:
    return tuple(slice(0, n) for n in shape)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 5),
    st.sampled_from(KINDS),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_upsampled_as_scipy_does_however_it_is_cut(
    shape: list[int], factor: int, kind: Any, seed: int, data: st.DataObject
) -> None:
    coarse = tuple(shape)
    values = np.random.default_rng(seed).random((2, *coarse), np.float32)
    fine = tuple(n * factor for n in coarse)
    result = upsampled(values, whole(coarse), whole(fine), factor, coarse, kind)
    order = 1 if kind == "bilinear" else 0
    for plane, expected in zip(result, values, strict=True):
        zoomed = ndimage.zoom(
            expected.astype(np.float64), factor, order=order, mode="nearest", grid_mode=True
        )
        if kind == "nearest":
            zoomed = expected
            for axis in range(expected.ndim):
                zoomed = zoomed.repeat(factor, axis)
        np.testing.assert_allclose(plane, zoomed, atol=1e-6)
    window = tuple(
        slice(a, data.draw(st.integers(a + 1, n)))
        for n in fine
        for a in [data.draw(st.integers(0, n - 1))]
    )

    class Stored:
        ids = ("a",)

        def read(self, id: str) -> Any:
            return values

    reader = files.pred_probs(Stored())
    part = Resolution(factor, kind).read(reader, "a", reader.form("a"), window, files.Form(fine))
    assert part.tobytes() == result[(slice(None), *window)].tobytes()


def test_stored_integers_are_interpolated_as_what_they_stand_for() -> None:
    class Stored:
        ids = ("a",)

        def read(self, id: str) -> Any:
            return np.array([[[0, 255]], [[255, 0]]], np.uint8)

    reader, labels = files.pred_probs(Stored()), files.Form((2, 4))
    read = Resolution(2).read(reader, "a", reader.form("a"), whole((2, 4)), labels)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[0], [[0, 0.25, 0.75, 1]] * 2)
    np.testing.assert_allclose(read.sum(axis=0), 1)
    plain = Resolution(2, "nearest").read(reader, "a", reader.form("a"), whole((2, 4)), labels)
    assert plain.dtype == np.uint8
    assert plain[0].tolist() == [[0, 0, 255, 255]] * 2


def smooth(shape: tuple[int, ...]) -> Any:
    """Predictions that change slowly, so that ways to interpolate agree."""
    places = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    p = 0.2 + 0.6 * sum(places) / len(places)
    return np.stack([p, 1 - p]).astype(np.float32)


def parts(shape: tuple[int, ...], size: int) -> Any:
    return product(*([slice(a, min(a + size, n)) for a in range(0, n, size)] for n in shape))


def check_parts(source: Any, id: str, shape: tuple[int, ...], expected: Any, size: int) -> None:
    how, predicted, own = source
    form, labels = predicted.form(id), own.form(id)
    for window in parts(shape, size):
        part = how.read(predicted, id, form, window, labels)
        assert part.tobytes() == expected[(slice(None), *window)].tobytes()


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857"])
def test_another_grid_of_a_scene(crs: str, tmp_path: Path) -> None:
    labels, own = np.zeros((20, 30), np.uint8), written.grid(500_000, 5_000_000, 10, 10)
    written.geotiff(tmp_path / "y/a.tif", labels, own)
    west, north = 499_900.0, 5_000_100.0
    if crs == "EPSG:3857":
        (west,), (north,) = rasterio.warp.transform(written.CRS, crs, [west], [north])
    other = written.grid(west - 200, north + 200, 40, 35)
    probs = smooth((40, 40))
    written.geotiff(tmp_path / "p/a.tif", probs, other, crs=crs)
    given_labels, predicted = files.labels(tmp_path / "y"), files.pred_probs(tmp_path / "p")
    how = Resolution(resample=True)
    result = how.read(
        predicted, "a", predicted.form("a"), whole(labels.shape), given_labels.form("a")
    )
    expected = np.zeros((2, *labels.shape), np.float32)
    reproject(
        probs,
        expected,
        src_transform=other,
        src_crs=crs,
        dst_transform=own,
        dst_crs=written.CRS,
        resampling=Resampling.bilinear,
    )
    np.testing.assert_allclose(result, expected, atol=2e-3)
    np.testing.assert_allclose(result.sum(axis=0), 1, atol=1e-6)
    check_parts((how, predicted, given_labels), "a", labels.shape, result, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_another_grid_of_a_volume(kind: Any, tmp_path: Path) -> None:
    labels = np.zeros((8, 6, 5), np.uint8)
    # Twice as coarse, one axis the other way round, and moved by less than a voxel.
    affine = np.diag([-2.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = [9.5, -1.0, -1.0]
    probs = smooth((7, 6, 8))
    written.niftis(tmp_path / "y", {"a": labels})
    written.niftis(tmp_path / "p", {"a": probs}, affine=affine)
    given_labels, predicted = files.labels(tmp_path / "y"), files.pred_probs(tmp_path / "p")
    how = Resolution(interpolation=kind, resample=True)
    result = how.read(
        predicted, "a", predicted.form("a"), whole(labels.shape), given_labels.form("a")
    )
    order = 1 if kind == "bilinear" else 0
    for k in range(2):
        image = nibabel.Nifti1Image(probs[k].astype(np.float64), affine)
        to = (labels.shape, np.eye(4))
        theirs = resample_from_to(image, to, order=order, mode="nearest").get_fdata()
        np.testing.assert_allclose(result[k], theirs, atol=1e-6)
    check_parts((how, predicted, given_labels), "a", labels.shape, result, 3)


def test_a_shift_by_whole_pixels_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probs = np.moveaxis(rng.dirichlet(np.ones(3), (12, 11)), -1, 0).astype(np.float32)
    written.geotiff(tmp_path / "p/a.tif", probs, written.grid(100.1, 200.3, 0.3, 0.3))
    inside = written.grid(100.1 + 2 * 0.3, 200.3 - 3 * 0.3, 0.3, 0.3)
    written.geotiff(tmp_path / "y/a.tif", np.zeros((5, 6), np.uint8), inside)
    given_labels, predicted = files.labels(tmp_path / "y"), files.pred_probs(tmp_path / "p")
    read = Resolution(resample=True).read(
        predicted, "a", predicted.form("a"), whole((5, 6)), given_labels.form("a")
    )
    assert read.tobytes() == probs[:, 3:8, 2:8].tobytes()


def read(folder: Path, how: Resolution = Resolution()) -> Any:  # noqa: B008 - it never changes
    given_labels, predicted = files.labels(folder / "y"), files.pred_probs(folder / "p")
    labels = given_labels.form("a")
    return how.read(predicted, "a", predicted.form("a"), whole(labels.shape), labels)


def test_what_does_not_fit(tmp_path: Path) -> None:
    written.arrays(tmp_path / "y", {"a": np.zeros((8, 8), np.uint8)})
    for shape, said in (
        ((2, 4, 4), r"2 classes of 4 x 4 pixels, its labels have 8 x 8; upsample=2 makes them fit"),
        ((2, 5, 8), r"2 classes of 5 x 8 pixels, its labels have 8 x 8$"),
        (
            (8, 8, 2),
            r"8 classes of 8 x 2 .* have 8 x 8; class_axis=-1 says that",
        ),
        ((8, 8), r"has shape \(8, 8\), it must be \(K, \*spatial\) with the labels' 8 x 8"),
    ):
        written.arrays(tmp_path / "p", {"a": np.zeros(shape, np.float32)})
        with pytest.raises(
            InputError, match=rf"^pred_probs: .*/p/a.npy {'has ' * (len(shape) > 2)}{said}"
        ):
            read(tmp_path)
    written.arrays(tmp_path / "p", {"a": np.zeros((2, 4, 4), np.float32)})
    assert read(tmp_path, Resolution(2)).shape == (2, 8, 8)
    with pytest.raises(InputError, match=r"have 8 x 8, and upsample is 4; upsample=2 makes them"):
        read(tmp_path, Resolution(4))
    with pytest.raises(InputError, match=r"^resample: the files of pred_probs do not say where"):
        read(tmp_path, Resolution(resample=True))


def test_grids_that_differ(tmp_path: Path) -> None:
    labels, probs = np.zeros((6, 6), np.uint8), smooth((6, 6))
    written.geotiff(tmp_path / "y/a.tif", labels)
    written.geotiff(tmp_path / "p/a.tif", probs, written.grid(500_020, 5_000_000, 10, 10))
    with pytest.raises(
        InputError,
        match=r"p/a.tif is on another grid than its labels: begins at \[500025.0, 4999995.0\] with "
        r"pixels of \[10.0, 10.0\], and they begins at .*; resample=True takes",
    ):
        read(tmp_path)
    with pytest.raises(InputError, match=r"does not cover its labels: these lie at -2.0 to 3.0 of"):
        read(tmp_path, Resolution(resample=True))
    written.geotiff(tmp_path / "p/a.tif", probs, crs="EPSG:32634")
    with pytest.raises(InputError, match="is on another grid"):
        read(tmp_path)


def test_coarse_grids_have_to_lie_over_the_labels(tmp_path: Path) -> None:
    written.geotiff(tmp_path / "y/a.tif", np.zeros((8, 8), np.uint8))
    written.geotiff(tmp_path / "p/a.tif", smooth((4, 4)), written.grid(5e5, 5e6, 20, 20))
    assert read(tmp_path, Resolution(2)).shape == (2, 8, 8)
    written.geotiff(tmp_path / "p/a.tif", smooth((4, 4)), written.grid(5e5 + 10, 5e6, 20, 20))
    with pytest.raises(InputError, match="is on another grid"):
        read(tmp_path, Resolution(2))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, "bilinear", False), "upsample: got 0"),
        ((2, "cubic", False), "interpolation: got 'cubic', it must be bilinear or nearest"),
        ((2, "nearest", True), "upsample: got 2 and resample"),
    ],
)
def test_arguments(arguments: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Resolution.of(*arguments)


def test_grids() -> None:
    grid = Geometry.of([[0, 10, 5], [-10, 0, 95], [0, 0, 1]])
    assert grid.affine == ((0, 10, 5), (-10, 0, 95))
    assert grid.shifted((2, 3)).affine == ((0, 10, 35), (-10, 0, 75))
    fine = grid.refined(2)
    np.testing.assert_allclose(fine.affine, ((0, 5, 2.5), (-5, 0, 97.5)))
