"""One answer for every container, scheduler and chunking; an error for every bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc import InputError, LabelQCWarning
from dask_labelqc.classification import LabelInspector, find_label_issues_batched
from dask_labelqc.storage.chunks import ChunkReader
from tests.classification.examples import draw_examples
from tests.clusters import local_cluster

OPTIONS = [
    {},
    {"quality_score_kwargs": {"method": "normalized_margin"}},
    {"quality_score_kwargs": {"method": "normalized_margin", "adjust_pred_probs": True}},
    {"quality_score_kwargs": {"adjust_pred_probs": True}},
    {"quality_score_kwargs": {"method": "confidence_weighted_entropy"}},
    {"num_issue_kwargs": {"estimation_method": "off_diagonal_calibrated"}},
]


def to_zarr(path: Any, array: Any, chunks: Any, **kwargs: Any) -> Any:
    zarr.create_array(path, data=array, chunks=chunks, **kwargs)
    return zarr.open_array(path, mode="r")


@pytest.fixture
def containers(examples: Any, tmp_path: Path) -> Any:
    """The same examples in every container, by name."""
    labels, pred_probs = examples
    zarr_labels = to_zarr(tmp_path / "labels.zarr", labels, (700,))
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "pred_probs.npy", pred_probs)
    mapped = tuple(np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in ("labels", "pred_probs"))
    named = {"dimension_names": ("class", "example")}
    return {
        "memmap": mapped,
        "lists": (labels.tolist(), pred_probs),
        "fortran": (labels, np.asfortranarray(pred_probs)),
        "uint8 labels": (labels.astype(np.uint8), pred_probs),
        "big endian": (labels.astype(">i4"), pred_probs.astype(">f4")),
        "zarr": (zarr_labels, to_zarr(tmp_path / "p.zarr", pred_probs, (501, 12))),
        "zarr, classes in chunks": (labels, to_zarr(tmp_path / "c.zarr", pred_probs, (640, 5))),
        "zarr, transposed by name": (
            to_zarr(tmp_path / "n.zarr", labels, (900,), dimension_names=("example",)),
            to_zarr(tmp_path / "t.zarr", pred_probs.T.copy(), (12, 333), **named),
        ),
        "zarr labels, numpy": (zarr_labels, pred_probs),
        "dask": (da.from_array(labels, chunks=800), da.from_array(pred_probs, chunks=(650, 7))),
        "numpy labels, dask": (labels, da.from_array(pred_probs, chunks=(650, 12))),
        "xarray": (
            xr.DataArray(labels, dims="example"),
            xr.DataArray(pred_probs.T, dims=("class", "example")),
        ),
    }


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("threads", [1, 3, None])
def test_containers_and_chunkings_agree(
    examples: Any, containers: Any, options: Any, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dask_labelqc.classification.on_scheduler.REGION_BYTES", 40_000)
    monkeypatch.setattr("dask_labelqc.plan.BLOCK_BYTES", 10_000)
    kwargs = {"verbose": False, **options}
    expected = find_label_issues_batched(*examples, **kwargs)
    assert 0 < expected.size < 900
    assert expected.dtype == np.int64
    for name, (labels, pred_probs) in containers.items():
        found = find_label_issues_batched(labels, pred_probs, n_jobs=threads, **kwargs)
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_files(examples: Any, containers: Any, tmp_path: Path, suffix: Any) -> None:
    labels, pred_probs = examples
    to_zarr(tmp_path / "pred_probs.zarr", pred_probs, (700, 12))
    files = {
        "labels_file": str(tmp_path / f"labels.{suffix}"),
        "pred_probs_file": tmp_path / f"pred_probs.{suffix}",
    }
    found = find_label_issues_batched(**files, verbose=False)
    np.testing.assert_array_equal(
        found, find_label_issues_batched(labels, pred_probs, verbose=False)
    )
    url = f"file://{tmp_path}/pred_probs.zarr"
    mixed = find_label_issues_batched(labels, pred_probs_file=url, verbose=False)
    np.testing.assert_array_equal(mixed, found)


def test_a_mask_has_the_container_of_the_labels(examples: Any) -> None:
    labels, pred_probs = examples
    coords = {"example": np.arange(len(labels)) * 2}
    given = xr.DataArray(labels, coords, ("example",), attrs={"crs": "EPSG:4326"})
    mask = find_label_issues_batched(given, pred_probs, verbose=False, return_mask=True)
    assert mask.name == "label_issues"
    assert mask.attrs == given.attrs
    np.testing.assert_array_equal(mask["example"], coords["example"])
    plain = find_label_issues_batched(labels, pred_probs, verbose=False, return_mask=True)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(mask.values, plain)


@pytest.mark.parametrize("options", OPTIONS)
def test_chunks_may_be_empty(examples: Any, options: Any) -> None:
    labels, pred_probs = examples
    lazy = da.from_array(labels), da.from_array(pred_probs, chunks=((0, 1000, 0, 2000, 0), -1))
    found = find_label_issues_batched(*lazy, verbose=False, **options)
    expected = find_label_issues_batched(*examples, verbose=False, **options)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers(examples: Any, containers: Any, scheduler: Any) -> None:
    expected = find_label_issues_batched(*examples, verbose=False)
    with dask.config.set(scheduler=scheduler):
        found = find_label_issues_batched(*containers["zarr"], verbose=False)
    np.testing.assert_array_equal(found, expected)


def test_on_a_cluster(examples: Any, containers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask_labelqc.classification.on_scheduler.REGION_BYTES", 40_000)
    with local_cluster(threads=2, processes=False, default=True):
        for name in ("zarr", "zarr, classes in chunks", "numpy labels, dask", "fortran"):
            for options in OPTIONS[:3]:
                found = find_label_issues_batched(*containers[name], verbose=False, **options)
                expected = find_label_issues_batched(*examples, verbose=False, **options)
                np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize(("options", "reads"), list(zip(OPTIONS, [1, 1, 2, 1, 1, 1], strict=True)))
def test_each_chunk_is_read_once(
    examples: Any, tmp_path: Path, options: Any, reads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice only for the margin of adjusted probabilities."""
    labels, pred_probs = examples
    seen = []
    read_into = ChunkReader.read_into

    def counting(self: Any, box: Any, target: Any) -> None:
        seen.append((box[0].start, box[0].stop))
        read_into(self, box, target)

    monkeypatch.setattr(ChunkReader, "read_into", counting)
    monkeypatch.setattr("dask_labelqc.classification.on_scheduler.REGION_BYTES", 100_000)
    monkeypatch.setattr("dask_labelqc.plan.BLOCK_BYTES", 30_000)
    stored = to_zarr(tmp_path / "p.zarr", pred_probs, (300, 12))
    find_label_issues_batched(labels, stored, verbose=False, **options)
    assert sorted(seen) == sorted([(i, i + 600) for i in range(0, 3000, 600)] * reads)


