"""Images, and files of each format with them, written by the library of the format."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as masks
from rasterio.transform import Affine


def grid(west: float, north: float, width: float, height: float | None = None) -> Affine:
    """Return a grid whose rows run south; rasterio makes it by what its Affine warns of."""
    return Affine(width, 0, west, 0, -(height or width), north)


Images = Mapping[str, NDArray[Any]]

K = 3
SIZES = {"a": (8, 9), "b-1": (5, 7), "c": (6, 6)}
VOLUMES = {"a": (4, 5, 3), "b-1": (3, 2, 4)}
CRS = "EPSG:32633"
COLORS = ((0, 0, 0), (255, 0, 0), (0, 128, 255))


def make(sizes: Mapping[str, tuple[int, ...]] = SIZES, seed: int = 0) -> tuple[Images, Images]:
    """Return labels, and predictions (K, *spatial)."""
    rng = np.random.default_rng(seed)
    labels = {id: rng.integers(0, K, size).astype(np.uint8) for id, size in sizes.items()}
    probs = {
        id: np.moveaxis(rng.dirichlet(np.ones(K), size), -1, 0).astype(np.float32)
        for id, size in sizes.items()
    }
    return labels, probs


def place(folder: Path, images: Images, ending: str) -> list[tuple[Path, NDArray[Any]]]:
    folder.mkdir(parents=True, exist_ok=True)
    return [(folder / f"{id}{ending}", image) for id, image in images.items()]


def pictures(folder: Path, labels: Images) -> Path:
    for path, image in place(folder, labels, ".png"):
        Image.fromarray(image).save(path)
    return folder


def palettes(folder: Path, labels: Images) -> Path:
    for path, image in place(folder, labels, ".png"):
        picture = Image.fromarray(image).convert("P")
        picture.putdata(image.reshape(-1).tolist())
        picture.putpalette([part for color in COLORS for part in color])
        picture.save(path)
    return folder


def colored(folder: Path, labels: Images) -> Path:
    for path, image in place(folder, labels, ".png"):
        Image.fromarray(np.array(COLORS, np.uint8)[image]).save(path)
    return folder


def tiffs(folder: Path, images: Images, **how: Any) -> Path:
    for path, image in place(folder, images, ".tif"):
        tifffile.imwrite(path, image, **{"photometric": "minisblack", **how})
    return folder


def bands_last(folder: Path, probs: Images) -> Path:
    for path, image in place(folder, probs, ".tiff"):
        last = np.moveaxis(image, 0, -1)
        tifffile.imwrite(path, last, photometric="minisblack", planarconfig="contig")
    return folder


def geotiff(
    path: Path,
    image: NDArray[Any],
    transform: Affine | None = None,
    nodata: float | None = None,
    **how: Any,
) -> Path:
    bands = image if image.ndim == 3 else image[None]
    about = {"driver": "GTiff", "crs": CRS, "nodata": nodata, "dtype": bands.dtype.name, **how}
    count, height, width = bands.shape
    about |= {"transform": transform or grid(5e5, 5e6, 10)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", height=height, width=width, count=count, **about) as file:
        file.write(bands)
    return path


def geotiffs(folder: Path, images: Images, **how: Any) -> Path:
    for path, image in place(folder, images, ".tif"):
        geotiff(path, image, **how)
    return folder


def niftis(folder: Path, images: Images, ending: str = ".nii.gz", affine: Any = None) -> Path:
    for path, image in place(folder, images, ending):
        last = np.moveaxis(image, 0, -1) if image.ndim == 4 else image
        nibabel.save(nibabel.Nifti1Image(last, np.eye(4) if affine is None else affine), path)
    return folder


def arrays(folder: Path, images: Images) -> Path:
    for path, image in place(folder, images, ".npy"):
        np.save(path, image)
    return folder


def archives(folder: Path, images: Images, **more: NDArray[Any]) -> Path:
    for path, image in place(folder, images, ".npz"):
        np.savez_compressed(path, pred_probs=image, **more)
    return folder


def zarr_group(folder: Path, images: Images) -> Path:
    group = zarr.open_group(folder, mode="w")
    for id, image in images.items():
        chunks = tuple(min(4, n) for n in image.shape)
        group.create_array(id, data=image, chunks=chunks)
    return folder


def encoded(image: NDArray[Any], as_picture: bool) -> bytes:
    file = io.BytesIO()
    if as_picture:
        Image.fromarray(image).save(file, format="PNG")
    else:
        np.save(file, image)
    return file.getvalue()


def parquet(path: Path, images: Images, column: str, as_picture: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = [encoded(image, as_picture) for image in images.values()]
    cells = [{"bytes": each, "path": None} for each in data] if as_picture else data
    pq.write_table(pa.table({"image_id": list(images), column: cells}), path, row_group_size=2)
    return path


def coco_images(labels: Images) -> list[dict[str, Any]]:
    return [
        {"id": 10 + i, "file_name": f"{id}.jpg", "height": y.shape[0], "width": y.shape[1]}
        for i, (id, y) in enumerate(labels.items())
    ]


CATEGORIES = [{"id": 7, "name": "road"}, {"id": 2, "name": "sky"}, {"id": 90, "name": "kite"}]


def panoptic(path: Path, labels: Images, crowd: int | None = None) -> Path:
    """Write a segment for each class of an image; the class of `crowd` is one."""
    annotations = []
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    for i, (id, image) in enumerate(labels.items()):
        numbers = 1000 * (i + 1) + image.astype(np.int64) + 1
        rgb = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1)
        Image.fromarray(rgb.astype(np.uint8)).save(folder / f"{id}.png")
        segments = [
            {
                "id": 1000 * (i + 1) + k + 1,
                "category_id": CATEGORIES[k]["id"],
                "iscrowd": int(k == crowd),
            }
            for k in np.unique(image).tolist()
        ]
        about = {"image_id": 10 + i, "file_name": f"{id}.png", "segments_info": segments}
        annotations.append(about)
    whole = {"images": coco_images(labels), "annotations": annotations, "categories": CATEGORIES}
    path.write_text(json.dumps(whole))
    return path


def instances(path: Path, labels: Images, crowd: int | None = None) -> Path:
    """Write an instance for each class but 0 of an image, in run lengths."""
    annotations = []
    for i, image in enumerate(labels.values()):
        for k in np.unique(image[image > 0]).tolist():
            mask = masks.encode(np.asfortranarray(image == k, np.uint8))
            runs = {"size": mask["size"], "counts": mask["counts"].decode()}
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 10 + i,
                    "category_id": CATEGORIES[k - 1]["id"],
                    "segmentation": runs,
                    "iscrowd": int(k == crowd),
                }
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = CATEGORIES[: K - 1]
    whole = {"images": coco_images(labels), "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(whole))
    return path
