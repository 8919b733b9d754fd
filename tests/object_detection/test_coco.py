from __future__ import annotations

import gzip
import json
import re
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as masks

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.object_detection import from_coco, rank
from dask_labelqc.object_detection.coco_segmentation import box_of_segmentation
from tests.strategies import examples


def annotation(image: Any, category: Any, box: Any, **more: Any) -> Any:
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
def files(tmp_path: Path) -> Any:
    def write(truth: Any = TRUTH, results: Any = RESULTS) -> Any:
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        (tmp_path / "results.json").write_text(json.dumps(results))
        return tmp_path / "truth.json", str(tmp_path / "results.json")

    return write


def test_boxes_classes_and_crowds(files: Any) -> None:
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


def test_no_boxes_at_all(files: Any, tmp_path: Path) -> None:
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
def test_what_does_not_fit_is_named(files: Any, annotations: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_coco(*files(TRUTH | {"annotations": annotations}))


def test_file_without_images(files: Any) -> None:
    with pytest.raises(InputError, match="has 0 images and 2 categories"):
        from_coco(*files(TRUTH | {"images": []}))


def test_missing_ijson_prints_the_line_to_type(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[coco\]"'):
        from_coco(*files())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b" \n"])
def test_files_may_be_packed_or_begin_with_a_mark(tmp_path: Path, packed: Any, mark: Any) -> None:
    """Whatever their suffix is: what a file begins with says how it is packed."""
    pack = gzip.compress if packed else bytes
    truth, results = tmp_path / "truth.json.gz", tmp_path / "results.json"
    truth.write_bytes(pack(mark + json.dumps(TRUTH).encode()))
    results.write_bytes(pack(mark + json.dumps(RESULTS).encode()))
    assert from_coco(truth, results)["predicted_scores"].values.tolist() == [0.5, 0.75]


