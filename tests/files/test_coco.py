"""COCO's panoptic and instance segmentations as classes of pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_labelqc import files
from dask_labelqc.errors import InputError
from tests.files import written
from tests.files.written import make


def edited(path: Path, edit: Any) -> Path:
    whole = json.loads(path.read_text())
    edit(whole)
    path.write_text(json.dumps(whole))
    return path


def test_names_are_those_of_the_categories(tmp_path: Path) -> None:
    labels, _ = make()
    panoptic = files.labels(written.panoptic(tmp_path / "p.json", labels))
    assert panoptic.class_names == {0: "road", 1: "sky", 2: "kite"}
    path = written.instances(tmp_path / "i.json", labels)
    assert files.labels(path).class_names == {0: "background", 1: "road", 2: "sky"}
    assert files.labels(path, background=False).class_names == {0: "road", 1: "sky"}


def test_crowds_and_the_rest_stand_for_none(tmp_path: Path) -> None:
    labels, _ = make()
    panoptic = files.labels(written.panoptic(tmp_path / "p.json", labels, crowd=1))
    np.testing.assert_array_equal(panoptic.read("a"), np.where(labels["a"] == 1, 255, labels["a"]))
    path = written.instances(tmp_path / "i.json", labels, crowd=1)
    instances = files.labels(path)
    np.testing.assert_array_equal(instances.read("a"), np.where(labels["a"] == 1, 255, labels["a"]))
    alone = files.labels(path, background=False)
    np.testing.assert_array_equal(alone.read("a"), np.where(labels["a"] == 2, 1, 255))
    assert [r.form("a").nodata for r in (panoptic, instances, alone)] == [255] * 3


def test_pictures_in_another_folder(tmp_path: Path) -> None:
    labels, _ = make()
    path = written.panoptic(tmp_path / "p.json", labels)
    (tmp_path / "p").rename(tmp_path / "elsewhere")
    reader = files.labels(f"{path}#{tmp_path}/elsewhere")
    np.testing.assert_array_equal(reader.read("a"), labels["a"])


def test_a_picture_changes(tmp_path: Path) -> None:
    labels, _ = make()
    path = written.panoptic(tmp_path / "p.json", labels)
    before = files.labels(path)
    tags = [before.tag(id) for id in before.ids]
    (tmp_path / "p" / "a.png").write_bytes(b"")
    after = files.labels(path)
    assert [after.tag(id) == tag for id, tag in zip(after.ids, tags, strict=True)] == [
        False,
        True,
        True,
    ]


SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]


def one_image(path: Path, annotations: list[dict[str, Any]]) -> files.Reader:
    image = {"id": 1, "file_name": "a.jpg", "height": 6, "width": 6}
    categories = [{"id": 5, "name": "one"}, {"id": 6, "name": "two"}]
    about = [{"id": k, "image_id": 1, "iscrowd": 0, **a} for k, a in enumerate(annotations)]
    whole = {"images": [image], "categories": categories, "annotations": about}
    path.write_text(json.dumps(whole))
    return files.labels(path)


def test_polygons_and_counts(tmp_path: Path) -> None:
    polygon = {"category_id": 5, "segmentation": [SQUARE]}
    counts = {"category_id": 6, "segmentation": {"size": [6, 6], "counts": [35, 1]}}
    nothing = {"category_id": 6, "segmentation": []}
    reader = one_image(tmp_path / "a.json", [polygon, counts, nothing])
    expected = np.zeros((6, 6), np.uint8)
    expected[1:4, 1:4] = 1
    expected[5, 5] = 2
    np.testing.assert_array_equal(reader.read("a"), expected)


def test_smaller_instances_lie_over_larger_ones(tmp_path: Path) -> None:
    small = {"category_id": 5, "segmentation": [SQUARE]}
    large = {"category_id": 6, "segmentation": [[0, 0, 6, 0, 6, 6, 0, 6]]}
    expected = np.full((6, 6), 2, np.uint8)
    expected[1:4, 1:4] = 1
    for name, entries in (("x", [small, large]), ("y", [large, small])):
        reader = one_image(tmp_path / f"{name}.json", entries)
        np.testing.assert_array_equal(reader.read("a"), expected)


def test_what_the_file_does_not_list(tmp_path: Path) -> None:
    mask = {"category_id": 5, "segmentation": [SQUARE]}
    for entry, said in (
        ({"category_id": 99}, "has the category 99 in the annotation or segment 0"),
        ({"image_id": 99}, "annotates the image 99, which it does not list"),
        (
            {"segmentation": {"size": [2, 2], "counts": [4]}},
            r"a mask of size \[2, 2\] for an",
        ),
        ({"segmentation": {"size": [6, 6], "counts": [4]}}, r"whose runs do not fill its \[6, 6\]"),
    ):
        with pytest.raises(InputError, match=rf"^labels: .*/x.json .*{said}"):
            one_image(tmp_path / "x.json", [mask | entry])


def test_pictures_that_do_not_fit_the_file(tmp_path: Path) -> None:
    labels, _ = make()
    path = written.panoptic(tmp_path / "p.json", labels)
    edited(path, lambda whole: whole["annotations"][0]["segments_info"].pop())
    with pytest.raises(InputError, match=r"^labels: .*/p/a.png has the segment 100\d, which"):
        files.labels(path).read("a")
    edited(path, lambda whole: whole["annotations"].pop(0))
    with pytest.raises(InputError, match=r"^labels: .* the image 'a' has no annotation"):
        files.labels(path).read("a")


def test_names_twice(tmp_path: Path) -> None:
    labels, _ = make()
    path = written.instances(tmp_path / "i.json", labels)
    edited(path, lambda whole: whole["images"].append(whole["images"][0] | {"id": 77}))
    with pytest.raises(InputError, match=r"^labels: .*/i.json has two images that are called 'a'"):
        files.labels(path)


def test_predictions_are_not_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pred_probs: .* is JSON, which has no predictions"):
        files.pred_probs(tmp_path / "x.json")
