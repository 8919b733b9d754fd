from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from dask_labelqc.demo.dataset import (
    DatasetSpec,
    is_complete,
    read_array,
    read_attributes,
    write_dataset,
)
from dask_labelqc.demo.scenes import CLASS_NAMES
from dask_labelqc.errors import InputError, OutputError

ARRAYS = ("labels", "pred_probs", "truth/true_labels", "truth/error_kind", "truth/wrong_pixels")


def chunk_files(dataset: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(dataset)): file.read_bytes()
        for file in dataset.rglob("*")
        if file.is_file()
    }


def test_xarray_opens_it_with_names(dataset: Path, spec: DatasetSpec) -> None:
    opened = xr.open_zarr(dataset)
    assert opened.labels.dims == ("image", "y", "x")
    assert opened.labels.dtype == np.uint8
    assert opened.pred_probs.dims == ("image", "class", "y", "x")
    assert opened.pred_probs.dtype == np.float32
    assert opened.pred_probs.shape == (spec.images, 12, spec.size, spec.size)
    assert opened.attrs["class_names"] == list(CLASS_NAMES)
    assert zarr.open_array(dataset / "pred_probs").chunks == (1, 12, spec.size, spec.size)


def test_threads_write_the_same_bytes(dataset: Path, spec: DatasetSpec, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as executor:
        write_dataset(tmp_path / "other.zarr", spec, executor=executor)
    assert chunk_files(tmp_path / "other.zarr") == chunk_files(dataset)


def test_truth_says_which_pixels_are_wrong(dataset: Path, spec: DatasetSpec) -> None:
    given, _, true, kinds, wrong = (read_array(dataset, name) for name in ARRAYS)
    assert np.count_nonzero(kinds) == 3
    np.testing.assert_array_equal(np.count_nonzero(given != true, axis=(1, 2)), wrong)
    np.testing.assert_array_equal(wrong > 0, kinds > 0)


def test_the_scene_does_not_depend_on_the_annotator(
    dataset: Path, spec: DatasetSpec, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "clean.zarr", replace(spec, error_fraction=0.0))
    for name in ("pred_probs", "truth/true_labels"):
        np.testing.assert_array_equal(
            read_array(tmp_path / "clean.zarr", name), read_array(dataset, name)
        )
    assert not read_array(tmp_path / "clean.zarr", "truth/wrong_pixels").any()


def test_a_complete_dataset_is_reused(tmp_path: Path) -> None:
    spec = DatasetSpec(images=2, size=32)
    finished: list[int] = []
    assert write_dataset(tmp_path / "d.zarr", spec, on_image=finished.append)
    assert finished == [1, 2]
    before = chunk_files(tmp_path / "d.zarr")
    assert not write_dataset(tmp_path / "d.zarr", spec, on_image=finished.append)
    assert finished == [1, 2]
    assert chunk_files(tmp_path / "d.zarr") == before


def test_other_parameters_make_it_anew(tmp_path: Path) -> None:
    spec = DatasetSpec(images=2, size=32)
    write_dataset(tmp_path / "d.zarr", spec)
    other = replace(spec, seed=1)
    assert not is_complete(tmp_path / "d.zarr", other)
    assert write_dataset(tmp_path / "d.zarr", other)
    assert is_complete(tmp_path / "d.zarr", other)


def test_an_interrupted_dataset_is_made_anew(tmp_path: Path) -> None:
    path, spec = tmp_path / "d.zarr", DatasetSpec(images=3, size=32)

    def interrupt(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(path, spec, on_image=interrupt)
    assert read_attributes(path)["complete"] is False
    assert not read_array(path, "pred_probs", 2).any()
    assert write_dataset(path, spec)
    assert read_array(path, "pred_probs").sum() == pytest.approx(3 * 32 * 32)


def test_what_the_demo_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="was not made by the demo"):
        write_dataset(tmp_path, DatasetSpec(images=1, size=32))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"images": 0}, "images must be 1 or more, got 0"),
        ({"size": 31}, "size must be 32 pixels or more, got 31"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"error_fraction": 1.5}, "error_fraction must be within 0 and 1, got 1.5"),
    ],
)
def test_parameters_that_cannot_be_used(parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DatasetSpec(**parameters)


def test_a_missing_array_is_named(dataset: Path) -> None:
    with pytest.raises(InputError, match="no array 'depth' in the Zarr group"):
        read_array(dataset, "depth")
    assert read_attributes(dataset / "depth") == {}
