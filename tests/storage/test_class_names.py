"""Names of classes are found wherever datasets keep them, and stand wherever a class is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

from dask_labelqc import audit_zarr, plan_audit, segmentation
from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.cli import labelqc
from dask_labelqc.errors import InputError
from dask_labelqc.segmentation.summary import common_label_issues
from dask_labelqc.storage.class_names import class_names
from tests.pipeline.datasets import Stored, write_case
from tests.strategies import make_case

CASE = make_case(21, (5, 8, 8), 3)
NAMES = {0: "sky", 1: "road", 2: "[b]car"}
FLAGS = {"flag_values": [0, 1, 2, 255], "flag_meanings": "sky road [b]car void"}
DIMS = ("image", "y", "x"), ("image", "band", "y", "x")


def arrays(labels: dict[str, Any], pred_probs: dict[str, Any], coords: dict[str, Any]) -> Any:
    return (
        xr.DataArray(CASE.labels, dims=DIMS[0], attrs=labels),
        xr.DataArray(CASE.pred_probs, coords, DIMS[1], attrs=pred_probs),
    )


@pytest.mark.parametrize(
    ("labels", "pred_probs", "coords", "expected"),
    [
        ({}, {}, {}, {}),
        (FLAGS, {}, {}, NAMES | {255: "void"}),
        ({**FLAGS, "flag_values": np.array([0, 1, 2, 255])}, {}, {}, NAMES | {255: "void"}),
        ({**FLAGS, "flag_values": "0, 1, 2, 255"}, {}, {}, NAMES | {255: "void"}),
        ({**FLAGS, "flag_values": [0, 1]}, {}, {}, {}),
        ({"flag_meanings": "sky road"}, {}, {}, {}),
        ({"class_names": list(NAMES.values())}, {}, {}, NAMES),
        ({}, {"class_names": {str(k): v for k, v in NAMES.items()}}, {}, NAMES),
        ({"class_names": "sky"}, {}, {}, {}),
        ({}, {}, {"band": list(NAMES.values())}, NAMES),
        ({}, {}, {"band": [7, 8, 9]}, {}),
        ({}, {}, {"class_name": ("band", np.array(list(NAMES.values()), object))}, NAMES),
        ({"class_names": ["a", "b", "c"]}, {}, {"band": list(NAMES.values())}, NAMES),
    ],
)
def test_where_names_are(
    labels: dict[str, Any],
    pred_probs: dict[str, Any],
    coords: dict[str, Any],
    expected: dict[int, str],
) -> None:
    given, predicted = arrays(labels, pred_probs, coords)
    assert class_names(given, predicted) == expected
    assert class_names(given.values, predicted) == {
        k: v for k, v in expected.items() if pred_probs or coords
    }
    assert class_names(given.values, predicted.values) == {}


def in_flags(group: zarr.Group) -> None:
    group["labels"].attrs.update(FLAGS)


def in_the_group(group: zarr.Group) -> None:
    group.attrs["class_names"] = list(NAMES.values())


def in_a_coordinate(group: zarr.Group) -> None:
    text = np.array(list(NAMES.values()))
    group.create_array("class", data=text, dimension_names=("class",))


WAYS = [in_flags, in_the_group, in_a_coordinate]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Stored:
    stored = write_case(tmp_path / "in", CASE)
    request.param(zarr.open_group(tmp_path / "in"))
    return stored


text = pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32")


def shown(*command: Any) -> str:
    result = CliRunner().invoke(labelqc, [*map(str, command)])
    assert result.exit_code == 0, result.output
    return result.stdout


@text
def test_names_in_every_summary(stored: Stored, tmp_path: Path) -> None:
    assert plan_audit(*stored).class_names == tuple(NAMES.values())
    assert re.search(r"classes +3: sky, road, \[b\]car *\n", shown("info", tmp_path / "in"))
    out = tmp_path / "out"
    printed = shown("audit", *stored, out, "--workers=0", "--quiet")
    audit = xr.open_zarr(out)
    issues = audit.class_issue_count.values
    worst = ", ".join(f"{NAMES[k]} ({issues[k]})" for k in np.argsort(-issues, kind="stable"))
    assert re.search(rf"worst classes +{re.escape(worst)} *\n", printed)
    report = audit_zarr(*stored, out, resume=True, progress=False)
    assert report.summary()["worst classes"] == worst
    assert audit.attrs["class_names"] == list(NAMES.values())


@text
def test_names_in_every_table(stored: Stored, tmp_path: Path) -> None:
    """Of the job's output, of a lazy audit, of the mask: the same table."""
    audit_zarr(*stored, tmp_path / "out", progress=False)
    group = zarr.open_group(tmp_path / "in", mode="r")
    labels, pred_probs = group["labels"], group["pred_probs"]
    lazy = segmentation.audit(labels, pred_probs)
    tables = [
        common_label_issues(tmp_path / "out", verbose=False),
        common_label_issues(xr.open_zarr(tmp_path / "out"), verbose=False),
        common_label_issues(lazy, verbose=False),
        common_label_issues(lazy.label_issues.data, labels, pred_probs, verbose=False),
    ]
    for table in tables:
        assert set(table.given_label) | set(table.predicted_label) == set(NAMES.values())
        assert table.equals(tables[0])
    plain = common_label_issues(tmp_path / "out", class_names=["a", "b", "c"], verbose=False)
    assert set(plain.given_label) <= {"a", "b", "c"}


@text
def test_names_in_every_error(stored: Stored, tmp_path: Path) -> None:
    array = zarr.open_array(stored.pred_probs)
    for value, problem in ((np.nan, "is nan at image 3"), (-1.0, "is -1 at image 3")):
        array[3, 2, 4, 5] = value
        message = re.escape(f"class 2 ('[b]car') {problem}")
        with pytest.raises(InputError, match=message):
            audit_zarr(*stored, tmp_path / "out", progress=False)
        with pytest.raises(InputError, match=message):
            segmentation.audit(*(zarr.open_array(path) for path in stored)).compute()


def test_names_in_errors_of_labels_and_examples() -> None:
    labels, pred_probs = arrays(FLAGS, {}, {})
    labels = labels.copy()
    labels[1, 2, 3] = 255
    with pytest.raises(InputError, match=r"the first is 255 \('void'\) at image 1"):
        segmentation.audit(labels, pred_probs)
    examples = xr.DataArray([0, 255], dims="n", attrs=FLAGS)
    probs = xr.DataArray([[0.1, 0.2, 0.7], [2.0, 0, 0]], dims=("n", "class"))
    with pytest.raises(InputError, match=r"the first is 255 \('void'\) at example 1"):
        find_label_issues_batched(examples, probs, verbose=False)
    with pytest.raises(InputError, match=r"class 0 \('sky'\) is 2 at example 1"):
        find_label_issues_batched(examples.where(examples < 3, 0), probs, verbose=False)


def test_names_change_no_answer_and_no_resume(tmp_path: Path) -> None:
    stored = write_case(tmp_path / "in", CASE)
    audit_zarr(*stored, tmp_path / "out", progress=False)
    group = zarr.open_group(tmp_path / "out", mode="r+", use_consolidated=False)
    group.attrs["status"] = "unfinished"
    in_flags(zarr.open_group(tmp_path / "in"))
    report = audit_zarr(*stored, tmp_path / "out", progress=False, resume=True)
    assert report.worst_classes[0][0] in NAMES.values()