def test_results_as_a_whole_coco_file(files: Any) -> None:
    """They were read as no results at all, and every image scored 1.0."""
    plain = from_coco(*files())
    for form in ({"annotations": RESULTS}, TRUTH | {"annotations": RESULTS}, {
        "info": None, "images": None, "annotations": RESULTS, "categories": [{"id": 7}]
    }):  # fmt: skip
        xr.testing.assert_identical(from_coco(*files(results=form)), plain)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"results": RESULTS}, r"results\.json has no 'annotations'; it has \['results'\]"),
        ({"annotations": {"0": RESULTS[0]}}, "annotations must be a list, got start map"),
        ({"annotations": None}, "annotations must be a list, got null"),
        (5, r"results\.json begins with b'5'; it must be a JSON list or object"),
        (
            {"annotations": [], "categories": [{"id": 7, "name": "kite"}]},
            r"categories\[0\]: name is 'kite'; in the ground truth the id 7 is 'train'",
        ),
        (
            {"annotations": [], "images": [{"id": 10, "file_name": "a.jpg"}]},
            r"images\[0\]: file_name is 'a.jpg'; in the ground truth the id 10 is 'ten.jpg'",
        ),
    ],
)
def test_results_that_are_none_are_named(files: Any, results: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_coco(*files(results=results))


def without(key: Any, entry: Any) -> Any:
    return {name: value for name, value in entry.items() if name != key}


GOOD = annotation(10, 7, [1, 2, 3, 4], score=0.5)
MISSING = "got nothing: the key is missing"
BAD_ENTRIES = [
    ("score", without("score", GOOD), f"score must be a number between 0 and 1, {MISSING}"),
    ("score", GOOD | {"score": None}, "score must be a number between 0 and 1, got None"),
    ("score", GOOD | {"score": 1.5}, "score must be .*, got 1.5"),
    ("score", GOOD | {"score": "0.5"}, "score must be .*, got '0.5'"),
    ("score", GOOD | {"score": True}, "score must be .*, got True"),
    ("score", without("bbox", GOOD), f"bbox must be .*, {MISSING}"),
    ("score", GOOD | {"bbox": None}, "bbox must be .*, got None"),
    ("any", without("image_id", GOOD), f"image_id must be a whole number or a text, {MISSING}"),
    ("any", GOOD | {"image_id": None}, "image_id must be .*, got None"),
    ("any", GOOD | {"image_id": True}, "image_id must be .*, got True"),
    ("any", GOOD | {"image_id": [10]}, r"image_id must be .*, got \[10\]"),
    ("any", GOOD | {"image_id": "10"}, "image_id '10' is not in the ground truth"),
    ("any", GOOD | {"category_id": 7.5}, "category_id must be .*, got 7.5"),
    ("any", without("category_id", GOOD), f"category_id must be .*, {MISSING}"),
    ("any", GOOD | {"bbox": [1, 2, 3, None]}, r"bbox must be .*, got \[1, 2, 3, None\]"),
    ("any", GOOD | {"bbox": [1, 2, -3, 4]}, r"bbox must be .*, got \[1, 2, -3, 4\]"),
    ("any", GOOD | {"bbox": [1e308, 2, 1e308, 4]}, "bbox must be .*, finite"),
    ("any", GOOD | {"bbox": {"x": 1}}, "bbox must be .*, got {'x': 1}"),
    ("any", GOOD | {"bbox": ["1", 2, 3, 4]}, "bbox must be "),
    ("any", [1, 2, 3, 4], r"must be an object, got \[1, 2, 3, 4\]"),
    ("any", None, "must be an object, got None"),
    ("truth", GOOD | {"iscrowd": "yes"}, "iscrowd must be 0 or 1, got 'yes'"),
    ("truth", without("bbox", GOOD) | {"segmentation": [[1, 2, 3]]}, "segmentation must be "),
    ("truth", without("bbox", GOOD) | {"segmentation": "mask"}, "segmentation must be "),
]


@pytest.mark.parametrize(("where", "entry", "message"), BAD_ENTRIES)
def test_bad_entries_are_named_with_file_and_key(
    files: Any, where: Any, entry: Any, message: str
) -> None:
    if where != "truth":
        with pytest.raises(InputError, match=rf"results\.json: results\[1\]:? {message}"):
            from_coco(*files(results=[GOOD, entry]))
        with pytest.raises(InputError, match=rf"results\.json: annotations\[1\]:? {message}"):
            from_coco(*files(results={"annotations": [GOOD, entry]}))
    if where != "score":
        with pytest.raises(InputError, match=rf"truth\.json: annotations\[1\]:? {message}"):
            from_coco(*files(TRUTH | {"annotations": [GOOD, entry]}))


def test_nulls_that_mean_nothing(files: Any) -> None:
    truth = {
        "images": [{"id": 1, "file_name": None}],
        "categories": [{"id": 2.0, "name": None}],
        "annotations": [annotation(1.0, 2, [1, 2, 3, 4], iscrowd=None)],
    }
    dataset = from_coco(*files(truth, []))
    assert dataset["image_name"].values.tolist() == [""]
    assert dataset["class_name"].values.tolist() == ["2"]
    assert dataset["given_crowd"].values.tolist() == [False]


def test_what_is_listed_twice(files: Any, tmp_path: Path) -> None:
    """It is one when it says the same, and an error when it does not."""
    images, categories = TRUTH["images"], TRUTH["categories"]
    plain = from_coco(*files())
    twice = TRUTH | {"images": [*images, images[0]], "categories": [categories[1], *categories]}
    found = from_coco(*files(twice))
    assert found["image_id"].values.tolist() == [10, 20, 30]
    assert found["category_id"].values.tolist() == [7, 90]
    np.testing.assert_array_equal(found["given_boxes"], plain["given_boxes"])
    found.to_zarr(tmp_path / "boxes.zarr", consolidated=False)
    for key, entry, message in (
        ("images", {"id": 10, "file_name": "x"}, "the file_name 'ten.jpg' instead of 'x'"),
        ("categories", {"id": 7, "name": "x"}, "the name 'train' instead of 'x'"),
    ):
        with pytest.raises(InputError, match=rf"truth.json: {key}\[\d\]: id .*{message}"):
            from_coco(*files(TRUTH | {key: [*TRUTH[key], entry]}))


def test_ids_as_text(files: Any, tmp_path: Path) -> None:
    truth = {
        "images": [{"id": "a"}, {"id": "b"}],
        "categories": [{"id": "x"}],
        "annotations": [annotation("b", "x", [1, 2, 3, 4])],
    }
    dataset = from_coco(*files(truth, []))
    assert dataset["given_offsets"].values.tolist() == [0, 0, 1]
    assert dataset["category_id"].values.tolist() == ["x"]
    dataset.to_zarr(tmp_path / "boxes.zarr", consolidated=False)
    with pytest.raises(InputError, match=r"images\[2\]: id 3 and others before are text and num"):
        from_coco(*files(truth | {"images": [*truth["images"], {"id": 3}]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"file_name": "a"}]}, r"images\[0\]: id must be .*the key is missing"),
        ({"images": [7]}, r"images\[0\] must be an object, got 7"),
        ({"images": [{"id": 1, "file_name": 5}]}, r"images\[0\]: file_name must be a text, got 5"),
        ({"images": [{"id": 2.0**70}]}, r"images\[0\]: id must be a whole number"),
        ({"categories": [{"id": {}}]}, r"categories\[0\]: id must be a whole number or a text"),
        ({"categories": {"7": "train"}}, "categories must be a list, got start map"),
    ],
)
def test_images_and_categories_are_checked(files: Any, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"truth\.json:? {message}"):
        from_coco(*files(TRUTH | change))
    for key in TRUTH:
        with pytest.raises(InputError, match=rf"truth\.json has no '{key}'; it has \['"):
            from_coco(*files(without(key, TRUTH)))
    with pytest.raises(InputError, match=r"truth\.json is a list; the ground truth must be an obj"):
        from_coco(*files([]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(RESULTS).encode()[:-9], "is no whole JSON file after 1 entries"),
        (json.dumps(RESULTS).encode() + b"x", "is no whole JSON file after 2 entries.*garbage"),
        (gzip.compress(json.dumps(RESULTS).encode(), mtime=0)[:-20], "is no whole JSON file"),
        (b"\x1f\x8bnothing", "is no whole JSON file"),
        (b"", "is empty; it must be a JSON list or object"),
        (b"\x93NUMPY", "begins with b.*it must be a JSON list or object"),
        (b'[{"score": NaN}]', "is no whole JSON file after 0 entries"),
        (b'["\xff"]', "is no whole JSON file after 0 entries"),
        (None, "cannot be read: .*No such file"),
    ],
    ids=["cut", "longer", "gzip cut", "no gzip", "empty", "binary", "NaN", "no text", "gone"],
)
def test_damaged_files_are_named(files: Any, content: Any, message: str) -> None:
    truth, results = files()
    Path(results).unlink() if content is None else Path(results).write_bytes(content)
    with pytest.raises(InputError, match=rf"results\.json {message}"):
        from_coco(truth, results)


