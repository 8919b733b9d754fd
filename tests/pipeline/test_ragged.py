"""The job on images of every size."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore

from dask_labelqc.cli import labelqc
from dask_labelqc.errors import InputError
from dask_labelqc.images import ImageTable
from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options
from dask_labelqc.pipeline import audit_zarr, plan_audit
from dask_labelqc.pipeline.image_source import ImageSource, open_stored_images
from dask_labelqc.pipeline.job import Run, run_job
from dask_labelqc.pipeline.ragged import RaggedInputs
from tests.pipeline.datasets import audit, files, write_case
from tests.pipeline.progress import Stop
from tests.ragged import (
    RaggedCase,
    check_ragged,
    ragged_case,
    ragged_cases,
    regular_case,
    write_ragged,
)
from tests.stores import CountingStore
from tests.strategies import Case, cases, examples, make_case

SHAPES = [(3, 4), (7, 5), (1, 2), (6, 6), (2, 9), (4, 4)]
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}
OPTIONAL = {"pixel_scores": True, "predicted_label": True}


def audit_ragged(path: Path, output: Path, **arguments: Any) -> xr.Dataset:
    how: dict[str, Any] = {"progress": False, "group_bytes": 1, "n_jobs": 2, **DENSE}
    report = audit_zarr(path / "labels", path / "pred_probs", output, **(how | arguments))
    return report.open()


@dataclass(frozen=True)
class Held(ImageSource):
    """Images that are read one by one; notes which."""

    case: RaggedCase
    table: ImageTable
    num_classes: int
    dtype: np.dtype[Any]
    labels_dtype: np.dtype[Any]
    scale: float | None = None
    fill_labels: tuple[int, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)
    reads: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, case: RaggedCase) -> Held:
        probs = case.flat.pred_probs
        return cls(case, case.table, probs.shape[1], probs.dtype, case.flat.labels.dtype)

    def read(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads[image] += 1
        return self.case.labels[image], self.case.pred_probs[image]


def run_held(
    source: Held, output: Path, group_bytes: int, regular: bool = False, **how: Any
) -> Any:
    options = Options.of(**source.case.flat.arguments, outputs=every_output(**OPTIONAL))
    inputs = RaggedInputs.of(source, options, group_bytes=group_bytes, regular=regular)
    run_job(inputs, output, Run(**{"progress": False, "n_jobs": 2, **how}))
    return xr.open_zarr(output)


@examples(10)
@given(ragged_cases(), st.sampled_from([1, 300, 10**9]), st.sampled_from([1, 7, 20]))
def test_against_the_reference(
    tmp_path_factory: pytest.TempPathFactory, case: RaggedCase, group_bytes: int, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("ragged")
    write_ragged(path / "in", case, chunk)
    how = {"group_bytes": group_bytes, **case.flat.arguments}
    check_ragged(audit_ragged(path / "in", path / "out", **how), case)
    check_ragged(run_held(Held.of(case), path / "held", group_bytes), case)


@examples(8)
@given(cases(), st.sampled_from([1, 300, 10**9]), st.sampled_from([1, 5, 20]))
def test_images_of_one_size_are_those_of_a_regular_dataset(
    tmp_path_factory: pytest.TempPathFactory, case: Case, group_bytes: int, chunk: int
) -> None:
    """To the bit, also the scores of images that groups cut."""
    path, ragged = tmp_path_factory.mktemp("regular"), regular_case(case)
    stored = write_case(path / "in", case)
    regular = audit(stored, path / "out", **DENSE, **case.arguments).open()
    write_ragged(path / "flat", ragged, chunk)
    flat = audit_ragged(path / "flat", path / "ragged", group_bytes=group_bytes, **case.arguments)
    for name, variable in regular.data_vars.items():
        values = flat[name].values.reshape(variable.shape)
        np.testing.assert_array_equal(values, variable, err_msg=str(name), strict=True)
    assert flat.attrs["num_selected"] == regular.attrs["num_selected"]


@pytest.mark.parametrize("group_bytes", [1, 500, 10**9])
@pytest.mark.parametrize("shard", [1, 3])
def test_each_chunk_is_read_once(shard: int, group_bytes: int, tmp_path: Path) -> None:
    case = ragged_case(SHAPES)
    store = CountingStore(LocalStore(write_ragged(tmp_path / "in", case, 9, shard)))
    labels, pred_probs = (
        zarr.open_array(store, path=name, mode="r+") for name in ("labels", "pred_probs")
    )
    how = {"group_bytes": group_bytes, "progress": False, **DENSE}
    audit_zarr(labels, pred_probs, tmp_path / "out", **how)
    reads = store.chunk_reads("pred_probs")
    if shard == 1:
        assert set(reads.values()) == {1}
    chunks = -(-case.table.num_pixels // 9)
    # Of a shard the index is read besides, once by each group that has a part of it.
    assert len(store.chunk_reads("labels")) == -(-chunks // shard)
    check_ragged(xr.open_zarr(tmp_path / "out"), case)


@pytest.mark.parametrize("group_bytes", [1, 500, 10**9])
@pytest.mark.parametrize("downsample", [1, 2])
def test_images_that_are_read_whole_are_read_once(
    downsample: int, group_bytes: int, tmp_path: Path
) -> None:
    case = ragged_case([(2 * h, 2 * w) for h, w in SHAPES])
    flat = Case(case.flat.labels, case.flat.pred_probs, downsample=downsample)
    case = RaggedCase(flat, case.shapes)
    source = Held.of(case)
    found = run_held(source, tmp_path / "held", group_bytes)
    assert source.reads == dict.fromkeys(range(len(SHAPES)), 1)
    write_ragged(tmp_path / "in", case)
    stored = audit_ragged(tmp_path / "in", tmp_path / "out", downsample=downsample)
    for name, variable in stored.data_vars.items():
        np.testing.assert_array_equal(found[name], variable, err_msg=str(name))


@pytest.mark.parametrize("group_bytes", [1, 2000, 10**9])
def test_of_one_size_and_asked_for_regular(group_bytes: int, tmp_path: Path) -> None:
    case = make_case(3, (5, 4, 6), 4, ignored=(2,), void=0.2)
    source = Held.of(regular_case(case))
    found = run_held(source, tmp_path / "held", group_bytes, regular=True)
    stored = write_case(tmp_path / "in", case)
    audit(stored, tmp_path / "out", group_bytes=group_bytes, **DENSE, **case.arguments)
    xr.testing.assert_equal(found.drop_vars("image_id"), xr.open_zarr(tmp_path / "out"))
    assert found.image_id.values.tolist() == source.table.ids.tolist()
    assert found.label_issues.dims == ("image", "y", "x")


@pytest.mark.parametrize("stage", ["summarize", "count", "paint"])
def test_killed_and_resumed_gives_the_same_bytes(stage: str, tmp_path: Path) -> None:
    case = ragged_case(SHAPES, mistakes=0.5)
    write_ragged(tmp_path / "in", case, 9)
    audit_ragged(tmp_path / "in", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        audit_ragged(tmp_path / "in", tmp_path / "out", progress=Stop(stage, 2))
    audit_ragged(tmp_path / "in", tmp_path / "out", resume=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("group_bytes", [1, 400, 10**9])
def test_bad_images_are_left_out(held: bool, group_bytes: int, tmp_path: Path) -> None:
    case = ragged_case(SHAPES)
    bad = case.flat.pred_probs.copy()
    first = int(case.table.offsets[1])
    bad[0, 2, first + 17] = np.nan
    damaged = RaggedCase(Case(case.flat.labels, bad), SHAPES)
    how = {"group_bytes": group_bytes, "keep_going": True}
    if held:
        found = run_held(Held.of(damaged), tmp_path / "out", **how)
    else:
        write_ragged(tmp_path / "in", damaged, 9)
        found = audit_ragged(tmp_path / "in", tmp_path / "out", **how)
    assert found.attrs["not_audited"] == [1]
    kept = [i for i in range(len(SHAPES)) if i != 1]
    others = RaggedCase(
        Case(
            np.concatenate([case.labels[i].reshape(1, -1) for i in kept], axis=1),
            np.concatenate([case.pred_probs[i].reshape(1, 4, -1) for i in kept], axis=2),
        ),
        [SHAPES[i] for i in kept],
    )
    pixels = np.ones(case.table.num_pixels, bool)
    pixels[first : first + 35] = False
    assert np.isnan(found.image_score.values[1])
    assert not found.label_issues.values[~pixels].any()
    assert np.isnan(found.pixel_scores.values[~pixels]).all()
    check_ragged(found.isel(pixel=pixels, image=kept).load(), others)


def test_on_a_cluster(client: Client, tmp_path: Path) -> None:
    case = ragged_case(SHAPES)
    write_ragged(tmp_path / "in", case, 9)
    audit_ragged(tmp_path / "in", tmp_path / "here")
    audit_ragged(tmp_path / "in", tmp_path / "there", client=client)
    assert files(tmp_path / "here") == files(tmp_path / "there")


def test_tasks_do_not_bring_the_table(tmp_path: Path) -> None:
    case = ragged_case(SHAPES)
    path = write_ragged(tmp_path / "in", case)
    inputs = RaggedInputs.of(open_stored_images(path / "labels", path / "pred_probs"), Options.of())
    name = "image-3".encode("utf-32-le")
    assert name in pickle.dumps(inputs.source.table)
    assert name not in pickle.dumps(inputs)
    other = pickle.loads(pickle.dumps(inputs))
    assert other.source.span(1, 3).along == (12, 49)


def test_the_names_of_classes_go_along(tmp_path: Path) -> None:
    case = ragged_case(SHAPES)
    path = write_ragged(tmp_path / "in", case)
    names = ["sky", "road", "tree", "car"]
    zarr.open_group(path, mode="r+").attrs["class_names"] = names
    assert audit_ragged(path, tmp_path / "out").attrs["class_names"] == names


def test_plan(tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", ragged_case(SHAPES))
    plan = plan_audit(path / "labels", path / "pred_probs", group_bytes=320)
    assert (plan.num_images, plan.num_pixels, plan.num_groups) == (6, 119, 6)
    assert plan.summary()["images"] == "6 of 1 x 2 to 6 x 6 pixels"
    plan.check()


@pytest.mark.parametrize("held", [False, True])
def test_errors_name_the_image(held: bool, tmp_path: Path) -> None:
    case = ragged_case(SHAPES, label_dtype="i2")
    case.flat.labels[0, int(case.table.offsets[3]) + 8] = 77
    path = write_ragged(tmp_path / "in", case)
    run = partial(run_held, Held.of(case)) if held else partial(audit_ragged, path)
    with pytest.raises(InputError, match=r"1 of \d+ pixels .* 77 at image 3, pixel \(1, 2\)"):
        run(tmp_path / "out", group_bytes=1)


def test_a_factor_that_does_not_divide(tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", ragged_case([(2, 4), (4, 3)]))
    with pytest.raises(InputError, match=r"2 does not divide the shape \(4, 3\) of 'image-1'"):
        audit_ragged(path, tmp_path / "out", downsample=2)


def test_a_store_that_was_not_written_to_the_end(tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", ragged_case(SHAPES))
    ragged_case(SHAPES[:-1]).table.write(zarr.open_group(path, mode="r+"))
    with pytest.raises(InputError, match=r"labels: 119 pixels .* 5 images .* have 103"):
        audit_ragged(path, tmp_path / "out")


def test_the_command_line(tmp_path: Path) -> None:
    case = ragged_case(SHAPES)
    path = write_ragged(tmp_path / "in", case)

    def invoke(*arguments: Any) -> str:
        result = CliRunner().invoke(labelqc, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return " ".join(result.stdout.split())

    assert "images 6 of 1 x 2 to 6 x 6 pixels pixels 119 classes 4" in invoke("info", path)
    quiet = "--workers=0", "--quiet"
    assert "images 6 pixels 119" in invoke("audit", path, tmp_path / "out", *quiet)
    invoke("audit", path / "labels", path / "pred_probs", tmp_path / "other", *quiet)
    assert files(tmp_path / "out") == files(tmp_path / "other")
    check_ragged(xr.open_zarr(tmp_path / "out"), case)


def test_chunks_of_outputs_that_are_far_from_their_groups(tmp_path: Path) -> None:
    """Large images first: the chunks of the small ones are painted from groups far behind."""
    case = ragged_case([(9, 9)] * 3 + [(1, 2)] * 40, mistakes=0.5)
    check_ragged(run_held(Held.of(case), tmp_path / "held", 1), case)


def test_predictions_that_are_not_in_the_store(tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", ragged_case(SHAPES), 9)
    (path / "pred_probs/c/0/4").unlink()  # pixels 36 to 44, of image 1, which begins at 12
    with pytest.raises(InputError, match=r"probabilities are 0 at image 1, pixel \(4, 4\)"):
        audit_ragged(path, tmp_path / "out")


def test_labels_that_are_not_in_the_store(tmp_path: Path) -> None:
    path = write_ragged(tmp_path / "in", ragged_case(SHAPES), 9)
    (path / "labels/c/5").unlink()  # pixels 45 to 53, of images 1 to 3
    with pytest.warns(UserWarning, match="1 of 14 chunks .* read as class 0, in images 1 to 3;"):
        audit_ragged(path, tmp_path / "out", group_bytes=10**9)