@pytest.mark.filterwarnings("ignore:pred_probs.*should sum to 1")  # the floats, after rounding
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_scaled_integers(tmp_path: Path, dtype: Any) -> None:
    labels, pred_probs = draw_examples(4, 1000, 5)
    largest = np.iinfo(dtype).max
    stored = np.rint(pred_probs * largest).astype(dtype)
    plain = (stored / np.float64(largest)).astype(np.float32)
    expected = find_label_issues_batched(labels, plain, verbose=False)
    found = find_label_issues_batched(labels, stored, verbose=False)
    np.testing.assert_array_equal(found, expected)
    codes = np.rint(pred_probs * largest / 2).astype(dtype)
    scaled = to_zarr(tmp_path / "p.zarr", codes, (400, 5), attributes={"scale_factor": 2 / largest})
    expected = find_label_issues_batched(
        labels, (codes * (2 / largest)).astype(np.float32), verbose=False
    )
    found = find_label_issues_batched(labels, scaled, verbose=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("clustered", [False, True])
def test_progress_is_shown(
    containers: Any,
    clustered: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dask_labelqc.classification.on_scheduler.REGION_BYTES", 40_000)
    if clustered:
        with local_cluster(processes=False, default=True):
            find_label_issues_batched(*containers["zarr"])
    else:
        find_label_issues_batched(*containers["zarr"])
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "summarize: 0 of 6 blocks"
    assert lines[-1].startswith("summarize: 6 of 6 blocks")


def raised(labels: Any, pred_probs: Any, **kwargs: Any) -> Any:
    with pytest.raises(InputError) as caught:
        find_label_issues_batched(labels, pred_probs, **{"verbose": False, **kwargs})
    return str(caught.value)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, np.nan, 0.5], "pred_probs: class 1 is nan at example 77; it must be finite"),
        ([0.5, -0.5, 1], "pred_probs: class 1 is -0.5 at example 77; probabilities must lie"),
        ([0.5, 7, 1], "pred_probs: class 1 is 7 at example 77; probabilities must lie between"),
        ([0, 0, 0], "pred_probs: all 3 probabilities are 0 at example 77; a chunk that is"),
    ],
)
def test_unusable_probabilities(row: Any, message: str, lazy: Any, tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    pred_probs[77] = row
    if lazy:
        pred_probs = to_zarr(tmp_path / "p.zarr", pred_probs, (10, 3))
    assert raised(labels, pred_probs).startswith(message)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_labels_outside_the_classes(label: Any) -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    labels[[41, 60]] = label
    assert raised(labels, pred_probs) == (
        "labels: 2 of the 100 labels of examples 0 to 99 are outside 0..2, "
        f"the first is {label} at example 41"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y, p: (y[:-1], p), "labels: there are 99 of them, but pred_probs have shape"),
        (lambda y, p: (y[:, None], p), r"labels: got shape (100, 1), it must be (N,)"),
        (lambda y, p: (y, p[0]), r"pred_probs: got shape (3,), it must be (N, K)"),
        (lambda y, p: (y[:0], p[:0]), "labels: got shape (0,), the dataset is empty"),
        (lambda y, p: (y, p[:, :1]), "pred_probs: got shape (100, 1), K = 1 classes"),
        (lambda y, p: (y.astype(str), p), "labels: got dtype <U21, it must be an integer dtype"),
        (lambda y, p: (y, p.astype(int)), "pred_probs: got dtype int64, it must be float16"),
        (lambda y, p: (None, p), "labels, labels_file: got neither, exactly one of them"),
        (lambda y, p: (y, "p"), "pred_probs: got str, it must be a NumPy, Zarr, Dask or xarray"),
    ],
)
def test_unusable_inputs(change: Any, message: str) -> None:
    assert raised(*change(*draw_examples(0, 100, 3))).startswith(message)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0, it must be an integer of 1 or more"),
        ({"batch_size": 1.5}, "batch_size: got 1.5, it must be an integer of 1 or more"),
        ({"n_jobs": 0}, "n_jobs: got 0, it must be an integer of 1 or more"),
        ({"n_jobs": 1.5}, "n_jobs: got 1.5, it must be an integer of 1 or more"),
        ({"n_jobs": True}, "n_jobs: got True, it must be an integer of 1 or more"),
        ({"return_mask": "no"}, "return_mask: got 'no', it must be True or False"),
        ({"verbose": 2}, "verbose: got 2, it must be True or False"),
        ({"quality_score_kwargs": "best"}, "quality_score_kwargs: got 'best', it must be a dict"),
        ({"num_issue_kwargs": [1]}, "num_issue_kwargs: got [1], it must be a dictionary"),
        (
            {"quality_score_kwargs": {"method": ["a"]}},
            "quality_score_kwargs: method: got ['a'], it",
        ),
        (
            {"quality_score_kwargs": {"adjust_pred_probs": "False"}},
            "quality_score_kwargs: adjust_pred_probs: got 'False', it must be True or False",
        ),
        ({"labels_file": "y.npy"}, "labels, labels_file: got both, exactly one of them"),
        ({"quality_score_kwargs": {"method": "best"}}, "quality_score_kwargs: method: got 'best'"),
        ({"quality_score_kwargs": {"rank": 1}}, "quality_score_kwargs: got the unknown keyword"),
        (
            {"num_issue_kwargs": {"estimation_method": "off_diagonal_custom"}},
            "num_issue_kwargs: estimation_method: got 'off_diagonal_custom', it must be one of",
        ),
        (
            {
                "quality_score_kwargs": {
                    "method": "confidence_weighted_entropy",
                    "adjust_pred_probs": True,
                }
            },
            "quality_score_kwargs: adjust_pred_probs, method: both were given",
        ),
    ],
)
def test_unusable_arguments(kwargs: Any, message: str) -> None:
    assert raised(*draw_examples(0, 100, 3), **kwargs).startswith(message)


