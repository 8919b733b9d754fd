from __future__ import annotations

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
from PIL import Image

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.object_detection import from_yolo, rank
from tests.strategies import examples


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    labels, predictions = tmp_path / "labels", tmp_path / "predictions"
    labels.mkdir()
    predictions.mkdir()
    (labels / "b.txt").write_text("1 0.5 0.5 0.2 0.4\n\n0 0.25 0.25 0.5 0.5\n")
    (labels / "a.txt").write_text("")
    (predictions / "b.txt").write_text("2 0.5 0.5 0.2 0.2 0.875\n")
    return labels, predictions


def test_boxes_in_pixels(folders: Any) -> None:
    dataset = from_yolo(*folders, (200, 100))
    assert dataset["image_name"].values.tolist() == ["a", "b"]
    assert dataset["given_offsets"].values.tolist() == [0, 0, 2]
    np.testing.assert_allclose(dataset["given_boxes"], [[80, 30, 120, 70], [0, 0, 100, 50]])
    assert dataset["given_classes"].values.tolist() == [1, 0]
    np.testing.assert_allclose(dataset["predicted_boxes"], [[80, 40, 120, 60]])
    assert dataset["predicted_scores"].values.tolist() == [0.875]
    assert dataset.sizes["class"] == 3


def test_sizes_by_name_and_from_images(folders: Any, tmp_path: Path) -> None:
    sizes = {"a": (10, 10), "b": (200, 100), "c": (5, 5)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    for form in (sizes, tmp_path, str(tmp_path)):
        dataset = from_yolo(*folders, form, class_names=["x", "y", "z", "w"])
        assert dataset["image_name"].values.tolist() == ["a", "b", "c"]
        np.testing.assert_allclose(dataset["predicted_boxes"], [[80, 40, 120, 60]])
        assert dataset.sizes["class"] == 4


def test_what_does_not_fit_is_named(folders: Any, tmp_path: Path) -> None:
    labels, predictions = folders
    with pytest.raises(InputError, match="image_sizes: none for 1 images, the first is 'a'"):
        from_yolo(labels, predictions, {"b": (9, 9)})
    with pytest.raises(InputError, match=r"predictions must be a folder, got .*nowhere"):
        from_yolo(labels, tmp_path / "nowhere", (9, 9))
    with pytest.raises(InputError, match=r"b\.txt, line 1: 5 numbers, needed are 6: .*probability"):
        from_yolo(labels, labels, (9, 9))
    (labels / "b.txt").write_text("cat 0 0 1 1")
    with pytest.raises(InputError, match=r"b\.txt, line 1: .* could not convert string to"):
        from_yolo(labels, predictions, (9, 9))
    (labels / "a.txt").unlink()
    (labels / "b.txt").unlink()
    with pytest.raises(InputError, match="no images: "):
        from_yolo(labels, labels, (9, 9))


LINE = "1 0.5 0.5 0.2 0.4"
BAD_LINES = [
    ("1.7 0.5 0.5 0.2 0.4", r"the class must be a whole number of 0\.\.65535, got 1\.7"),
    ("nan 0.5 0.5 0.2 0.4", "the class must be a whole number .*, got nan"),
    ("-1 0.5 0.5 0.2 0.4", "the class must be a whole number .*, got -1"),
    ("1000000 0.5 0.5 0.2 0.4", "the class must be a whole number .*, got 1000000"),
    ("1 50 30 20 40", "x and y must be fractions of the image, 0..1, not pixels, got 50, 30"),
    ("1 0.5 nan 0.2 0.4", "x and y must be fractions .*, got 0.5, nan"),
    ("1 -0.2 0.5 0.2 0.4", "x and y must be fractions .*, got -0.2, 0.5"),
    ("1 0.5 0.5 20 40", "width and height must be fractions .* not pixels, got 20, 40"),
    ("1 0.5 0.5 0 0.4", "width and height must be .* above 0 and up to 1, not pixels, got 0, 0.4"),
    ("1 0.5 0.5 0.2 -0.4", "width and height must be .*, got 0.2, -0.4"),
    ("1 0.5 0.5 inf 0.4", "width and height must be .*, got inf, 0.4"),
    ("1 x 0.5 0.2 0.4", "'1 x 0.5 0.2 0.4' must be numbers: could not convert"),
    ("1 0.5 0.5 0.2", r"4 numbers, needed are 5: class, x, y, width, height \(label_columns\)"),
    ("1 0.5 0.5 0.2 0.4 0.9", "6 numbers, needed are 5"),
    ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers, needed are 5: .*, or a polygon"),
    ("1 10 10 20 20 30 10", "x and y must be fractions of the image"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_bad_lines_are_named(folders: Any, line: Any, message: str) -> None:
    (folders[0] / "b.txt").write_text(f"{LINE}\n\n{line}\n")
    with pytest.raises(InputError, match=rf"b\.txt, line 3: {message}"):
        from_yolo(*folders, (200, 100))


def test_memory_is_that_of_the_numbers(folders: Any) -> None:
    (folders[0] / "b.txt").write_text(f"{LINE}\n" * 20_000)
    size = (folders[0] / "b.txt").stat().st_size
    from_yolo(*folders, (200, 100))
    tracemalloc.start()
    dataset = from_yolo(*folders, (200, 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.sizes["given_box"] == 20_000
    lines = 80  # of the file that is being read, as Python's strings
    assert peak - size < (200 + lines) * 20_000


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan"])
def test_bad_probabilities_are_named(folders: Any, value: Any) -> None:
    (folders[1] / "b.txt").write_text(f"{LINE} 0.5\n{LINE} {value}\n")
    message = rf"b\.txt, line 2: the probability must be between 0 and 1, got {value}"
    with pytest.raises(InputError, match=message):
        from_yolo(*folders, (200, 100))


def test_the_number_of_classes_bounds_the_classes(folders: Any) -> None:
    """One typing error must not make arrays of a million classes."""
    assert from_yolo(*folders, (200, 100), num_classes=7).sizes["class"] == 7
    for options in ({"num_classes": 2}, {"class_names": ["x", "y"]}):
        with pytest.raises(InputError, match=r"b\.txt, line 1: .* number of 0\.\.1, got 2"):
            from_yolo(*folders, (200, 100), **options)
    with pytest.raises(InputError, match="class_names: got 2, but num_classes is 3"):
        from_yolo(*folders, (200, 100), class_names=["x", "y"], num_classes=3)
    with pytest.raises(InputError, match="class_names: got none"):
        from_yolo(*folders, (200, 100), class_names=[])
    with pytest.raises(InputError, match="num_classes: got 0, it must be 1 or more"):
        from_yolo(*folders, (200, 100), num_classes=0)


def test_boxes_out_of_their_image_are_warned_of_once(folders: Any) -> None:
    """Columns in another order can all be fractions."""
    labels, predictions = folders
    (predictions / "b.txt").write_text(f"{LINE} 0.9\n\n0 .9 .5 .5 .2 .2\n0 .5 .9 .2 .3 .4\n")
    message = (
        r"^2 of 3 predictions reach out of their image by more than 1 % of its size, the first "
        r"in .*predictions.b\.txt, line 3; are the columns in order \(prediction_columns=\)\?$"
    )
    with pytest.warns(LabelQCWarning, match=message) as caught:
        dataset = from_yolo(*folders, (100, 100))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_allclose(dataset["predicted_boxes"][1], [65, 40, 115, 60])
    (predictions / "b.txt").write_text(f"{LINE} 0.9\n0 .9 .9 .22 .22 .5\n")
    (labels / "a.txt").write_text("0 1 1 1 1\n")
    message = (
        r"^1 of 3 labels reach out of their image by more than 1 % of its size, the first in "
        r".*labels.a\.txt, line 1; are the columns in order \(label_columns=\)\?$"
    )
    with pytest.warns(LabelQCWarning, match=message):
        from_yolo(*folders, (100, 100))
    (predictions / "b.txt").write_text("0 .9 .5 .5 .2 .2\n")
    message = r"1 of 3 labels .*\(label_columns=\)\?; 1 of 1 predictions .*n_columns=\)\?$"
    with pytest.warns(LabelQCWarning, match=message) as caught:
        from_yolo(*folders, (100, 100))
    assert len(caught) == 1


def test_columns_in_another_order(folders: Any) -> None:
    plain = from_yolo(*folders, (200, 100))
    labels, predictions = folders
    for folder, order in ((labels, [1, 2, 3, 4, 0]), (predictions, [0, 5, 1, 2, 3, 4])):
        for file in folder.iterdir():
            lines = [line.split() for line in file.read_text().splitlines() if line]
            file.write_text("\n".join(" ".join(line[i] for i in order) for line in lines))
    options = {
        "label_columns": ["x", "y", "width", "height", "class"],
        "prediction_columns": ("class", "probability", "x", "y", "width", "height"),
    }
    xr.testing.assert_identical(from_yolo(labels, predictions, (200, 100), **options), plain)
    with pytest.raises(InputError, match=r"b\.txt, line 1: the class must .*: label_columns\)"):
        from_yolo(labels, predictions, (200, 100))
    for file in predictions.iterdir():
        file.write_text("".join(f"{line} 17\n" for line in file.read_text().splitlines()))
    options["prediction_columns"] += ("id",)
    xr.testing.assert_identical(from_yolo(labels, predictions, (200, 100), **options), plain)
    for columns in (["class", "x"], "class", [*options["label_columns"], "probability"]):
        with pytest.raises(InputError, match="label_columns must be class, x, y, width, height in"):
            from_yolo(labels, predictions, (200, 100), label_columns=columns)


def test_suffixes_and_folders_below(folders: Any, tmp_path: Path) -> None:
    labels, _ = folders
    for folder in folders:
        (folder / "train" / "street").mkdir(parents=True)
        (folder / "b.txt").rename(folder / "train" / "street" / "b.TXT")
    (labels / "a.txt").write_bytes(b"\xef\xbb\xbf" + LINE.encode() + b"\r\n")
    Image.new("RGB", (10, 20)).save(tmp_path / "a.JPG")
    (tmp_path / "train" / "street").mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(tmp_path / "train" / "street" / "b.png")
    dataset = from_yolo(*folders, tmp_path)
    assert dataset["image_name"].values.tolist() == ["a", "train/street/b"]
    np.testing.assert_allclose(dataset["predicted_boxes"], [[80, 40, 120, 60]])
    np.testing.assert_allclose(dataset["given_boxes"][:2], [[4, 6, 6, 14], [80, 30, 120, 70]])
    (labels / "train" / "street" / "b.txt").write_text(LINE)
    with pytest.raises(InputError, match="are both of the image 'train/street/b'"):
        from_yolo(*folders, tmp_path)


def test_names_that_do_not_meet_are_refused(folders: Any, tmp_path: Path) -> None:
    """Every image would have labels or predictions only."""
    (folders[1] / "b.txt").rename(folders[1] / "b_predicted.txt")
    with pytest.raises(InputError, match=r"no image has both .*a\.txt' and '.*b_predicted\.txt'"):
        from_yolo(*folders, (200, 100))


def test_labels_below_the_predictions(folders: Any) -> None:
    labels, predictions = folders
    labels.rename(predictions / "labels")
    dataset = from_yolo(predictions / "labels", predictions, (200, 100))
    assert dataset["image_name"].values.tolist() == ["a", "b"]


def test_boxes_of_polygons_and_oriented_boxes(folders: Any) -> None:
    labels, predictions = folders
    oriented = "0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"
    (labels / "a.txt").write_text(f"{LINE}\n2 0.1 0.2 0.4 0.2 0.3 0.6\n0 {oriented}\n")
    (predictions / "a.txt").write_text(f"1 {oriented} 0.75\n1 0.5 0.5 0.5 0.5 0.25\n")
    message = "2 of 5 labels and 1 of 3 predictions are polygons or oriented boxes"
    with pytest.warns(LabelQCWarning, match=message):
        dataset = from_yolo(*folders, (100, 200))
    boxes = [[40, 60, 60, 140], [10, 40, 40, 120], [25, 50, 75, 150]]
    np.testing.assert_allclose(dataset["given_boxes"][:3], boxes)
    np.testing.assert_allclose(dataset["predicted_boxes"][:2], [boxes[2], boxes[2]])
    assert dataset["predicted_scores"].values.tolist() == [0.75, 0.25, 0.875]
    with pytest.raises(InputError, match=r"7 numbers, needed are 5: .*\(label_columns\)$"):
        from_yolo(*folders, (100, 200), label_columns=["x", "y", "class", "width", "height"])


@pytest.mark.parametrize("size", [(0, 9), (9,), (9, np.nan), (9, "9"), 9, None, (9, -1)])
def test_bad_sizes_are_named(folders: Any, size: Any) -> None:
    with pytest.raises(InputError, match=r"^image_sizes: got .*, it must be \(width, height\) in"):
        from_yolo(*folders, size)
    with pytest.raises(InputError, match=r"image_sizes\['b'\]: got .*, it must be \(width"):
        from_yolo(*folders, {"a": [5, 5], "b": size})


def test_pictures_are_measured_as_they_are_shown(folders: Any, tmp_path: Path) -> None:
    """A camera that was turned says so in the file."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (100, 200)).save(tmp_path / "b.jpg", exif=exif)
    Image.new("RGB", (100, 200)).save(tmp_path / "a.jpg")
    dataset = from_yolo(*folders, tmp_path)
    np.testing.assert_allclose(dataset["predicted_boxes"], [[80, 40, 120, 60]])
    Image.new("RGB", (100, 200)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png is \(100, 200\), another of its name \(200, "):
        from_yolo(*folders, tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.jpg is no image"):
        from_yolo(*folders, tmp_path)
    with pytest.raises(InputError, match="neither a size nor the folder of the"):
        from_yolo(*folders, tmp_path / "nowhere")


def test_files_that_are_no_text(folders: Any) -> None:
    (folders[0] / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"b\.txt cannot be read as text"):
        from_yolo(*folders, (9, 9))


WORDS = st.sampled_from(["0", "1", "2", "0.25", "0.5", "1.0", "1.7", "-1", "nan", "70", "x", "1e9"])
BOX_LINES = st.tuples(
    st.sampled_from(["0", "1", "2", "1.0"]), *[st.sampled_from(["0.25", "0.5", "1"])] * 4
)
LINES = st.lists(BOX_LINES | st.lists(WORDS, max_size=9), max_size=3)


@given(LINES, LINES, st.booleans())
@settings(examples(75), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_lines_are_read_right_or_refused(
    folders: Any, given_lines: Any, predicted_lines: Any, probable: Any
) -> None:
    if probable:
        predicted_lines = [[*line, "0.5"] for line in predicted_lines]
    for folder, lines in zip(folders, (given_lines, predicted_lines), strict=True):
        (folder / "b.txt").write_text("\n".join(map(" ".join, lines)))
    dataset, refusal = read_or_refusal(folders)
    if dataset is None:
        assert re.search(r"b\.txt, line \d", refusal)
        return
    for side, lines in (("given", given_lines), ("predicted", predicted_lines)):
        kept = [list(map(float, line)) for line in lines if line]
        boxes = [expected_box(line, 1 if side == "predicted" else 0) for line in kept]
        np.testing.assert_allclose(dataset[f"{side}_boxes"], np.reshape(boxes, (-1, 4)))
        assert dataset[f"{side}_classes"].values.tolist() == [line[0] for line in kept]
        assert dataset.sizes["class"] > max([line[0] for line in kept], default=0)
    rank.get_label_quality_scores(dataset)


def read_or_refusal(folders: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelQCWarning)
        try:
            return from_yolo(*folders, (200, 100)), None
        except InputError as error:
            return None, str(error)


def expected_box(line: Any, probabilities: Any) -> Any:
    numbers = line[1 : len(line) - probabilities]
    if len(numbers) == 4:
        x, y, w, h = numbers
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    else:
        xs, ys = numbers[::2], numbers[1::2]
        corners = [min(xs), min(ys), max(xs), max(ys)]
    return np.multiply(corners, [200, 100, 200, 100])


def test_missing_pillow_prints_the_line_to_type(
    folders: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[plot\]"'):
        from_yolo(*folders, tmp_path)
