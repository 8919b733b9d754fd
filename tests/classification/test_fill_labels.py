"""Labels that stand for none where they are stored, as in images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc import InputError, LabelQCWarning, OutputError, audit_examples_zarr
from dask_labelqc.classification import find_label_issues_batched
from tests.classification.examples import draw_examples


@pytest.mark.parametrize("attribute", ["_FillValue", "missing_value"])
def test_they_take_part_in_nothing(attribute: str, tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 300, 3)
    gone = np.random.default_rng(0).random(300) < 0.3
    expected = find_label_issues_batched(np.where(gone, np.nan, labels), pred_probs, verbose=False)
    group = zarr.open_group(tmp_path / "in", mode="w")
    stored = np.where(gone, -1, labels).astype("i2")
    options: dict[str, Any] = {"dimension_names": ("example",), "attributes": {attribute: -1}}
    given = group.create_array("labels", data=stored, chunks=(70,), **options)
    probs = group.create_array("pred_probs", data=pred_probs, chunks=(70, 3))
    found = find_label_issues_batched(given, probs, verbose=False)
    np.testing.assert_array_equal(found, expected)
    report = audit_examples_zarr(given, probs, tmp_path / "out", progress=False)
    np.testing.assert_array_equal(report.open().issue_index, expected)
    assert report.open().class_count.sum() == np.count_nonzero(~gone)


def test_xarray_and_zarr_agree(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(1, 200, 3)
    some = np.where(labels == 0, np.nan, labels)
    some[:9] = 1
    dataset = xr.Dataset({"labels": ("e", some), "pred_probs": (("e", "k"), pred_probs)})
    encoding = {"labels": {"dtype": "int16", "_FillValue": 0}}
    dataset.to_zarr(tmp_path / "in", consolidated=False, encoding=encoding)
    opened, group = (
        xr.open_zarr(tmp_path / "in", consolidated=False),
        zarr.open_group(tmp_path / "in"),
    )
    with pytest.warns(LabelQCWarning, match="labels: 0 is their fill value and one of the classes"):
        ours = find_label_issues_batched(group["labels"], group["pred_probs"], verbose=False)
    with pytest.warns(LabelQCWarning, match="labels: 0 is their fill value and one of the classes"):
        theirs = find_label_issues_batched(opened.labels, opened.pred_probs, verbose=False)
    np.testing.assert_array_equal(ours, theirs)


def test_labels_that_mean_other_numbers(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(2, 50, 3)
    given = zarr.create_array(tmp_path / "l", data=labels, attributes={"scale_factor": 2})
    with pytest.raises(InputError, match="labels: scale_factor is 2"):
        find_label_issues_batched(given, pred_probs, verbose=False)


def test_a_job_is_not_gone_on_with_under_others(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(3, 60, 3)
    group = zarr.open_group(tmp_path / "in", mode="w")
    given = group.create_array("labels", data=labels, chunks=(20,))
    probs = group.create_array("pred_probs", data=pred_probs, chunks=(20, 3))
    audit_examples_zarr(given, probs, tmp_path / "out", progress=False)
    given.update_attributes({"_FillValue": 9})
    with pytest.raises(OutputError, match=r"fill_labels was \[\] and is \[9\]"):
        audit_examples_zarr(given, probs, tmp_path / "out", progress=False, resume=True)
