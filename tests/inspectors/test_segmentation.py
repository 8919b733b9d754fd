"""What an inspector takes in, what it refuses, and when it puts it on record."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_labelqc import (
    InputError,
    LabelInspector,
    LabelQCWarning,
    OutputError,
    SegmentationInspector,
)
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.storage.ledger import Ledger
from dask_labelqc.storage.stores import open_store
from tests.inspectors.recording import finish, inspector, names, put, record, same_answers
from tests.pipeline.datasets import audit, write_case
from tests.strategies import Case, make_case

CASE = make_case(20, (4, 3, 5), 4)
IDS = names(CASE)


def objects(output: Path) -> list[str]:
    return Ledger(open_store(output)).names()


@pytest.fixture
def inspecting(tmp_path: Path) -> SegmentationInspector:
    return inspector(tmp_path / "out", CASE)


def test_it_puts_on_record_what_is_enough(tmp_path: Path) -> None:
    inspecting = inspector(tmp_path / "out", CASE, flush_images=2)
    put(inspecting, CASE, [0])
    assert not objects(tmp_path / "out")
    put(inspecting, CASE, [1])
    assert len(objects(tmp_path / "out")) == 1
    put(inspecting, CASE, [2])
    inspecting.flush()
    inspecting.flush()
    assert len(objects(tmp_path / "out")) == 2
    by_bytes = inspector(tmp_path / "out", CASE, flush_bytes=1)
    put(by_bytes, CASE, [3])
    assert len(objects(tmp_path / "out")) == 3


def test_what_is_missing(tmp_path: Path) -> None:
    """It knows what it holds, and what any inspector has put on record."""
    one, other = inspector(tmp_path / "out", CASE), inspector(tmp_path / "out", CASE)
    assert one.missing(IDS) == IDS
    put(one, CASE, [2])
    assert one.missing(IDS) == [IDS[0], IDS[1], IDS[3]]
    assert other.missing(IDS) == IDS
    one.close()
    put(other, CASE, [0])
    assert other.missing(IDS[::-1]) == [IDS[3], IDS[1]]
    assert other.missing([]) == []


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    with SegmentationInspector(tmp_path / "out", 4) as inspecting:
        inspecting.update(np.arange(4), CASE.labels, pred_probs=CASE.pred_probs)
        assert inspecting.missing(["0", 1, np.int64(2), "3", 4]) == ["4"]
    assert finish(tmp_path / "out").open().image_id.values.tolist() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("class_axis", [-1, 2])
def test_classes_along_any_axis(class_axis: int, tmp_path: Path) -> None:
    stored = write_case(tmp_path / "in", CASE)
    audit(stored, tmp_path / "stored")
    moved = np.moveaxis(CASE.pred_probs, 1, class_axis)
    with SegmentationInspector(tmp_path / "out", 4, class_axis=class_axis) as inspecting:
        inspecting.update(IDS[:3], CASE.labels[:3], pred_probs=moved[:3])
    if class_axis == -1:  # a list lacks the axis of the images, and its classes are the last too
        with SegmentationInspector(tmp_path / "out", 4, class_axis=class_axis) as inspecting:
            inspecting.update(IDS[3:], [CASE.labels[3]], pred_probs=[moved[3]])
    else:
        record(tmp_path / "out", CASE, [3])
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", tmp_path / "stored")


def test_masked_labels_take_part_in_nothing(tmp_path: Path) -> None:
    mask = np.zeros(CASE.labels.shape, bool)
    mask[1, 2] = True
    void = Case(np.where(mask, 255, CASE.labels), CASE.pred_probs, (255,))
    stored = write_case(tmp_path / "in", void)
    audit(stored, tmp_path / "stored", ignore_index=255)
    with inspector(tmp_path / "out", void) as inspecting:
        labels = np.ma.MaskedArray(CASE.labels, mask)
        inspecting.update(IDS, labels, pred_probs=CASE.pred_probs)
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", tmp_path / "stored")


def test_threads_may_share_it(tmp_path: Path) -> None:
    case = make_case(21, (40, 3, 5), 4)
    inspecting = inspector(tmp_path / "out", case, flush_images=3)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: put(inspecting, case, [i]), range(40)))
    inspecting.close()
    assert not inspecting.missing(names(case))
    assert finish(tmp_path / "out").num_images == 40


def test_a_copy_is_a_writer_of_its_own(inspecting: SegmentationInspector, tmp_path: Path) -> None:
    put(inspecting, CASE, [0, 1])
    copy = pickle.loads(pickle.dumps(inspecting))
    put(copy, CASE, [2, 3])
    copy.close()
    assert inspecting.missing(IDS) == []
    inspecting.close()
    writers = {name.rpartition("-")[0] for name in objects(tmp_path / "out")}
    assert len(writers) == 2


def test_a_fork_is_a_writer_of_its_own(inspecting: SegmentationInspector, tmp_path: Path) -> None:
    put(inspecting, CASE, [0, 1])
    child = os.fork()
    if not child:
        status = 1
        try:
            put(inspecting, CASE, [2])
            inspecting.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert inspector(tmp_path / "out", CASE).missing(IDS) == [IDS[0], IDS[1], IDS[3]]
    inspecting.close()
    assert inspecting.missing(IDS) == IDS[3:]


def test_what_cannot_be_written_is_kept(
    inspecting: SegmentationInspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OutputError("no space")

    put(inspecting, CASE, [0])
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", refuse)
        with pytest.raises(OutputError, match="no space"):
            inspecting.flush()
    inspecting.close()
    assert inspector(tmp_path / "out", CASE).missing(IDS) == IDS[1:]


def test_what_never_gets_on_record_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inspecting = inspector(tmp_path / "out", CASE)
    put(inspecting, CASE, [0, 1])
    copy = pickle.loads(pickle.dumps(inspecting))
    del copy
    assert not caplog.text
    del inspecting
    assert "2 items were taken in and never put on record" in caplog.text
    put_on_record = inspector(tmp_path / "out", CASE)
    put(put_on_record, CASE, [0, 1])
    put_on_record.close()
    caplog.clear()
    del put_on_record
    assert not caplog.text


def test_it_takes_nothing_once_it_is_closed(inspecting: SegmentationInspector) -> None:
    inspecting.close()
    inspecting.close()
    with pytest.raises(InputError, match="update: this inspector is closed"):
        put(inspecting, CASE, [0])


def changed(what: str, value: Any) -> dict[str, Any]:
    """The arguments of an update, one of them another."""
    given = {"ids": IDS, "labels": CASE.labels, "pred_probs": CASE.pred_probs}
    return given | {what: value}


def with_value(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


BAD = {
    "an id twice": (
        changed("ids", ["a", "b", "a", "c"]),
        "ids: 'a' stands for more than one item",
    ),
    "no Unicode": (
        changed("ids", ["a", "caf\udce9", "b", "c"]),
        r"ids: 'caf\\udce9' is no Unicode text",
    ),
    "no id": (changed("ids", ["a", None, "b", "c"]), "ids: got None at 1, it must be a text"),
    "one text": (changed("ids", "abcd"), "ids: got 'abcd', it must be a sequence"),
    "too few ids": (changed("ids", ["a"]), "labels: got 4 images for 1 ids"),
    "too few images": (
        changed("pred_probs", CASE.pred_probs[:2]),
        "pred_probs: got 2 images for 4",
    ),
    "another size": (
        changed("labels", CASE.labels[:, :2]),
        r"pred_probs: got shape \(4, 4, 3, 5\), it must be \(N, K, \*spatial\) with the N and",
    ),
    "another K": (
        changed("pred_probs", np.full((4, 3, 3, 5), 1 / 3, np.float32)),
        r"K = 3 classes; num_classes is 4",
    ),
    "a label outside": (
        changed("labels", with_value(CASE.labels, (2, 1, 3), 77)),
        r"labels: 1 of 60 pixels in images 'tile_0000' to 'tile_0003' are outside 0..3 and not "
        r"ignored, the first is 77 at image 'tile_0002', pixel \(1, 3\); ignore_index=77 leaves",
    ),
    "a fraction": (
        changed("labels", with_value(CASE.labels.astype(float), (2, 1, 3), 1.5)),
        r"labels: got 1.5 at image 'tile_0002', pixel \(1, 3\)",
    ),
    "NaN": (
        changed("pred_probs", with_value(CASE.pred_probs, (1, 2, 0, 4), np.nan)),
        r"pred_probs: class 2 is nan at image 'tile_0001', pixel \(0, 4\); it must be finite",
    ),
    "above one": (
        changed("pred_probs", 3 * CASE.pred_probs + 1),
        "probabilities must lie between 0 and 1; logits= is for logits",
    ),
    "texts": (
        changed("pred_probs", np.full(CASE.pred_probs.shape, "x")),
        "pred_probs: got dtype <U1",
    ),
    "both": (changed("logits", CASE.pred_probs), "logits, pred_probs: got both, it must be one of"),
    "neither": (changed("pred_probs", None), "logits, pred_probs: got neither"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_batches(name: str, inspecting: SegmentationInspector) -> None:
    """Nothing of them is taken in."""
    given, message = BAD[name]
    with pytest.raises(InputError, match=message):
        inspecting.update(**given)
    ids = given["ids"] if name not in ("one text", "no Unicode") else IDS
    assert len(inspecting.missing([i for i in dict.fromkeys(ids) if i])) == len({*ids} - {None})


def test_errors_of_logits_name_them(inspecting: SegmentationInspector) -> None:
    logits = with_value(CASE.pred_probs, (0, 0, 0, 0), np.inf)
    with pytest.raises(InputError, match=r"^logits: class 0 is inf at image 'tile_0000'"):
        inspecting.update(IDS, CASE.labels, logits=logits)


def test_one_dtype(inspecting: SegmentationInspector) -> None:
    put(inspecting, CASE, [0])
    with pytest.raises(InputError, match="pred_probs: got dtype float64 after float32"):
        inspecting.update(IDS[1:], CASE.labels[1:], pred_probs=CASE.pred_probs[1:].astype("f8"))


def test_one_number_of_dimensions(inspecting: SegmentationInspector) -> None:
    put(inspecting, CASE, [0])
    flat, probs = CASE.labels.reshape(4, -1), CASE.pred_probs.reshape(4, 4, -1)
    with pytest.raises(InputError, match="labels: got images of 1 dimensions after those of 2"):
        inspecting.update(IDS[1:], flat[1:], pred_probs=probs[1:])


def test_what_a_sampler_pads_counts_once(inspecting: SegmentationInspector, tmp_path: Path) -> None:
    put(inspecting, CASE, [0, 1, 2, 3, 0])
    assert inspecting.missing(["a", IDS[0], "b", "a"]) == ["a", "b"]
    inspecting.close()
    assert finish(tmp_path / "out").num_images == 4
    audit(write_case(tmp_path / "in", CASE), tmp_path / "stored")
    same_answers(tmp_path / "out", tmp_path / "stored")


def test_sums_that_are_not_one_advise_another_bound(
    inspecting: SegmentationInspector, tmp_path: Path
) -> None:
    probs = CASE.pred_probs.copy()
    probs[2, :, 1, 1] = 0.4
    said = r"the worst sum is 1\.6 at image 'tile_0002', pixel \(1, 1\)"
    with pytest.warns(LabelQCWarning, match=f"{said}; .*bound=1"):
        inspecting.update(IDS, CASE.labels, pred_probs=probs)
    inspecting.close()
    with pytest.warns(LabelQCWarning, match=said):
        finish(tmp_path / "out")


def test_an_output_of_examples_is_called_that(
    inspecting: SegmentationInspector, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="is an output of segmentation, and these records are of"):
        LabelInspector(tmp_path / "out", num_class=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes: got 1"),
        ({"num_classes": 2.0}, "num_classes: got 2.0"),
        ({"ignore_index": "255"}, "ignore_index: got '255'"),
        ({"temperature": 0}, "temperature: got 0"),
        ({"class_names": ["a"]}, r"class_names: got \['a'\], it must be 4 names"),
        ({"class_names": {7: "a"}}, "class_names: got 7: 'a', it must be a class of 0..3"),
        ({"bound": 0.2}, "bound: got 0.2, it must be None, or above 0.5 and up to 1"),
        ({"class_axis": 0}, "class_axis: got 0"),
        ({"flush_bytes": 0}, "flush_bytes: got 0"),
        ({"flush_images": "1"}, "flush_images: got '1'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        SegmentationInspector(tmp_path / "out", **{"num_classes": 4, **arguments})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 5}, "num_classes was 4 and is 5"),
        ({"ignore_index": 255}, r"ignore_index was \[\] and is \[255\]"),
        ({"temperature": 0.2}, "temperature was 0.1 and is 0.2"),
        ({"class_names": list("abcd")}, "class_names was {} and is {'0': 'a'"),
        ({"bound": 1}, "bound was None and is 1"),
    ],
)
def test_inspectors_with_other_parameters(
    arguments: dict[str, Any], message: str, inspecting: SegmentationInspector, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=message):
        SegmentationInspector(tmp_path / "out", **{"num_classes": 4, **arguments})


def test_an_output_of_another_kind(tmp_path: Path) -> None:
    stored = write_case(tmp_path / "in", CASE)
    audit_zarr(*stored, tmp_path / "out", progress=False)
    for place in (tmp_path / "in", tmp_path / "out"):
        with pytest.raises(OutputError, match="exists and is no output of an inspector"):
            inspector(place, CASE)
    record(tmp_path / "recorded", CASE)
    with pytest.raises(OutputError, match="exists and is not an audit"):
        audit_zarr(*stored, tmp_path / "recorded", progress=False)
    finish(tmp_path / "recorded")
    with pytest.raises(OutputError, match="was made by other inputs or parameters"):
        audit_zarr(*stored, tmp_path / "recorded", progress=False)
