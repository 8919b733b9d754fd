"""Summaries against cleanlab and against slow NumPy, on every kind of input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from cleanlab.segmentation import summary as theirs
from hypothesis import given
from hypothesis import strategies as st

import dask_labelqc
from dask_labelqc import InputError
from dask_labelqc.colors import class_colors
from dask_labelqc.kernels.flagged import count_pairs
from dask_labelqc.segmentation import drawing, summary
from tests.clusters import local_cluster
from tests.strategies import examples


@pytest.fixture(autouse=True)
def headless() -> Iterator[Any]:
    before = mpl.get_backend()
    mpl.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
    mpl.use(before)


def draw(
    seed: int = 0,
    num_images: int = 7,
    num_classes: int = 4,
    size: Any = (6, 5),
    dtype: Any = np.float32,
    flagged: float = 0.3,
) -> Any:
    """A mask, labels and predictions; probabilities are tenths, so that there are ties."""
    rng = np.random.default_rng(seed)
    shape = (num_images, *size)
    pred_probs = rng.multinomial(10, np.full(num_classes, 1 / num_classes), shape) / 10
    labels = rng.integers(0, num_classes, shape)
    return rng.random(shape) < flagged, labels, np.moveaxis(pred_probs, -1, 1).astype(dtype)


def to_zarr(path: Any, array: Any, chunks: Any, **kwargs: Any) -> Any:
    zarr.create_array(path, data=array, chunks=chunks, **kwargs)
    return zarr.open_array(path, mode="r")


@pytest.fixture
def containers(tmp_path: Path) -> Any:
    """The same mask, labels and predictions in every container, by name."""
    issues, labels, pred_probs = draw()
    chunked = {
        "issues": to_zarr(tmp_path / "issues.zarr", issues, (3, 6, 5)),
        "labels": to_zarr(tmp_path / "labels.zarr", labels, (4, 3, 5)),
        "probs": to_zarr(tmp_path / "probs.zarr", pred_probs, (2, 3, 4, 3)),
    }
    named = {"dimension_names": ("class", "image", "y", "x")}
    return {
        "numpy": (issues, labels, pred_probs),
        "fortran": (issues, labels, np.asfortranarray(pred_probs)),
        "half": (issues, labels.astype(np.uint8), pred_probs.astype(np.float16)),
        "scaled": (issues, labels, np.rint(pred_probs * 250).astype(np.uint8)),
        "zarr": tuple(chunked.values()),
        "numpy and zarr": (issues, labels, chunked["probs"]),
        "zarr and numpy": (chunked["issues"], chunked["labels"], pred_probs),
        "zarr by name": (
            issues,
            to_zarr(
                tmp_path / "named.zarr", labels, (4, 6, 5), dimension_names=("image", "y", "x")
            ),
            to_zarr(
                tmp_path / "classes.zarr",
                np.moveaxis(pred_probs, 1, 0).copy(),
                (4, 2, 6, 5),
                **named,
            ),
        ),
        "dask": (
            da.from_array(issues, chunks=(3, 6, 5)),
            da.from_array(labels, chunks=(2, 6, 5)),
            da.from_array(pred_probs, chunks=(2, 3, 4, 3)),
        ),
        "dask and zarr": (da.from_array(issues, chunks=(3, 6, 5)), labels, chunked["probs"]),
        "xarray": (
            xr.DataArray(issues, dims=("image", "y", "x")),
            xr.DataArray(labels, dims=("image", "y", "x")),
            xr.DataArray(np.moveaxis(pred_probs, 1, -1), dims=("image", "y", "x", "class")),
        ),
    }


def reference_matrix(issues: Any, labels: Any, pred_probs: Any) -> Any:
    num_classes = pred_probs.shape[1]
    matrix = np.zeros((num_classes, num_classes), int)
    for place in np.argwhere(issues):
        image, *pixel = place
        if 0 <= labels[tuple(place)] < num_classes:
            row = pred_probs[(image, slice(None), *pixel)]
            matrix[labels[tuple(place)], row.argmax()] += 1
    return matrix


@pytest.mark.parametrize("num_classes", [2, 21, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"top": 3},
        {"top": 0},
        {"exclude": [1]},
        {"class_names": [f"class {k}" for k in range(300)], "top": 1000},
    ],
)
def test_common_issues_equal_cleanlab(
    num_classes: int, dtype: Any, kwargs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = draw(1, 9, num_classes, dtype=dtype)
    names = kwargs.get("class_names")
    kwargs = kwargs | ({"class_names": names[:num_classes]} if names else {})
    expected = theirs.common_label_issues(*arrays, verbose=False, **kwargs)
    capsys.readouterr()
    found = summary.common_label_issues(*arrays, verbose=False, **kwargs)
    pd.testing.assert_frame_equal(found, expected)
    assert capsys.readouterr().out == ""


def test_common_issues_of_every_container(containers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask_labelqc.segmentation.flagged.REGION_BYTES", 500)
    monkeypatch.setattr("dask_labelqc.segmentation.flagged.MEMORY_BLOCK_PIXELS", 60)
    expected = theirs.common_label_issues(*containers["numpy"], verbose=False)
    assert len(expected) == 16
    for arrays in containers.values():
        found = summary.common_label_issues(*arrays, verbose=False)
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("class_index", [0, [1, 3]])
def test_filter_of_every_container(
    containers: Any, class_index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dask_labelqc.segmentation.flagged.REGION_BYTES", 500)
    expected = theirs.filter_by_class(class_index, *containers["numpy"])
    assert 0 < expected.sum() < containers["numpy"][0].sum()
    for name, arrays in containers.items():
        mask = summary.filter_by_class(class_index, *arrays)
        lazy = not all(isinstance(a, np.ndarray | xr.DataArray) for a in arrays)
        assert isinstance(mask, da.Array) == lazy, name
        assert isinstance(mask, xr.DataArray) == (name == "xarray")
        np.testing.assert_array_equal(np.asarray(mask), expected, err_msg=name)


def test_on_a_cluster(containers: Any) -> None:
    expected = summary.common_label_issues(*containers["numpy"], verbose=False)
    with local_cluster(threads=2, processes=False, default=True):
        for name in ("zarr", "numpy and zarr", "dask"):
            found = summary.common_label_issues(*containers[name], verbose=False)
            pd.testing.assert_frame_equal(found, expected)


@examples(20)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.integers(2, 9),
    size=st.sampled_from([(4,), (3, 5), (2, 3, 4)]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.uint8]),
    flagged=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_pairs_equal_reference(
    seed: int, num_classes: int, size: Any, dtype: Any, flagged: Any
) -> None:
    issues, labels, pred_probs = draw(seed, 3, num_classes, size, np.float64, flagged)
    labels[0, ..., 0] = 255
    stored = (pred_probs * 10).round() if dtype == np.uint8 else pred_probs
    matrix, place = count_pairs(issues, labels, stored.astype(dtype))
    assert place == -1
    np.testing.assert_array_equal(matrix, reference_matrix(issues, labels, pred_probs))


def test_predictions_are_only_read_where_there_are_issues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issues, labels, pred_probs = draw(flagged=0.0)
    issues[5, 2, 2] = True
    stored = to_zarr(tmp_path / "probs.zarr", pred_probs, (1, 4, 6, 5))
    for image in range(7):
        if image != 5:
            chunk = tmp_path / "probs.zarr" / "c" / str(image) / "0" / "0" / "0"
            chunk.write_bytes(b"damaged")
    monkeypatch.setattr("dask_labelqc.segmentation.flagged.REGION_BYTES", 1)
    monkeypatch.setattr("dask_labelqc.plan.BLOCK_BYTES", 1)
    table = summary.common_label_issues(issues, labels, stored, verbose=False)
    assert table["num_pixel_issues"].tolist() == [1]
    mask = summary.filter_by_class(int(labels[5, 2, 2]), issues, labels, stored)
    np.testing.assert_array_equal(mask.compute(), issues)
    none = summary.common_label_issues(np.zeros_like(issues), labels, stored, verbose=False)
    assert none.empty
    assert list(none) == ["given_label", "predicted_label", "num_pixel_issues"]


def test_filter_computes_nothing_before_it_is_asked_to() -> None:
    def fail(block: Any) -> None:
        raise AssertionError("computed")

    arrays = [da.from_array(a, chunks=(2, *a.shape[1:])) for a in draw()]
    summary.filter_by_class(1, *(a.map_blocks(fail, dtype=a.dtype) for a in arrays))


@pytest.fixture
def audited(tmp_path: Path) -> Any:
    """An output of a job, and the arrays it was made of."""
    _, labels, pred_probs = draw(3, 12, 5, (8, 8), flagged=0)
    dask_labelqc.audit_zarr(
        to_zarr(tmp_path / "labels", labels, (4, 8, 8)),
        to_zarr(tmp_path / "pred_probs", pred_probs, (4, 5, 8, 8)),
        tmp_path / "output",
        progress=False,
        n_jobs=1,
    )
    return tmp_path / "output", labels, pred_probs


def test_an_audit_takes_the_place_of_arrays(audited: Any) -> None:
    output, labels, pred_probs = audited
    dataset = xr.open_zarr(output, consolidated=False)
    expected = theirs.common_label_issues(
        dataset["label_issues"].values, labels, pred_probs, verbose=False
    )
    assert len(expected) > 3
    in_memory = dask_labelqc.segmentation.audit(labels, pred_probs)
    for audit in (output, f"file://{output}/", dataset, in_memory, zarr.open_group(output)):
        found = summary.common_label_issues(audit, verbose=False)
        pd.testing.assert_frame_equal(found, expected)


def test_of_an_audit_only_the_matrix_is_read(audited: Any) -> None:
    output, *_ = audited
    expected = summary.common_label_issues(output, verbose=False)
    for path in output.rglob("c"):
        if path.parent.name != "issue_matrix":
            for chunk in path.rglob("*"):
                if chunk.is_file():
                    chunk.write_bytes(b"damaged")
    pd.testing.assert_frame_equal(summary.common_label_issues(output, verbose=False), expected)


def test_pairs_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    issues, labels = np.array([[[True, True]]]), np.array([[[0, 0]]])
    pred_probs = np.array([[[[0.2, 0.2]], [[0.8, 0.8]]]])
    summary.common_label_issues(issues, labels, pred_probs, class_names=["sky", "road"])
    assert capsys.readouterr().out == "2 pixels labelled 'sky' are predicted to be 'road'\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, y, p: summary.common_label_issues(i, y), "pred_probs: got None, it must be"),
        (lambda i, y, p: summary.common_label_issues("x", y), "labels, pred_probs: got arrays"),
        (lambda i, y, p: summary.common_label_issues("no/x"), "issues: there is no Zarr array at"),
        (lambda i, y, p: summary.common_label_issues(xr.Dataset()), "issues: got Dataset without"),
        (
            lambda i, y, p: summary.common_label_issues(i[1:], y, p),
            "issues: got shape (6, 6, 5), it must be (7, 6, 5) for pred_probs (7, 4, 6, 5)",
        ),
        (
            lambda i, y, p: summary.common_label_issues(i, y[:, :1], p),
            "labels: got shape (7, 1, 5), it must be (7, 6, 5)",
        ),
        (lambda i, y, p: summary.common_label_issues(y, y, p), "issues: got dtype int64, it must"),
        (lambda i, y, p: summary.common_label_issues(i, i / 1j, p), "labels: got dtype complex128"),
        (
            lambda i, y, p: summary.common_label_issues(i, y, p[0, 0]),
            "pred_probs: got shape (6, 5)",
        ),
        (lambda i, y, p: summary.common_label_issues(i, y, p[0]), "issues: got shape (7, 6, 5)"),
        (
            lambda i, y, p: summary.common_label_issues(i, y, p * np.nan),
            "pred_probs: a prediction is not finite at image 0, pixel",
        ),
        (
            lambda i, y, p: summary.common_label_issues(i, y, p, class_names=["a"]),
            "class_names: got 1 of them, there are 4 classes",
        ),
        (lambda i, y, p: summary.common_label_issues(i, y, p, top=-1), "top: got -1, it must be"),
        (lambda i, y, p: summary.common_label_issues(i, y, p, exclude=["a"]), "exclude: got 'a'"),
        (lambda i, y, p: summary.filter_by_class(4, i, y, p), "class_index: got 4, it must be in"),
        (lambda i, y, p: summary.display_issues(i, exclude=[1]), "exclude: got [1] without labels"),
        (lambda i, y, p: summary.display_issues(i[0]), "issues: got shape (6, 5), it must be"),
        (lambda i, y, p: summary.display_issues(y), "issues: got dtype int64, it must be bool"),
        (lambda i, y, p: summary.display_issues(i, labels=y[1:]), "labels: got shape (6, 6, 5)"),
        (
            lambda i, y, p: summary.display_issues(i, image_ids="abc"),
            "image_ids: got 3 of them, there are 7 images",
        ),
        (
            lambda i, y, p: summary.display_issues(i, pred_probs=y),
            "pred_probs: got shape (7, 6, 5)",
        ),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        call(*draw())
    assert str(caught.value).startswith(message)


def pictures(figure: Any) -> Any:
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes]


def worst_first(issues: Any) -> Any:
    return np.argsort(-issues.sum(axis=(1, 2)), kind="stable")


def test_figures_of_every_container(containers: Any) -> None:
    issues, labels, pred_probs = containers["numpy"]
    colors = class_colors(4)
    for name in set(containers) - {"zarr by name"}:
        mask, given, predicted = containers[name]
        figures = summary.display_issues(mask, labels=given, pred_probs=predicted, top=3)
        assert len(figures) == 3
        for figure, image in zip(figures, worst_first(issues), strict=False):
            shown = pictures(figure)
            np.testing.assert_array_equal(shown[0], colors[labels[image]], err_msg=name)
            np.testing.assert_array_equal(shown[1], colors[pred_probs[image].argmax(axis=0)])
            red = (shown[2] == drawing.ISSUE_COLOR).all(axis=-1)
            np.testing.assert_array_equal(red, issues[image])
            assert figure.axes[2].get_title() == f"Image {image}: label issues (red)"


def titles(*arrays: Any, **arguments: Any) -> Any:
    mask, labels, pred_probs = arrays
    figures = summary.display_issues(mask, labels=labels, pred_probs=pred_probs, **arguments)
    for figure in figures:
        figure.canvas.draw()
    return [figure.axes[-1].get_title().removesuffix(": label issues (red)") for figure in figures]


@pytest.mark.parametrize("named", [0, 1, 2])
def test_images_are_called_by_their_coordinate(named: Any) -> None:
    """Whichever of the arrays has one, and however the images given were picked."""
    names = np.array([f"tile_{n}$^$" for n in range(7)])
    dims = (("image", "y", "x"), ("image", "y", "x"), ("image", "class", "y", "x"))
    arrays = [xr.DataArray(a, dims=d) for a, d in zip(draw(), dims, strict=True)]
    arrays[named] = arrays[named].assign_coords(image=names)
    order = worst_first(arrays[0].values)
    assert titles(*arrays) == [f"Image {names[k]}" for k in order]
    last = [array.isel(image=slice(4, 7)) for array in arrays]
    worst = worst_first(last[0].values)
    assert titles(*last) == [f"Image {names[4 + k]}" for k in worst]


def test_images_are_called_as_one_likes() -> None:
    issues, labels, pred_probs = draw()
    ids = ["a\x1b[31m", *range(10, 16)]
    shown = titles(issues, labels, pred_probs, image_ids=ids)
    escaped = [r"a\x1b[31m", *ids[1:]]
    assert shown == [f"Image {escaped[k]}" for k in worst_first(issues)]
    assert titles(issues, None, None, top=1) == [f"Image {worst_first(issues)[0]}"]


def test_names_in_a_legend_are_text() -> None:
    names = ["_void", "$x", "a$^$", "\x1b[31m"]
    legend, *_ = summary.display_issues(*draw()[:1], labels=draw()[1], class_names=names, top=1)
    legend.canvas.draw()
    shown = [text.get_text() for text in legend.legends[0].get_texts()]
    assert shown == ["_void", "$x", "a$^$", r"\x1b[31m"]


def test_figures_with_a_legend_and_excluded_classes() -> None:
    issues, labels, pred_probs = draw()
    labels[:, 0] = 255
    names = ["sky", "road", "tree", "car"]
    legend, *figures = summary.display_issues(
        issues, labels=labels, pred_probs=pred_probs, class_names=names, exclude=[2, 255], top=100
    )
    assert [text.get_text() for text in legend.legends[0].get_texts()] == names
    faces = [patch.get_facecolor()[:3] for patch in legend.legends[0].get_patches()]
    np.testing.assert_allclose(faces, class_colors(4) / 255)
    assert len(figures) == 7
    image = worst_first(issues)[0]
    given, _, red = pictures(figures[0])
    assert (given[labels[image] == 255] == drawing.NO_CLASS_COLOR).all()
    np.testing.assert_array_equal(
        (red == drawing.ISSUE_COLOR).all(axis=-1),
        issues[image] & ~np.isin(labels[image], [2, 255]),
    )
    alone = summary.display_issues(issues, class_names=names, top=1)
    assert [len(figure.axes) for figure in alone] == [1]


def test_figures_read_only_what_they_show(tmp_path: Path) -> None:
    issues, labels, pred_probs = draw(num_images=40, flagged=0.0)
    issues[[11, 30], 2] = True
    issues[30, 3] = True
    read = []

    def counted(block: Any, name: str, block_info: Any = None) -> Any:
        read.append((name, block_info[0]["chunk-location"][0]))
        return block

    lazy = {
        name: da.from_array(array, chunks=(1, *array.shape[1:])).map_blocks(
            counted, name, dtype=array.dtype
        )
        for name, array in (("issues", issues), ("labels", labels), ("pred_probs", pred_probs))
    }
    read.clear()
    figures = summary.display_issues(lazy.pop("issues"), **lazy, top=2)
    assert [f.axes[2].get_title()[:8] for f in figures] == ["Image 30", "Image 11"]
    assert sorted(i for name, i in read if name == "issues") == list(range(40))
    for name in ("labels", "pred_probs"):
        assert [i for n, i in read if n == name] == [30, 11]


def test_the_default_number_of_figures_and_a_legend_leave_none_open() -> None:
    import matplotlib.pyplot as plt

    issues, labels, _ = draw(num_images=25)
    figures = summary.display_issues(issues, labels=labels, class_names=["a", "b", "c", "d"])
    assert len(figures) == 21
    assert plt.get_fignums() == []


def test_figures_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda **kwargs: shown.append(kwargs))
    summary.display_issues(draw()[0], top=2, block=False)
    assert shown == [{"block": False}] * 2


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("matplotlib.pyplot", lambda arrays: summary.display_issues(arrays[0])),
        ("pandas", lambda arrays: summary.common_label_issues(*arrays)),
    ],
)
def test_a_missing_library_says_what_to_install(
    module: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[plot\]"'):
        call(draw())
