"""Labels that are stored as floats, or with a fill value, in the job."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import segmentation
from dask_labelqc.cli import labelqc
from dask_labelqc.errors import LabelQCWarning
from tests.pipeline.datasets import audit, check, write
from tests.strategies import Case, examples, make_case

DENSE = {"write_pixel_scores": True, "write_predicted_label": True}


@examples(8)
@given(
    st.integers(0, 1000),
    st.sampled_from(["f2", "f4", ">f8", "u1", "i4"]),
    st.sampled_from(["_FillValue", "missing_value"]),
    st.sampled_from([1, 2]),
)
def test_what_stands_for_no_label(
    tmp_path_factory: pytest.TempPathFactory, seed: int, dtype: str, key: str, downsample: int
) -> None:
    """NaN, or what the attributes name, is as good as ignored."""
    path = tmp_path_factory.mktemp("values")
    case = make_case(seed, (3, 4, 6), 4, ignored=(99,), void=0.3, downsample=downsample)
    floating = np.dtype(dtype).kind == "f"
    labels = np.where(case.labels == 99, np.nan, case.labels) if floating else case.labels
    stored = write(path / "in", labels.astype(dtype), case.pred_probs)
    if not floating:
        zarr.open_array(stored.labels, mode="r+").attrs[key] = 99
    audit(stored, path / "out", downsample=downsample, **DENSE)
    check(path / "out", case)


def test_the_job_and_xarray_agree(tmp_path: Path) -> None:
    case = make_case(131, (3, 6, 8), 4, ignored=(255,), void=0.3)
    stored = write(tmp_path / "in", case.labels.astype("u1"), case.pred_probs)
    zarr.open_array(stored.labels, mode="r+").attrs["_FillValue"] = 255
    audit(stored, tmp_path / "out", **DENSE)
    found = xr.open_zarr(tmp_path / "out").load()
    data = xr.open_zarr(tmp_path / "in", consolidated=False)
    assert data.labels.dtype.kind == "f"
    expected = segmentation.audit(
        data.labels, data.pred_probs, pixel_scores=True, predicted_label=True
    ).compute()
    for name, variable in expected.data_vars.items():
        np.testing.assert_array_equal(found[name], variable, err_msg=str(name))
    assert found.attrs["ignore_index"] == expected.attrs["ignore_index"] == [255]


def test_a_class_that_is_the_fill_value(tmp_path: Path) -> None:
    case = make_case(132, (3, 6, 8), 4)
    stored = write(tmp_path / "in", case.labels, case.pred_probs)
    zarr.open_array(stored.labels, mode="r+").attrs["_FillValue"] = 2
    message = "labels: 2 is their fill value and one of the classes 0..3: its pixels take part in n"
    with pytest.warns(LabelQCWarning, match=message) as caught:
        audit(stored, tmp_path / "out", **DENSE)
    assert len(caught) == 1
    check(tmp_path / "out", Case(case.labels, case.pred_probs, (2,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(stored, tmp_path / "ignored", ignore_index=2)
    arguments = ["audit", *map(str, stored), str(tmp_path / "cli"), "--workers=0", "--quiet"]
    result = CliRunner().invoke(labelqc, arguments)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Warning: {message}")
