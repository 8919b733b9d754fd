from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection import from_coco, rank


def annotation(image, category, box, **more):
    return {"image_id": image, "category_id": category, "bbox": box, **more}


TRUTH = {
    "annotations": [
        annotation(30, 7, [1, 2, 10, 20], iscrowd=0, segmentation=[[1, 2, 3]], id=1),
        annotation(10, 90, [5, 5, 1.5, 2], id=2),
        annotation(30, 90, [0, 0, 50, 50], iscrowd=1, id=3),
    ],
    "images": [
        {"id": 10, "file_name": "ten.jpg"},
        {"id": 20, "file_name": "twenty.jpg"},
        {"id": 30, "file_name": "thirty.jpg"},
    ],
    "categories": [{"id": 90, "name": "kite"}, {"id": 7, "name": "train"}],
}
RESULTS = [
    annotation(30, 7, [1, 2, 10, 19], score=0.75),
    annotation(10, 7, [5, 5, 2, 2], score=0.5),
]


@pytest.fixture
def files(tmp_path):
    def write(truth=TRUTH, results=RESULTS):
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        (tmp_path / "results.json").write_text(json.dumps(results))
        return tmp_path / "truth.json", str(tmp_path / "results.json")

    return write


def test_boxes_classes_and_crowds(files):
    dataset = from_coco(*files())
    assert dataset["given_offsets"].values.tolist() == [0, 1, 1, 3]
    assert dataset["given_boxes"].values.tolist() == [
        [5, 5, 6.5, 7],
        [1, 2, 11, 22],
        [0, 0, 50, 50],
    ]
    assert dataset["given_classes"].values.tolist() == [0, 1, 0]
    assert dataset["given_crowd"].values.tolist() == [False, False, True]
    assert dataset["predicted_offsets"].values.tolist() == [0, 1, 1, 2]
    assert dataset["predicted_boxes"].values.tolist() == [[5, 5, 7, 7], [1, 2, 11, 21]]
    assert dataset["predicted_scores"].values.tolist() == [0.5, 0.75]
    assert dataset["class_name"].values.tolist() == ["kite", "train"]
    assert dataset["category_id"].values.tolist() == [90, 7]
    assert dataset["image_id"].values.tolist() == [10, 20, 30]
    assert dataset["image_name"].values.tolist() == ["ten.jpg", "twenty.jpg", "thirty.jpg"]
    scores = rank.get_label_quality_scores(dataset)
    assert scores["image_id"].values.tolist() == [10, 20, 30]
    assert scores.values[1] == 1


def test_no_boxes_at_all(files, tmp_path):
    dataset = from_coco(*files(TRUTH | {"annotations": []}, []))
    dataset.to_zarr(tmp_path / "boxes.zarr", consolidated=False)
    np.testing.assert_array_equal(rank.get_label_quality_scores(tmp_path / "boxes.zarr"), [1] * 3)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotation(10, 7, [1, 2, 3])], r"annotations\[0\]: bbox must be .*, got \[1, 2, 3\]"),
        ([annotation(11, 7, [1, 2, 3, 4])], r"annotations\[0\]: image_id 11 is not in"),
        ([annotation(10, 8, [1, 2, 3, 4])], r"annotations\[0\]: category_id 8 is not in"),
    ],
)
def test_what_does_not_fit_is_named(files, annotations, message):
    with pytest.raises(InputError, match=message):
        from_coco(*files(TRUTH | {"annotations": annotations}))


def test_file_without_images(files):
    with pytest.raises(InputError, match="has 0 images and 2 categories"):
        from_coco(*files(TRUTH | {"images": []}))


def test_missing_ijson_prints_the_line_to_type(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[coco\]"'):
        from_coco(*files())