@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_unknown_chunks(name: str) -> None:
    labels, pred_probs = (da.from_array(a, chunks=50) for a in draw_examples(0, 100, 3))
    if name == "labels":
        labels = labels[labels >= 0]
    else:
        pred_probs = pred_probs[pred_probs[:, 0] >= 0]
    message = f"{name}: got a Dask array with chunks of unknown size"
    assert raised(labels, pred_probs).startswith(message)


def test_unusable_files(tmp_path: Path) -> None:
    labels, _ = draw_examples(0, 100, 3)
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "two.npz", a=labels, b=labels)
    for file, message in (
        (tmp_path / "none.zarr", "pred_probs_file: there is no Zarr array at"),
        (tmp_path / "text.npy", "pred_probs_file: "),
        (tmp_path / "two.npz", "pred_probs_file: "),
        (3, "pred_probs_file: got int, it must be the path of a .npy file"),
    ):
        assert raised(labels, None, pred_probs_file=file).startswith(message)


def test_files_that_are_not_there_or_cut_off(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    cut, header, empty, several = (
        tmp_path / name for name in ("cut.npy", "header.npy", "empty.npy", "several.npz")
    )
    np.save(cut, labels)
    np.savez(several, a=labels)
    header.write_bytes(cut.read_bytes()[:20])
    for path in (cut, several):
        path.write_bytes(path.read_bytes()[:-10])
    empty.touch()
    damaged = " is a .npy file that is cut off, damaged or of Python objects ("
    for file, message in (
        (tmp_path / "none.npy", f"there is no file {str(tmp_path / 'none.npy')!r}"),
        (tmp_path / "none.zarr", "there is no Zarr array at"),
        (cut, repr(str(cut)) + damaged),
        (header, repr(str(header)) + damaged),
        (empty, f"{str(empty)!r} is not a .npy file: it is empty"),
        (several, f"{str(several)!r} is not a .npy file: "),
    ):
        found = raised(None, pred_probs, labels_file=file)
        assert found.startswith(f"labels_file: {message}")
    assert "write it again" in raised(None, pred_probs, labels_file=cut)
    zarr.create_group(tmp_path / "group.zarr")
    found = raised(None, pred_probs, labels_file=tmp_path / "group.zarr")
    assert found.startswith("labels_file: ")
    assert found.endswith("group.zarr/labels'")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", ["labels", "pred_probs"])
def test_chunks_that_were_cut_off_are_named(name: str, transposed: Any, tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    store = {"labels": labels, "pred_probs": pred_probs.T.copy() if transposed else pred_probs}
    for key, values in store.items():
        chunks = tuple(50 if size == 100 else size for size in values.shape)
        names = ("class", "example") if values.shape[0] == 3 else ("example", "class")
        names = names[: values.ndim]
        zarr.create_array(tmp_path / key, data=values, chunks=chunks, dimension_names=names)
    arrays = [zarr.open_array(tmp_path / key, mode="r") for key in store]
    chunk = next(file for file in (tmp_path / name / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-10])
    message = f"{name}: a chunk in examples 0 to 99 cannot be decoded ("
    found = raised(*arrays)
    assert found.startswith(message)
    assert found.endswith("); was it written to the end?")
    inspector = LabelInspector(num_class=3, verbose=False)
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        inspector.update_confident_thresholds(*arrays)


def test_sums_that_are_off_are_warned_of(tmp_path: Path) -> None:
    labels, pred_probs = draw_examples(0, 100, 3)
    pred_probs[55] *= 0.9
    message = r"should sum to 1 \(within 0.01\); the worst sum is 0.9 at example 55"
    with pytest.warns(LabelQCWarning, match=message) as caught:
        find_label_issues_batched(labels, pred_probs, verbose=False)
    assert caught[0].filename == __file__
    with pytest.warns(LabelQCWarning, match=message):
        find_label_issues_batched(labels, da.from_array(pred_probs, chunks=20), verbose=False)
