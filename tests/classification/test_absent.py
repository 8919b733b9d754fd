"""Chunks of labels and predictions that were never written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from dask_labelqc import InputError, LabelQCWarning
from dask_labelqc.classification import LabelInspector, find_label_issues_batched
from tests.classification.examples import draw_examples


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Labels in chunks of 70 and predictions in chunks of 50 x 4 of 300 examples, 9 classes."""
    monkeypatch.setattr("dask_labelqc.classification.on_scheduler.REGION_BYTES", 4000)
    monkeypatch.setattr("dask_labelqc.plan.BLOCK_BYTES", 2000)
    labels, pred_probs = draw_examples(3, 300, 9, np.float32)
    group = zarr.create_group(tmp_path / "data.zarr")
    group.create_array("labels", data=labels, chunks=(70,))
    group.create_array("pred_probs", data=pred_probs, chunks=(50, 4))
    group.create_array("transposed", data=pred_probs.T.copy(), chunks=(4, 50))
    return tmp_path / "data.zarr"


def opened(path: Any, *names: Any) -> Any:
    return [zarr.open_array(path / name, mode="r") for name in names]


def drop(path: Any, *chunks: Any) -> None:
    for chunk in chunks:
        (path / "c" / chunk).unlink()


LABELS = (
    r"labels: 3 of 5 chunks are not in the store, those of examples 70 to 209, 280 to 299; they "
    r"were read as class 0\. Zarr leaves out"
)


def test_labels_that_are_not_there_are_warned_of_once(stored: Any) -> None:
    drop(stored / "labels", "1", "2", "4")
    labels, pred_probs = opened(stored, "labels", "pred_probs")
    for predictions in (pred_probs, pred_probs[:], da.from_array(pred_probs[:], chunks=(90, 5))):
        with pytest.warns(LabelQCWarning, match=LABELS) as caught:
            found = find_label_issues_batched(labels, predictions, verbose=False)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        expected = find_label_issues_batched(labels[:], pred_probs[:], verbose=False)
        np.testing.assert_array_equal(found, expected)


def test_labels_of_nothing_but_class_0_that_were_written_are_no_cause(stored: Any) -> None:
    labels, pred_probs = opened(stored, "labels", "pred_probs")
    values = labels[:]
    values[70:140] = 0
    zarr.create_array(
        stored / "all",
        data=values,
        chunks=(70,),
        config={"write_empty_chunks": True},
    )
    find_label_issues_batched(*opened(stored, "all"), pred_probs, verbose=False)


def test_a_fill_value_that_is_no_class(stored: Any) -> None:
    labels, pred_probs = opened(stored, "labels", "pred_probs")
    zarr.create_array(stored / "void", data=labels[:], chunks=(70,), fill_value=255)
    drop(stored / "void", "3")
    with pytest.raises(InputError, match=r"outside 0\.\.8, the first is 255 at example 210"):
        find_label_issues_batched(*opened(stored, "void"), pred_probs, verbose=False)


@pytest.mark.parametrize("fill", [0.0, 1 / 9, np.nan])
@pytest.mark.parametrize("transposed", [False, True])
def test_predictions_of_whole_examples_that_are_not_there(
    stored: Any, transposed: Any, fill: Any
) -> None:
    """Even where what they read as looks like probabilities."""
    labels, pred_probs = opened(stored, "labels", "pred_probs")
    values = pred_probs[:].T.copy() if transposed else pred_probs[:]
    names = {"dimension_names": ("class", "example") if transposed else ("example", "class")}
    path, chunks = stored / "some", (4, 50) if transposed else (50, 4)
    zarr.create_array(path, data=values, chunks=chunks, fill_value=fill, **names)
    named = zarr.create_array(
        stored / "named", data=labels[:], chunks=(70,), dimension_names=("example",)
    )
    drop(path, *(f"{k}/2" if transposed else f"2/{k}" for k in range(3)))
    with pytest.raises(
        InputError, match="pred_probs: the chunks of examples 100 to 149 are not in the store"
    ):
        find_label_issues_batched(named, *opened(stored, "some"), verbose=False)


@pytest.mark.filterwarnings("ignore:pred_probs.*should sum to 1")
def test_classes_that_are_not_there_are_warned_of(stored: Any) -> None:
    labels, pred_probs = opened(stored, "labels", "pred_probs")
    drop(stored / "pred_probs", "0/2", "1/2", "4/2", "5/1")
    message = (
        "pred_probs: 4 of 18 chunks are not in the store; these probabilities were read as 0.0: "
        "classes 4 to 7 of examples 250 to 299; class 8 of examples 0 to 99, 200 to 249"
    )
    with pytest.warns(LabelQCWarning) as caught:
        found = find_label_issues_batched(labels, pred_probs, verbose=False)
    assert [str(w.message) for w in caught if "not in the store" in str(w.message)] == [message]
    expected = find_label_issues_batched(labels[:], pred_probs[:], verbose=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:pred_probs.*should sum to 1")
def test_an_inspector_sees_them_too(stored: Any) -> None:
    drop(stored / "labels", "1", "2", "4")
    drop(stored / "pred_probs", "0/2")
    inspector = LabelInspector(num_class=9, verbose=False)
    with pytest.warns(LabelQCWarning) as caught:
        inspector.update_confident_thresholds(*opened(stored, "labels", "pred_probs"))
    assert {w.filename for w in caught} == {__file__}
    said = " ".join(str(w.message) for w in caught)
    assert "labels: 3 of 5 chunks" in said
    assert "pred_probs: 1 of 18 chunks are not in the store" in said
    shutil.rmtree(stored / "pred_probs" / "c")
    with pytest.raises(InputError, match="the chunks of examples 0 to 299 are not in the store"):
        inspector.update_confident_thresholds(*opened(stored, "labels", "pred_probs"))


def test_many_runs_are_cut_short(stored: Any) -> None:
    labels, pred_probs = opened(stored, "labels", "pred_probs")
    sparse = zarr.create_array(stored / "sparse", data=np.maximum(labels[:], 1), chunks=(3,))
    drop(stored / "sparse", *(str(i) for i in range(0, 100, 2)))
    with pytest.warns(LabelQCWarning, match=r"50 of 100 .*24 to 26, 45 more runs; they"):
        find_label_issues_batched(sparse, pred_probs, verbose=False)
