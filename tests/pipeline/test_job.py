"""The job against the reference, and its output as xarray sees it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import plan as blocks
from dask_labelqc import segmentation
from dask_labelqc.pipeline import audit_zarr
from tests.pipeline.datasets import VARIABLES, audit, check, files, write, write_case
from tests.strategies import Case, cases, examples, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}

LAYOUTS = {
    "plain": (make_case(1, (3, 6, 8), 4), {}),
    "classes_in_chunks": (make_case(2, (3, 6, 8), 5), {"chunks": (2, 2, 3, 8)}),
    "images_in_chunks": (make_case(3, (2, 7, 11), 3), {"chunks": (1, 3, 2, 3)}),
    "primes": (make_case(4, (5, 7, 13), 7), {"chunks": (2, 7, 3, 5), "label_chunks": (3, 7, 2)}),
    "labels_in_one": (make_case(5, (4, 6, 8), 3), {"label_chunks": (4, 6, 8)}),
    "reversed": (make_case(6, (3, 6, 8), 4), {"chunks": (2, 2, 3, 4), "order": (3, 2, 1, 0)}),
    "classes_last": (make_case(7, (3, 5, 7), 4), {"chunks": (1, 4, 2, 7), "order": (0, 2, 3, 1)}),
    "classes_first": (make_case(8, (3, 6, 8), 4), {"order": (1, 0, 2, 3)}),
    "uint8": (make_case(9, (3, 6, 8), 4, dtype="u1"), {"chunks": (1, 4, 3, 8)}),
    "uint16": (make_case(10, (3, 6, 8), 4, dtype="u2"), {"chunks": (2, 4, 6, 8)}),
    "float16": (make_case(11, (3, 6, 8), 4, dtype="f2"), {"chunks": (1, 4, 6, 3)}),
    "float64": (make_case(12, (3, 6, 8), 4, dtype="f8"), {"chunks": (1, 4, 6, 3)}),
    "big_endian": (make_case(13, (3, 6, 8), 4, dtype=">f4", label_dtype=">i2"), {}),
    "ignored": (
        make_case(14, (3, 6, 8), 4, label_dtype="i2", ignored=(-1, 255, 2), void=0.3),
        {"chunks": (1, 4, 4, 8)},
    ),
    "void_image": (make_case(15, (2, 2, 2), 3, ignored=(7,), void=1.0), {}),
    "mean": (make_case(16, (3, 6, 12), 4, downsample=3), {"chunks": (1, 4, 2, 5)}),
    "majority": (
        make_case(17, (3, 8, 12), 4, downsample=2, label_downsample="majority"),
        {"chunks": (2, 2, 3, 4)},
    ),
    "downsampled_ignored": (
        make_case(18, (3, 6, 8), 4, downsample=2, ignored=(1,), void=0.4),
        {"chunks": (1, 4, 2, 8)},
    ),
    "signal": (make_case(19, (5, 13), 3), {"chunks": (2, 3, 4)}),
    "volume": (make_case(20, (2, 4, 6, 5), 4), {"chunks": (1, 2, 3, 2, 5)}),
    "volume_downsampled": (
        make_case(21, (2, 4, 6, 2), 4, downsample=2),
        {"chunks": (1, 4, 2, 6, 2), "order": (2, 0, 1, 4, 3)},
    ),
    "ties": (make_case(22, (3, 6, 8), 3, resolution=4, mistakes=1.0), {"chunks": (1, 3, 3, 4)}),
    "one_pixel": (make_case(23, (1, 1, 1), 2), {}),
    "many_classes": (make_case(24, (2, 3, 4), 300, label_dtype="u2"), {"chunks": (1, 77, 3, 4)}),
    "sharded": (
        make_case(25, (4, 6, 8), 3),
        {"chunks": (1, 3, 3, 8), "shards": (2, 3, 6, 8)},
    ),
}


@pytest.mark.parametrize(("case", "layout"), LAYOUTS.values(), ids=LAYOUTS)
def test_agrees_with_the_reference(case: Case, layout: dict, tmp_path: Path) -> None:
    stored = write_case(tmp_path / "in", case, **layout)
    report = audit(stored, tmp_path / "out", **case.arguments, **DENSE)
    found = check(tmp_path / "out", case)
    assert set(found.data_vars) == set(VARIABLES)
    assert report.num_issues == int(found.label_issues.sum())
    assert report.num_images == case.labels.shape[0]
    assert report.num_pixels == case.labels.size
    assert report.bytes_read == case.pred_probs.nbytes
    xr.testing.assert_identical(report.open(), found)


@examples(8)
@given(cases(), st.data())
def test_any_dataset_in_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, case: Case, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("any")
    layout = {
        "chunks": [data.draw(st.integers(1, n)) for n in case.pred_probs.shape],
        "label_chunks": [data.draw(st.integers(1, n)) for n in case.labels.shape],
        "order": data.draw(st.permutations(range(case.pred_probs.ndim))),
    }
    group_bytes = data.draw(st.sampled_from([1, 100, 1000]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", data.draw(st.sampled_from([1, 50, 500])))
        stored = write_case(path / "in", case, **layout)
        audit(stored, path / "out", group_bytes=group_bytes, **case.arguments, **DENSE)
    check(path / "out", case)


def test_logits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 4, 6, 8)).astype("f4")
    labels = np.where(rng.random((3, 6, 8)) < 0.3, rng.integers(0, 4, (3, 6, 8)), logits.argmax(1))
    stored = write(tmp_path / "in", labels, logits, chunks=(1, 2, 3, 8))
    audit(stored, tmp_path / "out", from_logits=True, **DENSE)
    found = xr.open_zarr(tmp_path / "out").load()
    whole = segmentation.audit(
        labels, logits, from_logits=True, pixel_scores=True, predicted_label=True
    )
    for name, expected in whole.items():
        np.testing.assert_array_equal(found[name], expected)
    probs = np.exp(logits.astype("f8")) / np.exp(logits.astype("f8")).sum(1, keepdims=True)
    scores = np.take_along_axis(probs, labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(found.pixel_scores, scores, atol=1e-6)
    assert found.attrs["num_issues"] > 0


@pytest.mark.parametrize(("dtype", "scale"), [("u1", 1 / 200), ("u2", 1 / 50_000)])
def test_scale_of_integers(dtype: str, scale: float, tmp_path: Path) -> None:
    case = make_case(30, (3, 6, 8), 4, resolution=round(1 / scale))
    integers = np.rint(case.pred_probs / scale).astype(dtype)
    case = Case(case.labels, integers)
    stored = write_case(tmp_path / "in", case, attributes={"scale_factor": scale})
    audit(stored, tmp_path / "out", **DENSE)
    found = check(tmp_path / "out", case, scale=scale)
    assert found.attrs["probability_scale"] == scale


@pytest.mark.parametrize("temperature", [0.01, 2.0])
def test_temperature(temperature: float, tmp_path: Path) -> None:
    case = make_case(31, (3, 6, 8), 4)
    audit(write_case(tmp_path / "in", case), tmp_path / "out", temperature=temperature)
    check(tmp_path / "out", case, temperature=temperature)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_of_either_format(zarr_format: int, tmp_path: Path) -> None:
    """Open arrays instead of paths; the older format names dimensions in an attribute."""
    case = make_case(32, (3, 6, 8), 4)
    group = zarr.open_group(tmp_path / "in", mode="w", zarr_format=zarr_format)
    labels = group.create_array("labels", data=case.labels, chunks=(2, 6, 8))
    pred_probs = group.create_array("pred_probs", data=np.moveaxis(case.pred_probs, 1, -1).copy())
    labels.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
    pred_probs.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon", "kind"]
    audit_zarr(labels, pred_probs, tmp_path / "out", progress=False)
    assert check(tmp_path / "out", case).label_issues.dims == ("time", "lat", "lon")


@pytest.mark.parametrize(
    ("dtype", "num_classes", "score", "predicted"),
    [
        ("f2", 4, "float32", "uint8"),
        ("f4", 256, "float32", "uint8"),
        ("f8", 257, "float64", "uint16"),
        ("u1", 2, "float32", "uint8"),
        ("u2", 3, "float32", "uint8"),
    ],
)
def test_variables(
    dtype: str, num_classes: int, score: str, predicted: str, tmp_path: Path
) -> None:
    """The table of the design page."""
    case = make_case(33, (2, 3, 4), num_classes, dtype=dtype)
    audit(write_case(tmp_path / "in", case), tmp_path / "out", **DENSE)
    found = xr.open_zarr(tmp_path / "out")
    expected = VARIABLES | {
        "pixel_scores": (("image", "y", "x"), score),
        "predicted_label": (("image", "y", "x"), predicted),
    }
    assert {n: (v.dims, str(v.dtype)) for n, v in found.data_vars.items()} == expected
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*VARIABLES, "zarr.json"}


def test_dense_outputs_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    case = make_case(34, (2, 3, 4), 3)
    audit(write_case(tmp_path / "in", case), tmp_path / "out")
    found = xr.open_zarr(tmp_path / "out")
    assert set(VARIABLES) - set(found.data_vars) == {"pixel_scores", "predicted_label"}


def test_attributes(tmp_path: Path) -> None:
    case = make_case(35, (4, 6, 8), 3, downsample=2, ignored=(1, 5), void=0.2)
    stored = write_case(tmp_path / "in", case, chunks=(2, 3, 6, 8))
    audit(stored, tmp_path / "out", temperature=0.2, validate="labels", **case.arguments)
    attributes = xr.open_zarr(tmp_path / "out").attrs
    fingerprint = json.loads(attributes.pop("fingerprint"))
    assert json.loads(attributes.pop("inputs")).keys() == {"labels", "pred_probs"}
    assert json.loads(attributes.pop("num_objects"))["image_score"] == 2
    assert attributes.pop("num_issues") <= 4 * attributes.pop("num_selected")
    parameters = {
        "downsample": 2,
        "label_downsample": "mean",
        "ignore_index": [1, 5],
        "temperature": 0.2,
        "from_logits": 0,
        "validate": "labels",
        "image_dim": "image",
        "class_dim": "class",
    }
    assert attributes == parameters | {"version": version("dask-labelqc"), "status": "complete"}
    for decided in ("image_dim", "class_dim"):
        del parameters[decided]
    assert fingerprint == parameters | {
        "from_logits": False,
        "probability_scale": None,
        "dims": ["image", "y", "x"],
        "labels.axes": [0, 1, 2],
        "pred_probs.axes": [0, 1, 2, 3],
        "pred_probs.order": None,
        "labels.location": f"file://{stored.labels}",
        "labels.shape": [4, 6, 8],
        "labels.dtype": "int64",
        "labels.fill_value": "0",
        "pred_probs.fill_value": "0.0",
        "group_bytes": 1,
        "labels.chunks": [1, 6, 8],
        "pred_probs.location": f"file://{stored.pred_probs}",
        "pred_probs.shape": [4, 3, 6, 8],
        "pred_probs.dtype": "float32",
        "pred_probs.chunks": [2, 3, 6, 8],
        "groups": [2, 6, 8],
        "pixel_scores": False,
        "predicted_label": False,
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # as xarray writes it
def test_coordinates_are_carried_over(zarr_format: int, tmp_path: Path) -> None:
    case = make_case(36, (4, 5, 6), 3)
    dataset = xr.Dataset(
        {
            "labels": (("time", "lat", "lon"), case.labels),
            "pred_probs": (("lon", "time", "kind", "lat"), case.pred_probs.transpose(3, 0, 1, 2)),
            "other": (("time",), np.arange(4)),
        },
        {
            "time": pd.date_range("2024-02-28", periods=4),
            "lat": ("lat", np.linspace(50, 48, 5), {"units": "degrees_north"}),
            "lon": np.arange(6, dtype="i2"),
            "orbit": ("time", np.array([7, 7, 8, 8]), {"long_name": "orbit number"}),
            "height": (("lat", "lon"), np.arange(30.0).reshape(5, 6)),
            "satellite": 2,
            "kind": [10, 20, 30],
        },
    )
    dataset.to_zarr(tmp_path / "in", zarr_format=zarr_format)
    audit_zarr(
        tmp_path / "in" / "labels", tmp_path / "in" / "pred_probs", tmp_path / "out", progress=False
    )
    found = check(tmp_path / "out", case)
    assert set(found.data_vars) == set(VARIABLES) - {"pixel_scores", "predicted_label"}
    assert found.label_issues.dims == ("time", "lat", "lon")
    given = xr.open_zarr(tmp_path / "in")
    xr.testing.assert_identical(
        found.label_issues.coords.to_dataset(), given.labels.coords.to_dataset()
    )
    assert set(found.image_score.coords) == {"time", "orbit", "satellite"}
    assert found["class"].values.tolist() == [10, 20, 30]
    assert found.class_count.dims == ("class",)


@pytest.mark.filterwarnings("ignore:The data type")  # strings have no specification in Zarr 3
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_coordinates_that_are_strings(tmp_path: Path) -> None:
    case = make_case(36, (4, 5, 6), 3)
    dataset = xr.Dataset(
        {"labels": (("image", "y", "x"), case.labels)}, {"image": ["a", "bc", "d", "e"]}
    )
    dataset.to_zarr(tmp_path / "in")
    stored = write_case(tmp_path / "probs", case)
    audit_zarr(tmp_path / "in" / "labels", stored.pred_probs, tmp_path / "out", progress=False)
    assert check(tmp_path / "out", case).image.values.tolist() == ["a", "bc", "d", "e"]


GROUPS = {"chunk": (1, 1), "few": (1, 1600), "one": (1, 10**9), "blocks": (800, 1600)}


def test_the_same_values_whatever_the_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of arrays in memory."""
    case = make_case(37, (5, 8, 12), 4)
    stored = write_case(tmp_path / "in", case, chunks=(1, 2, 4, 6), label_chunks=(2, 3, 12))
    found, counts = [], []
    for name, (block_bytes, group_bytes) in GROUPS.items():
        monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
        report = audit(stored, tmp_path / name, group_bytes=group_bytes, **DENSE)
        counts.append(report.num_groups)
        found.append(xr.open_zarr(tmp_path / name).load())
    assert counts[0] == 20
    assert counts[2] == 1
    assert len(set(counts)) >= 3
    dense = {"pixel_scores": True, "predicted_label": True}
    expected = segmentation.audit(case.labels, case.pred_probs, **dense)
    for other in found:
        xr.testing.assert_equal(expected, other)


@pytest.mark.parametrize("n_jobs", [1, 2, 7])
def test_the_same_bytes_with_any_number_of_threads(n_jobs: int, tmp_path: Path) -> None:
    case = make_case(38, (5, 8, 12), 4)
    stored = write_case(tmp_path / "in", case, chunks=(1, 2, 4, 6))
    audit(stored, tmp_path / "one", n_jobs=3, **DENSE)
    audit(stored, tmp_path / "other", n_jobs=n_jobs, **DENSE)
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_worst_images(tmp_path: Path) -> None:
    case = make_case(39, (8, 4, 4), 3)
    report = audit(write_case(tmp_path / "in", case), tmp_path / "out")
    scores = xr.open_zarr(tmp_path / "out").image_score.values
    assert [i for i, _ in report.worst_images] == np.argsort(scores, kind="stable")[:5].tolist()
    assert [s for _, s in report.worst_images] == sorted(scores)[:5]
