"""With `keep_going` only the images that cannot be audited are left out, not their whole group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.errors import BlockError, InputError
from dask_labelqc.method.summarize import RegionSummary
from dask_labelqc.pipeline import images as images_module
from tests import reference
from tests.pipeline.damage import mend, spoil
from tests.pipeline.datasets import Stored, audit, files, write, write_case
from tests.pipeline.progress import Stop
from tests.strategies import Case, examples, make_case

DENSE = {"write_pixel_scores": True, "write_predicted_label": True}
WHOLE = {"group_bytes": 10**9, **DENSE}
LAYOUTS = {
    "a chunk for each image": {},
    "several images in a chunk": {"chunks": (5, 3, 4, 6), "label_chunks": (4, 4, 6)},
    "parts of images": {"chunks": (2, 3, 2, 3)},
    "classes apart": {"chunks": (3, 1, 4, 6)},
}


def with_nan(case: Case, images: list[int]) -> Case:
    probs = case.pred_probs.copy()
    for image in images:
        probs[image, 1, image % 4, 2] = np.nan
    return Case(case.labels, probs)


def check_left_out(output: Path, case: Case, lost: list[int], **arguments: Any) -> xr.Dataset:
    """The other images are as if those that were lost were not there."""
    found = xr.open_zarr(output).load()
    assert found.attrs["not_audited"] == lost
    assert found.attrs["status"] == "partial"
    kept = np.delete(np.arange(len(case.labels)), lost)
    expected = reference.audit(case.labels[kept], case.pred_probs[kept], **arguments)
    for name, variable in found.data_vars.items():
        values = getattr(expected, str(name))
        if "image" not in variable.dims:
            np.testing.assert_array_equal(variable, values, err_msg=str(name))
            continue
        np.testing.assert_allclose(variable[kept], values, rtol=0, atol=1e-12, err_msg=str(name))
        nothing = variable.values[lost]
        blank = np.isnan(nothing) if nothing.dtype.kind == "f" else nothing == 0
        assert blank.all(), name
    assert found.attrs["num_issues"] == expected.label_issues.sum()
    return found


@pytest.mark.parametrize("group_bytes", [1, 1000, 10**9])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_one_pixel_of_one_image(layout: dict, group_bytes: int, tmp_path: Path) -> None:
    case = make_case(120, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", with_nan(case, [7]), **layout)
    how = {"keep_going": True, "group_bytes": group_bytes, **DENSE}
    report = audit(stored, tmp_path / "out", **how)
    (failure,) = report.failures
    assert failure.images == (7, 8)
    assert "class 1 is nan at image 7, pixel (3, 2)" in failure.cause
    check_left_out(tmp_path / "out", case, [7])

    write_case(tmp_path / "in", case, **layout)
    assert audit(stored, tmp_path / "out", resume=True, **how).failures == ()
    audit(stored, tmp_path / "undisturbed", **how)
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


@examples(8)
@given(st.sets(st.integers(0, 8), max_size=8), st.integers(1, 9), st.sampled_from([1, 900, 10**9]))
def test_any_images(
    tmp_path_factory: pytest.TempPathFactory, lost: set[int], images: int, group_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("any")
    case = make_case(121, (9, 4, 6), 3, downsample=2)
    chunks = (images, 3, 4, 4)
    stored = write_case(path / "in", with_nan(case, sorted(lost)), chunks=chunks)
    how = {"group_bytes": group_bytes, "downsample": 2, **DENSE}
    report = audit(stored, path / "out", keep_going=True, **how)
    assert [i for f in report.failures for i in range(*f.images)] == sorted(lost)
    if lost:
        check_left_out(path / "out", case, sorted(lost), downsample=2)
    write_case(path / "in", case, chunks=chunks)
    audit(stored, path / "out", resume=True, **how)
    audit(stored, path / "undisturbed", **how)
    assert files(path / "out") == files(path / "undisturbed")


def test_a_chunk_that_cannot_be_decoded(tmp_path: Path) -> None:
    """The images in it are lost, of labels and of predictions."""
    case = make_case(122, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", case, chunks=(3, 3, 4, 6), label_chunks=(2, 4, 6))
    chunks = [stored.pred_probs / "c/1/0/0/0", stored.labels / "c/5/0/0"]
    kept = [chunk.read_bytes() for chunk in chunks]
    for chunk in chunks:
        chunk.write_bytes(b"no chunk")
    report = audit(stored, tmp_path / "out", keep_going=True, **WHOLE)
    assert [i for f in report.failures for i in range(*f.images)] == [3, 4, 5, 10, 11]
    assert "pred_probs: a chunk in image 3 cannot be decoded" in report.failures[0].cause
    assert "labels: a chunk in image 10 cannot be decoded" in report.failures[3].cause
    check_left_out(tmp_path / "out", case, [3, 4, 5, 10, 11])
    for chunk, data in zip(chunks, kept, strict=True):
        chunk.write_bytes(data)
    audit(stored, tmp_path / "out", resume=True, **WHOLE)
    audit(stored, tmp_path / "undisturbed", **WHOLE)
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


def test_a_chunk_that_cannot_be_read(tmp_path: Path) -> None:
    """It is one failure, that names all images in it."""
    case = make_case(123, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", case, chunks=(3, 3, 4, 6))
    spoil(stored.pred_probs / "c/2/0/0/0")
    report = audit(stored, tmp_path / "out", keep_going=True, **WHOLE)
    (failure,) = report.failures
    assert failure.images == (6, 9)
    assert failure.cause.startswith("summarize: images 6 to 8 failed 3 times: OSError")
    check_left_out(tmp_path / "out", case, [6, 7, 8])
    mend(stored.pred_probs / "c/2/0/0/0")
    audit(stored, tmp_path / "out", resume=True, **WHOLE)
    audit(stored, tmp_path / "undisturbed", **WHOLE)
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


def test_on_a_cluster(client: Client, tmp_path: Path) -> None:
    case = make_case(124, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", with_nan(case, [2, 7, 8]))
    report = audit(stored, tmp_path / "out", client=client, keep_going=True, group_bytes=1500)
    assert [f.images for f in report.failures] == [(2, 3), (7, 8), (8, 9)]
    check_left_out(tmp_path / "out", case, [2, 7, 8])


def test_still_bad_at_the_next_try(tmp_path: Path) -> None:
    case = make_case(125, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", with_nan(case, [2, 7]))
    audit(stored, tmp_path / "out", keep_going=True, **WHOLE)
    write_case(tmp_path / "in", with_nan(case, [7]))
    with pytest.raises(InputError, match="class 1 is nan at image 7"):
        audit(stored, tmp_path / "out", resume=True, **WHOLE)
    report = audit(stored, tmp_path / "out", resume=True, keep_going=True, **WHOLE)
    assert [f.images for f in report.failures] == [(7, 8)]
    check_left_out(tmp_path / "out", case, [7])


@pytest.mark.parametrize("stage", ["sift", "sum", "count", "paint"])
def test_stopped_and_resumed(stage: str, tmp_path: Path) -> None:
    """What is on record without some of its images is not done."""
    case = make_case(126, (12, 4, 6), 3)
    bad = with_nan(case, [2, 7])
    stored = write_case(tmp_path / "in", bad, chunks=(1, 3, 4, 6))
    how = {"group_bytes": 1500, **DENSE}
    with pytest.raises(KeyboardInterrupt):
        audit(stored, tmp_path / "out", keep_going=True, progress=Stop(stage, 1), n_jobs=1, **how)
    audit(stored, tmp_path / "out", resume=True, keep_going=True, **how)
    check_left_out(tmp_path / "out", case, [2, 7])
    write_case(tmp_path / "in", case)
    audit(stored, tmp_path / "out", resume=True, **how)
    audit(stored, tmp_path / "undisturbed", **how)
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


def test_only_groups_that_failed_are_read_again(tmp_path: Path) -> None:
    case = make_case(127, (12, 4, 6), 3)
    stored = write_case(tmp_path / "in", with_nan(case, [7]))
    report = audit(stored, tmp_path / "out", keep_going=True, group_bytes=1152)  # four images
    image = case.pred_probs[0].nbytes
    # The other two groups; halves until the image is alone, of which the others can be read; what
    # is kept of its group.
    assert report.bytes_read == image * (8 + (2 + 1) + 3)


def test_the_second_read_leaves_the_same_images_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probs = rng.integers(1, 1024, (6, 4, 8, 8)) / np.float32(1024)
    labels = rng.integers(0, 4, (6, 8, 8))
    labels[3, 1, 2] = 9
    stored = write(tmp_path / "in", labels, probs)
    audit(stored, tmp_path / "out", validate="labels", keep_going=True, **WHOLE)
    found = check_left_out(tmp_path / "out", Case(labels, probs), [3])
    assert found.attrs["num_selected"] > 200


def test_a_group_that_fails_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images can be read one by one, but it cannot be put on record."""
    case = make_case(128, (6, 4, 6), 3)
    stored = write_case(tmp_path / "in", case)
    to_arrays = images_module.to_arrays

    def failing(summary: RegionSummary) -> dict:
        if summary.extent.start[0] == 2:
            raise OSError("no space")
        return to_arrays(summary)

    monkeypatch.setattr(images_module, "to_arrays", failing)
    how = {"group_bytes": 2 * case.pred_probs[0].nbytes, **DENSE}
    report = audit(stored, tmp_path / "out", keep_going=True, **how)
    (failure,) = report.failures
    assert failure.images == (2, 4)
    assert failure.cause == "summarize: images 2 to 3 failed 3 times: OSError: no space"
    check_left_out(tmp_path / "out", case, [2, 3])


def test_all_images_are_bad(tmp_path: Path) -> None:
    case = make_case(129, (5, 4, 6), 3)
    stored: Stored = write_case(tmp_path / "in", with_nan(case, list(range(5))))
    with pytest.raises(BlockError, match="no image could be audited: pred_probs: class 1 is nan"):
        audit(stored, tmp_path / "out", keep_going=True, **WHOLE)
