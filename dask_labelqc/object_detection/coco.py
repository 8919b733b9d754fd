"""COCO's JSON files, read as a stream into the columnar dataset."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection.dataset import columnar_dataset
from dask_labelqc.typing import AnyArray

__all__ = ["from_coco"]


def from_coco(ground_truth: str | Path, results: str | Path) -> xr.Dataset:
    """Read COCO annotations and detection results into the columnar dataset.

    The files may be larger than memory: they are read as a stream, and about 60 bytes a box are
    kept.

    Parameters
    ----------
    ground_truth
        JSON with ``images``, ``annotations`` (``bbox`` x, y, width, height in pixels) and
        ``categories``.
    results
        JSON list of ``{"image_id", "category_id", "bbox", "score"}``.

    Returns
    -------
    xarray.Dataset
        Images in the order of the file, also those without boxes, with the coordinates
        ``image_id`` and ``image_name``. Classes 0..K-1 in the order of ``categories``, with
        ``category_id`` and ``class_name``. ``given_crowd`` has the ``iscrowd`` flags: such boxes
        are not scored, and excuse the predictions inside.

    Raises
    ------
    ImportError
        ijson is not installed.
    InputError
        A box names an image or category that is not there, or is not four numbers.

    Examples
    --------
    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> truth = {"images": [{"id": 7}], "categories": [{"id": 90, "name": "kite"}]}
    >>> box = {"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4]}
    >>> _ = (folder / "truth.json").write_text(json.dumps(truth | {"annotations": [box]}))
    >>> _ = (folder / "results.json").write_text(json.dumps([box | {"score": 0.5}]))
    >>> from_coco(folder / "truth.json", folder / "results.json")["given_boxes"].values
    array([[1., 2., 4., 6.]])
    """
    categories = list(_items(ground_truth, "categories.item"))
    images = [(i["id"], i.get("file_name", "")) for i in _items(ground_truth, "images.item")]
    if not images or not categories:
        raise InputError(
            f"ground_truth {str(ground_truth)!r} has {len(images)} images and {len(categories)} "
            "categories; at least one of each is needed"
        )
    positions = {image_id: position for position, (image_id, _) in enumerate(images)}
    classes = {category["id"]: k for k, category in enumerate(categories)}
    given = _columns(_items(ground_truth, "annotations.item"), "annotations", positions, classes)
    predicted = _columns(_items(results, "item"), "results", positions, classes)
    dataset = columnar_dataset(
        {
            "given_boxes": given["boxes"],
            "given_classes": given["classes"],
            "given_crowd": given["crowd"],
            "given_offsets": given["offsets"],
            "predicted_boxes": predicted["boxes"],
            "predicted_classes": predicted["classes"],
            "predicted_scores": predicted["scores"],
            "predicted_offsets": predicted["offsets"],
        },
        len(classes),
        class_names=[str(category.get("name", category["id"])) for category in categories],
        image_coords={
            "image_id": [image_id for image_id, _ in images],
            "image_name": [name for _, name in images],
        },
    )
    return dataset.assign_coords(category_id=("class", list(classes)))


def _items(path: str | Path, prefix: str) -> Iterator[Mapping[str, Any]]:
    try:
        import ijson  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            'from_coco needs ijson to read the files as a stream: pip install "dask-labelqc[coco]"'
        ) from error
    with Path(path).open("rb") as file:
        yield from ijson.items(file, prefix, use_float=True)


def _columns(
    records: Iterator[Mapping[str, Any]],
    what: str,
    positions: Mapping[Any, int],
    classes: Mapping[Any, int],
) -> dict[str, AnyArray]:
    """Gather the boxes in compact arrays, and sort them by image, keeping the file's order."""
    boxes, scores = array("d"), array("d")
    image, category, crowd = array("q"), array("q"), array("b")
    for number, record in enumerate(records):
        box = record.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(f"{what}[{number}]: bbox must be [x, y, width, height], got {box}")
        for key, known in (("image_id", positions), ("category_id", classes)):
            if record.get(key) not in known:
                raise InputError(
                    f"{what}[{number}]: {key} {record.get(key)!r} is not in the ground truth"
                )
        x, y, width, height = box
        boxes.extend((x, y, x + width, y + height))
        image.append(positions[record["image_id"]])
        category.append(classes[record["category_id"]])
        scores.append(record.get("score", 1.0))
        crowd.append(bool(record.get("iscrowd", 0)))
    of_image = np.asarray(image, np.int64)
    order = np.argsort(of_image, kind="stable")
    counts = np.bincount(of_image, minlength=len(positions))
    return {
        "boxes": np.asarray(boxes, np.float64).reshape(-1, 4)[order],
        "classes": np.asarray(category, np.int32)[order],
        "scores": np.asarray(scores, np.float64)[order],
        "crowd": np.asarray(crowd, np.bool_)[order],
        "offsets": np.concatenate([[0], np.cumsum(counts)]),
    }