POLYGONS = [[4, 1, 1, 1, 1, 3], [2.5, 0, 2, 0, 2, 2]]
RUNS = {"size": [5, 7], "counts": [11, 2, 3, 1, 18]}
"""Pixels (row, column): (1, 2), (2, 2), (1, 3)."""


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (POLYGONS, [1, 0, 4, 3]),
        (POLYGONS[0], [1, 1, 4, 3]),
        (RUNS, [2, 1, 4, 3]),
        ("compressed", [2, 1, 4, 3]),
    ],
)
def test_boxes_of_segmentations(files: Any, segmentation: Any, expected: Any) -> None:
    if segmentation == "compressed":
        compressed = masks.frPyObjects(RUNS, 5, 7)
        segmentation = compressed | {"counts": compressed["counts"].decode()}
    entries = [
        annotation(30, 7, missing, segmentation=segmentation, score=0.5) for missing in ([], None)
    ]
    entries.append(without("bbox", entries[0]))
    dataset = from_coco(*files(TRUTH | {"annotations": entries}, entries))
    assert dataset["given_boxes"].values.tolist() == [expected] * 3
    assert dataset["predicted_boxes"].values.tolist() == [expected] * 3


@given(
    st.integers(1, 6).flatmap(
        lambda h: st.lists(st.lists(st.booleans(), min_size=h, max_size=h), min_size=1, max_size=6)
    )
)
def test_boxes_of_any_mask(columns: Any) -> None:
    """Column by column, as COCO counts pixels."""
    flat = np.concatenate([[False], np.ravel(columns)])
    edges = np.flatnonzero(np.diff(flat.astype(int)))
    counts = np.diff([0, *edges, len(flat) - 1]).tolist()
    size = [len(columns[0]), len(columns)]
    x, y = np.nonzero(columns)
    expected = None
    if len(x):
        expected = (x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min())
    compressed = masks.frPyObjects({"size": size, "counts": counts}, *size)["counts"].decode()
    for form in (counts, compressed):
        assert box_of_segmentation({"size": size, "counts": form}) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"size": [0, 7]},
        {"size": [5]},
        {"size": [2**20, 2**20]},
        {"size": ["5", 7]},
        {"counts": [11, 2]},
        {"counts": [11, -2, 26]},
        {"counts": [11.5, 23.5]},
        {"counts": None},
        {"counts": "o"},
        {"counts": "\x00"},
        {"counts": "äö"},
        {"counts": "ooooooooooooo0"},
        {"counts": "0ooo0"},
    ],
)
def test_masks_that_cannot_be_are_refused(change: Any) -> None:
    with pytest.raises(InputError, match=r"segmentation must be polygons .* counts that fit it"):
        box_of_segmentation(RUNS | change)


