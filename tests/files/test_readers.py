"""Readers of Zarr groups and Parquet, readers of one's own, pairs, and what is in files."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from dask_labelqc import files
from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.files.reader import OwnReader
from tests.files import written
from tests.files.written import COLORS, make


class Squares:
    """A reader of one's own, in five lines."""

    ids = ("a", "b")

    def read(self, id: str) -> Any:
        return np.full((3, 3), self.ids.index(id))


def test_a_reader_of_ones_own() -> None:
    assert isinstance(Squares(), files.ImageReader)
    reader = files.labels(Squares())
    assert isinstance(reader, OwnReader)
    assert reader.ids == ["a", "b"]
    assert reader.form("b").shape == (3, 3)
    assert reader.read("b").tolist() == np.ones((3, 3)).tolist()
    assert reader.tag("b") is None
    assert pickle.loads(pickle.dumps(reader)).read("b").sum() == 9


def test_a_reader_of_ones_own_that_knows_shapes() -> None:
    class Known(Squares):
        class_names: ClassVar = {0: "no", 1: "yes"}

        def shape(self, id: str) -> tuple[int, int]:
            return 3, 3

        def read(self, id: str) -> Any:
            raise AssertionError

    reader = files.labels(Known())
    assert reader.form("a") == files.Form((3, 3))
    assert reader.class_names == {0: "no", 1: "yes"}


def test_formats_by_name(tmp_path: Path) -> None:
    labels, _ = make()
    folder = written.tiffs(tmp_path, labels)
    np.testing.assert_array_equal(files.labels(folder, format="geotiff").read("a"), labels["a"])
    with pytest.raises(InputError, match=r"^labels: got the format 'x', it must be one of picture"):
        files.labels(folder, format="x")
    (tmp_path / "a.dat").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.dat is of no format that is known by its name"):
        files.labels(f"{tmp_path}/*.dat")


def test_a_zarr_group(tmp_path: Path) -> None:
    labels, _ = make()
    reader = files.labels(written.zarr_group(tmp_path / "y.zarr", labels))
    before = {id: reader.tag(id) for id in reader.ids}
    group = zarr.open_group(tmp_path / "y.zarr", mode="r+")
    array = group["a"]
    assert isinstance(array, zarr.Array)
    array[0, 0] = 2 - array[0, 0]
    after = files.labels(tmp_path / "y.zarr")
    assert [id for id in after.ids if after.tag(id) != before[id]] == ["a"]
    zarr.open_group(tmp_path / "none.zarr", mode="w")
    with pytest.raises(InputError, match=r"^labels: .*/none.zarr has no arrays"):
        files.labels(tmp_path / "none.zarr")


def test_scaled_predictions_in_zarr(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "p.zarr", mode="w")
    array = group.create_array("a", data=np.zeros((2, 3, 3), np.uint8))
    array.attrs["scale_factor"] = 0.01
    assert files.pred_probs(tmp_path / "p.zarr").form("a").scale == 0.01


def test_parquet_reads_each_group_of_rows_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = make()
    path = written.parquet(tmp_path / "x.parquet", labels, "label", True)
    reader, reads = files.labels(path), Counter[int]()
    plain = pq.ParquetFile.read_row_group

    def counted(self: Any, i: int, *args: Any, **how: Any) -> Any:
        reads[i] += 1
        return plain(self, i, *args, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    for id in reader.ids:
        reader.read(id)
    assert reads == {0: 1, 1: 1}


def test_columns_of_parquet(tmp_path: Path) -> None:
    labels, probs = make()
    path = written.parquet(tmp_path / "x.parquet", labels, "truth", True)
    np.testing.assert_array_equal(files.labels(f"{path}#truth").read("a"), labels["a"])
    with pytest.raises(InputError, match=r"has no column 'labels' or .*; it has image_id, truth"):
        files.labels(path)
    with pytest.raises(InputError, match=r"x.parquet has no column 'other'; it has"):
        files.pred_probs(f"{path}#other")
    parts = tmp_path / "parts"
    written.parquet(parts / "1.parquet", {"a": probs["a"]}, "probs")
    written.parquet(parts / "2.parquet", {"c": probs["c"]}, "probs")
    both = files.pred_probs(parts)
    assert both.ids == ["a", "c"]
    np.testing.assert_array_equal(both.read("c"), probs["c"])
    written.parquet(parts / "3.parquet", {"c": probs["c"]}, "probs")
    with pytest.raises(InputError, match=r"3.parquet has the image 'c', which was there before"):
        files.pred_probs(parts)


def test_parquet_with_colors_and_with_something_else(tmp_path: Path) -> None:
    labels, _ = make()
    rgb = {id: np.array(COLORS, np.uint8)[y] for id, y in labels.items()}
    path = written.parquet(tmp_path / "x.parquet", rgb, "label", True)
    np.testing.assert_array_equal(files.labels(path, class_colors=COLORS).read("c"), labels["c"])
    pq.write_table(pa.table({"id": ["a"], "label": [5]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match=r"'a', has int in the column 'label', not bytes"):
        files.labels(tmp_path / "y.parquet").read("a")


def with_ids(*ids: str) -> files.Reader:
    reader = Squares()
    reader.ids = ids  # type: ignore[assignment]
    return files.labels(reader)


def test_pairs_are_in_the_order_of_the_labels() -> None:
    assert files.paired(with_ids("b", "a"), with_ids("a", "b")).ids == ["b", "a"]


def test_what_has_no_partner_is_listed_and_counted() -> None:
    with pytest.warns(LabelQCWarning) as warned:
        pairs = files.paired(with_ids("a", "b", "x"), with_ids("c", "b"))
    assert pairs.ids == ["b"]
    assert (pairs.only_labels, pairs.only_pred_probs) == (["a", "x"], ["c"])
    assert str(warned[0].message) == (
        "left out: 2 of labels without pred_probs, a, x; 1 of pred_probs without labels, c"
    )


def test_no_pairs() -> None:
    with pytest.raises(InputError, match=r"none of 1 images of labels, such as 'a_m', is among 2"):
        files.paired(with_ids("a_m"), with_ids("a", "b"))


def test_what_is_in_files(tmp_path: Path) -> None:
    labels, probs = make()
    rows = files.describe(files.labels(written.pictures(tmp_path / "y", labels)))
    assert rows == {
        "labels": "3 images of 3 sizes, 5 x 7 to 8 x 9",
        "values of labels": "0, 1, 2, in 3 images",
    }
    rows = files.describe(files.pred_probs(written.arrays(tmp_path / "p", probs)))
    low, high = min(p.min() for p in probs.values()), max(p.max() for p in probs.values())
    assert rows["values of pred_probs"] == f"float32 of {low:.4g} to {high:.4g}, in 3 images"
    (tmp_path / "y/a.png").write_bytes(b"damaged")
    rows = files.describe(files.labels(tmp_path / "y"))
    assert rows["damaged labels"].startswith("1: labels: ")
    assert rows["values of labels"] == "0, 1, 2, in 2 images"
