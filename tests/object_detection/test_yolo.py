from __future__ import annotations

import sys

import numpy as np
import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection import from_yolo


@pytest.fixture
def folders(tmp_path):
    labels, predictions = tmp_path / "labels", tmp_path / "predictions"
    labels.mkdir()
    predictions.mkdir()
    (labels / "b.txt").write_text("1 0.5 0.5 0.2 0.4\n\n0 0.25 0.25 0.5 0.5\n")
    (labels / "a.txt").write_text("")
    (predictions / "b.txt").write_text("2 0.5 0.5 0.2 0.2 0.875\n")
    return labels, predictions


def test_boxes_in_pixels(folders):
    dataset = from_yolo(*folders, (200, 100))
    assert dataset["image_name"].values.tolist() == ["a", "b"]
    assert dataset["given_offsets"].values.tolist() == [0, 0, 2]
    np.testing.assert_allclose(dataset["given_boxes"], [[80, 30, 120, 70], [0, 0, 100, 50]])
    assert dataset["given_classes"].values.tolist() == [1, 0]
    np.testing.assert_allclose(dataset["predicted_boxes"], [[80, 40, 120, 60]])
    assert dataset["predicted_scores"].values.tolist() == [0.875]
    assert dataset.sizes["class"] == 3


def test_sizes_by_name_and_from_images(folders, tmp_path):
    from PIL import Image

    sizes = {"a": (10, 10), "b": (200, 100), "c": (5, 5)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    for form in (sizes, tmp_path, str(tmp_path)):
        dataset = from_yolo(*folders, form, class_names=["x", "y", "z", "w"])
        assert dataset["image_name"].values.tolist() == ["a", "b", "c"]
        np.testing.assert_allclose(dataset["predicted_boxes"], [[80, 40, 120, 60]])
        assert dataset.sizes["class"] == 4


def test_what_does_not_fit_is_named(folders, tmp_path):
    labels, predictions = folders
    with pytest.raises(InputError, match="image_sizes has no size for 1 images, first 'a'"):
        from_yolo(labels, predictions, {"b": (9, 9)})
    with pytest.raises(InputError, match=r"predictions must be a folder, got .*nowhere"):
        from_yolo(labels, tmp_path / "nowhere", (9, 9))
    with pytest.raises(InputError, match=r"b\.txt, line 1: 5 numbers, needed are 6: .*probability"):
        from_yolo(labels, labels, (9, 9))
    (labels / "b.txt").write_text("cat 0 0 1 1")
    with pytest.raises(InputError, match=r"b\.txt: could not convert string to float"):
        from_yolo(labels, predictions, (9, 9))
    (labels / "a.txt").unlink()
    (labels / "b.txt").unlink()
    with pytest.raises(InputError, match="no images: "):
        from_yolo(labels, labels, (9, 9))


def test_missing_pillow_prints_the_line_to_type(folders, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[plot\]"'):
        from_yolo(*folders, tmp_path)
