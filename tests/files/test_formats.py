"""Every format gives what its own library has written, and one clear error if it is damaged."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from dask_labelqc import files
from dask_labelqc.errors import InputError
from tests.files import written
from tests.files.written import COLORS, VOLUMES, Images, make

LABELS: dict[str, Callable[[Path, Images], Path]] = {
    "picture": written.pictures,
    "palette": written.palettes,
    "tiff": written.tiffs,
    "compressed tiff": lambda at, images: written.tiffs(at, images, compression="zlib"),
    "geotiff": written.geotiffs,
    "npy": written.arrays,
    "npz": written.archives,
    "zarr": written.zarr_group,
    "panoptic": lambda at, images: written.panoptic(at.with_suffix(".json"), images),
    "instances": lambda at, images: written.instances(at.with_suffix(".json"), images),
    "parquet": lambda at, images: written.parquet(at / "x.parquet", images, "label", True),
    "parquet of arrays": lambda at, images: written.parquet(at / "x.parquet", images, "mask"),
}
PRED_PROBS: dict[str, Callable[[Path, Images], Path]] = {
    "npy": written.arrays,
    "npz": written.archives,
    "tiff": lambda at, images: written.tiffs(at, images, planarconfig="separate"),
    "bands last": written.bands_last,
    "geotiff": written.geotiffs,
    "zarr": written.zarr_group,
    "parquet": lambda at, images: written.parquet(at / "x.parquet", images, "pred_probs"),
}


def check(reader: files.Reader, images: Images) -> None:
    assert sorted(reader.ids) == sorted(images)
    for id, image in images.items():
        read = reader.read(id)
        np.testing.assert_array_equal(read, image)
        assert read.dtype.isnative
        form = reader.form(id)
        assert form.shape == image.shape
        assert form.dtype in (None, read.dtype)
        assert reader.tag(id)
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.read("c" if "c" in images else "a"), image_of(images))


def image_of(images: Images) -> Any:
    return images["c" if "c" in images else "a"]


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind: str, tmp_path: Path) -> None:
    labels, _ = make()
    check(files.labels(LABELS[kind](tmp_path / "at", labels)), labels)


@pytest.mark.parametrize("kind", PRED_PROBS)
def test_pred_probs(kind: str, tmp_path: Path) -> None:
    _, probs = make()
    check(files.pred_probs(PRED_PROBS[kind](tmp_path / "at", probs)), probs)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_volumes(ending: str, tmp_path: Path) -> None:
    labels, probs = make(VOLUMES)
    check(files.labels(written.niftis(tmp_path / "y", labels, ending)), labels)
    check(files.pred_probs(written.niftis(tmp_path / "p", probs, ending)), probs)


def test_volumes_in_tiff(tmp_path: Path) -> None:
    labels, _ = make(VOLUMES)
    check(files.labels(written.tiffs(tmp_path, labels)), labels)


def test_other_dtypes(tmp_path: Path) -> None:
    for name, dtype in (("a", np.uint16), ("c", bool)):
        image = np.array([[0, 1], [1, 0]], dtype)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        reader = files.labels(tmp_path)
        np.testing.assert_array_equal(reader.read(name), image)
        assert reader.form(name).dtype in (np.dtype(np.uint8 if dtype is bool else dtype),)
    big = np.array([[1, 300]], ">u2")
    np.save(tmp_path / "big.npy", big)
    read = files.labels(tmp_path / "big.npy").read("big")
    assert (read.dtype, read.tolist()) == (np.dtype(np.uint16), [[1, 300]])


@pytest.mark.parametrize("colors", [COLORS, {0: COLORS[0], 1: COLORS[1], 2: "#0080ff"}])
def test_colors(colors: Any, tmp_path: Path) -> None:
    labels, _ = make()
    check(files.labels(written.colored(tmp_path / "rgb", labels), class_colors=colors), labels)
    # Of a palette, too.
    check(files.labels(written.palettes(tmp_path / "p", labels), class_colors=colors), labels)


def test_colors_of_tiff(tmp_path: Path) -> None:
    labels, _ = make()
    rgb = {id: np.array(COLORS, np.uint8)[y] for id, y in labels.items()}
    for path, image in written.place(tmp_path, rgb, ".tif"):
        tifffile.imwrite(path, image, photometric="rgb")
    check(files.labels(tmp_path, class_colors=COLORS), labels)
    with pytest.raises(InputError, match=r"a.tif has 3 samples a pixel; class_colors='FILE' says"):
        files.labels(tmp_path).read("a")


def test_colors_of_geotiff(tmp_path: Path) -> None:
    labels, _ = make()
    rgb = {id: np.moveaxis(np.array(COLORS, np.uint8)[y], -1, 0) for id, y in labels.items()}
    check(files.labels(written.geotiffs(tmp_path, rgb), class_colors=COLORS), labels)
    with pytest.raises(InputError, match=r"a.tif has 3 bands; class_colors='FILE' says"):
        files.labels(tmp_path).read("a")


def test_classes_last(tmp_path: Path) -> None:
    _, probs = make()
    last = {id: np.moveaxis(p, 0, -1) for id, p in probs.items()}
    for at, write in enumerate((written.arrays, written.archives, written.zarr_group)):
        check(files.pred_probs(write(tmp_path / str(at), last), class_axis=-1), probs)


def test_the_array_of_several(tmp_path: Path) -> None:
    _, probs = make()
    check(files.pred_probs(written.archives(tmp_path, probs, ids=np.arange(3))), probs)
    np.savez(tmp_path / "other.npz", x=1, y=2)
    with pytest.raises(InputError, match=r"other.npz has the arrays x, y; .* be called"):
        files.pred_probs(tmp_path).read("other")


def test_parts_of_geotiff_and_zarr(tmp_path: Path) -> None:
    labels, probs = make()
    window = (slice(2, 7), slice(3, 8))
    for write in (written.geotiffs, written.zarr_group):
        given = files.labels(write(tmp_path / f"{write.__name__}-y", labels))
        predicted = files.pred_probs(write(tmp_path / f"{write.__name__}-p", probs))
        np.testing.assert_array_equal(given.read("a", window), labels["a"][window])
        np.testing.assert_array_equal(predicted.read("a", window), probs["a"][:, 2:7, 3:8])
        assert given.in_parts
        assert predicted.in_parts
    arrays = files.labels(written.arrays(tmp_path / "npy", labels))
    assert not arrays.in_parts
    np.testing.assert_array_equal(arrays.read("a", window), labels["a"][window])


def test_geotiff_tells_where_it_is(tmp_path: Path) -> None:
    labels, probs = make()
    form = files.labels(written.geotiffs(tmp_path / "y", labels, nodata=2)).form("a")
    assert form.nodata == 2
    assert form.geometry is not None
    # Of the centres of pixels, by row and column.
    assert form.geometry.affine == ((0, 10, 500005), (-10, 0, 4999995))
    assert 'AUTHORITY["EPSG","32633"]' in form.geometry.crs
    assert (
        files.pred_probs(written.geotiffs(tmp_path / "p", probs, nodata=0)).form("a").nodata is None
    )


def test_nifti_scales(tmp_path: Path) -> None:
    """What is stored is multiplied where the header says so."""
    import nibabel

    image = nibabel.Nifti1Image(np.array([[[2, 4]]], np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 0)
    nibabel.save(image, tmp_path / "a.nii")
    path = tmp_path / "a.nii"
    stored = np.asarray(nibabel.load(path).dataobj)
    reader = files.labels(path)
    np.testing.assert_array_equal(reader.read("a"), stored)
    assert reader.form("a").dtype in (None, stored.dtype)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: max(path.stat().st_size // 2, 30)])


DAMAGED = [
    ("labels", written.pictures, "a.png"),
    ("labels", written.tiffs, "a.tif"),
    ("labels", written.geotiffs, "a.tif"),
    ("labels", written.arrays, "a.npy"),
    ("pred_probs", written.archives, "a.npz"),
    ("pred_probs", lambda at, p: written.tiffs(at, p, planarconfig="separate"), "a.tif"),
    ("pred_probs", written.geotiffs, "a.tif"),
    ("pred_probs", written.zarr_group, "a/zarr.json"),
    ("labels", lambda at, y: written.niftis(at, volumes(y)), "a.nii.gz"),
    ("labels", lambda at, y: written.niftis(at, volumes(y), ".nii"), "a.nii"),
]


def volumes(images: Images) -> Images:
    return {id: image[..., None] for id, image in images.items()}


@pytest.mark.parametrize(("side", "write", "name"), DAMAGED)
def test_a_file_that_was_cut_short(side: str, write: Any, name: str, tmp_path: Path) -> None:
    labels, probs = make()
    folder = write(tmp_path / "at", labels if side == "labels" else probs)
    damage(folder / name)
    reader = getattr(files, side)(folder)
    with pytest.raises(
        InputError, match=rf"^{side}: .*/at/{name.partition('/')[0]} cannot be read"
    ):
        reader.read("a")
    np.testing.assert_array_equal(reader.read("c").shape[-2:], np.shape(reader.read("c"))[-2:])


def test_a_parquet_file_that_was_cut_short(tmp_path: Path) -> None:
    labels, _ = make()
    path = written.parquet(tmp_path / "x.parquet", labels, "label", True)
    damage(path)
    with pytest.raises(InputError, match=r"^labels: .*/x.parquet cannot be read"):
        files.labels(path)


def test_a_json_file_that_was_cut_short(tmp_path: Path) -> None:
    labels, _ = make()
    for write, kind in ((written.instances, "instances"), (written.panoptic, "panoptic")):
        path = write(tmp_path / f"{kind}.json", labels)
        damage(path)
        with pytest.raises(InputError, match=rf"^labels: .*/{kind}.json cannot be read"):
            files.labels(path, format=kind)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    labels, _ = make()
    reader = files.labels(written.pictures(tmp_path, labels))
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"^labels: .*/a.png is not there$"):
        reader.read("a")


def test_pictures_without_classes(tmp_path: Path) -> None:
    labels, _ = make()
    with pytest.raises(InputError, match=r"a.png is a picture of mode RGB, .*class_colors='FILE'"):
        files.labels(written.colored(tmp_path, labels)).read("a")
    with pytest.raises(InputError, match=r"pred_probs: .*a.png is a picture; predictions are .npy"):
        files.pred_probs(tmp_path).read("a")


@pytest.mark.parametrize(
    ("package", "extra", "kind"),
    [
        ("PIL", "files", "picture"),
        ("tifffile", "files", "tiff"),
        ("rasterio", "geo", "geotiff"),
        ("nibabel", "nifti", "nifti"),
        ("pyarrow", "parquet", "parquet"),
        ("ijson", "coco", "instances"),
    ],
)
def test_what_is_not_installed_is_named(
    package: str, extra: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = make()
    ways = LABELS | {"nifti": lambda at, y: written.niftis(at, volumes(y))}
    path = ways[kind](tmp_path / "at", labels)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'pip install "dask-labelqc\[{extra}\]"'):
        files.labels(path, format=kind).read("a")