def test_annotations_without_any_box_are_counted(files: Any) -> None:
    """Captions, for example."""
    empty = {"size": [5, 7], "counts": [35]}
    entries = [{"image_id": 10, "caption": "a kite"}, GOOD, {"segmentation": []}]
    entries.append(annotation(10, 7, None, segmentation=empty))
    with pytest.warns(LabelQCWarning, match=r"3 of 4 annotations .*first is .*annotations\[0\]"):
        dataset = from_coco(*files(TRUTH | {"annotations": entries}))
    assert dataset["given_boxes"].values.tolist() == [[1, 2, 4, 6]]


def test_missing_pycocotools_prints_the_line_to_type(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    entry = annotation(30, 7, None, segmentation=POLYGONS)
    assert from_coco(*files(TRUTH | {"annotations": [entry]})).sizes["given_box"] == 1
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[coco\]"'):
        from_coco(*files(TRUTH | {"annotations": [entry | {"segmentation": RUNS}]}))


def test_memory_does_not_grow_with_the_file(files: Any) -> None:
    """Boxes are kept, 60 bytes each; what the file has besides is not."""
    baggage = {"segmentation": [list(range(400))], "text": "x" * 2000}
    entries = [annotation(30, 7, [1, 2, 3, 4], **baggage) for _ in range(2000)]
    paths = files(TRUTH | {"annotations": entries}, [])
    from_coco(*paths)
    tracemalloc.start()
    from_coco(*paths)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < Path(paths[0]).stat().st_size / 8


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats(allow_nan=False) | st.text("a7"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a", max_size=1), inner),
    max_leaves=5,
)
NUMBERS = st.lists(st.integers(0, 9), min_size=3, max_size=7)
VALUES = {
    "id": st.sampled_from([1, 1, 2, "a", None]),
    "image_id": st.sampled_from([1, 1, 1, 2, 1.0, "a", None]),
    "category_id": st.sampled_from([1, 1, 1, 2, True]),
    "bbox": NUMBERS | st.none() | JSON,
    "score": st.sampled_from([0, 0.5, 1, 1, 1.5, None, "1"]),
    "segmentation": st.lists(NUMBERS, max_size=2) | st.just(RUNS) | JSON,
    "iscrowd": st.sampled_from([0, 0, 1, 2, None]),
    "name": st.sampled_from(["a", "a", "b", None, 3]),
    "file_name": st.sampled_from(["a", "a", "b", None, 3]),
}


USUAL = {
    "id": 1,
    "image_id": 1,
    "category_id": 1,
    "bbox": [1, 2, 3, 4],
    "score": 0.5,
    "iscrowd": 0,
}


@st.composite
def objects(draw: st.DrawFn, *keys: Any) -> Any:
    """An entry that is right but for one value at most; seldom no entry."""
    entry = {key: USUAL[key] for key in keys if key in USUAL}
    strange = draw(st.sampled_from([None, None, *keys, "missing", "all"]))
    if strange == "all":
        return draw(JSON)
    if strange == "missing":
        return without(draw(st.sampled_from(keys)), entry)
    return entry if strange is None else entry | {strange: draw(VALUES[strange])}


def lists_of(*keys: Any) -> Any:
    return st.lists(objects(*keys), max_size=3)


BOXES = lists_of("image_id", "category_id", "bbox", "segmentation", "score", "iscrowd")
PARTS = {
    "images": lists_of("id", "file_name"),
    "categories": lists_of("id", "name"),
    "annotations": BOXES,
}


@st.composite
def truths(draw: st.DrawFn) -> Any:
    """A file that is right but for one of its lists at most."""
    truth = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": []}
    part = draw(st.sampled_from([*PARTS, "annotations", "missing", "all"]))
    if part == "all":
        return draw(JSON)
    if part == "missing":
        return without(draw(st.sampled_from(list(PARTS))), truth)
    return truth | {part: draw(PARTS[part] | PARTS[part] | JSON)}


def expected_boxes(entries: Any) -> Any:
    """Corners and scores of entries that are as they should be, by pycocotools' reading."""
    corners = []
    for entry in entries:
        x, y, w, h = entry["bbox"] or box_of_segmentation(entry["segmentation"])
        corners.append([x, y, x + w, y + h])
    return corners


def read_or_refusal(paths: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelQCWarning)
        try:
            return from_coco(*paths), None
        except InputError as error:
            return None, str(error)


@given(truths(), BOXES | truths() | JSON, st.integers(0, 10**6))
@settings(examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_read_right_or_refused(files: Any, truth: Any, results: Any, cut: Any) -> None:
    """Of one image and one category what is read can be said in a line."""
    paths = files(truth, results)
    dataset, refusal = read_or_refusal(paths)
    if dataset is None:
        assert re.search(r"(truth|results)\.json", refusal)
        return
    assert dataset.sizes["class"] == len({category["id"] for category in truth["categories"]})
    assert dataset["image_id"].values.tolist() == list({i["id"]: 0 for i in truth["images"]})
    found = results["annotations"] if isinstance(results, dict) else results
    boxed = [e for e in truth["annotations"] if e.get("bbox") or e.get("segmentation")]
    assert sorted(dataset["given_boxes"].values.tolist()) == sorted(expected_boxes(boxed))
    assert sorted(dataset["predicted_boxes"].values.tolist()) == sorted(expected_boxes(found))
    assert sorted(dataset["predicted_scores"].values) == sorted(e["score"] for e in found)
    rank.get_label_quality_scores(dataset)
    whole = Path(paths[1]).read_bytes()
    Path(paths[1]).write_bytes(whole[: cut % len(whole)])
    dataset, refusal = read_or_refusal(paths)
    assert dataset is None
    assert re.search(r"results\.json", refusal)
