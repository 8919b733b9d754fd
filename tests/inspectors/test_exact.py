"""What is put on record image by image is, when it is finished, the audit of stored predictions."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import SegmentationInspector
from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.inspectors import recorded_images
from dask_labelqc.inspectors.parts import cut_into_parts
from dask_labelqc.pipeline import audit_zarr
from dask_labelqc.plan import plan_blocks
from tests.inspectors.recording import finish, inspector, names, put, record, same_answers
from tests.pipeline.datasets import audit, files, write_case
from tests.ragged import RaggedCase, check_ragged, ragged_cases, write_ragged
from tests.strategies import Case, cases, examples, make_case


def stored_run(path: Path, case: Case, **arguments: object) -> Path:
    stored = write_case(path / "in", case)
    audit(stored, path / "stored", ignore_index=case.ignore_index, **arguments)
    return path / "stored"


@examples(10)
@given(data=st.data(), case=cases(downsampling=False))
def test_any_batches_writers_and_order(data: st.DataObject, case: Case) -> None:
    """Images come more than once, as padding samplers have them, and to any of three writers."""
    num_images = len(case.labels)
    every = data.draw(st.permutations(range(num_images)), label="order")
    again = data.draw(st.lists(st.integers(0, num_images - 1), max_size=4), label="again")
    with TemporaryDirectory() as folder:
        path = Path(folder)
        expected = stored_run(path, case)
        writers = [inspector(path / "out", case, flush_images=2) for _ in range(3)]
        waiting = [*every, *again]
        while waiting:
            size = data.draw(st.integers(1, len(waiting)), label="batch")
            batch, waiting = waiting[:size], waiting[size:]
            put(data.draw(st.sampled_from(writers)), case, list(dict.fromkeys(batch)))
        for writer in writers:
            writer.close()
        finish(path / "out")
        found = same_answers(path / "out", expected)
        assert found.image_id.values.tolist() == names(case)


@examples(6)
@given(seed=st.integers(0, 2**16), dtype=st.sampled_from(["f2", "f4", "f8"]))
def test_logits(seed: int, dtype: str) -> None:
    case = make_case(seed, (3, 5, 4), 4, ignored=(255,), void=0.2)
    logits = np.log(case.pred_probs.astype(np.float64) + 1e-3).astype(dtype)
    case = Case(case.labels, logits, case.ignore_index)
    with TemporaryDirectory() as folder:
        path = Path(folder)
        expected = stored_run(path, case, from_logits=True)
        with inspector(path / "out", case) as inspecting:
            ids = names(case)
            inspecting.update(ids[1:], case.labels[1:], logits=logits[1:])
            inspecting.update(ids[:1], [case.labels[0]], logits=[logits[0]])
        finish(path / "out")
        same_answers(path / "out", expected)


@examples(10)
@given(data=st.data(), case=ragged_cases())
def test_images_of_every_size(data: st.DataObject, case: RaggedCase) -> None:
    """The output lies on one flat axis, as the predictions of the stored run do."""
    table, ignored = case.table, case.flat.ignore_index
    every = data.draw(st.permutations(range(table.num_images)), label="order")
    cut = data.draw(st.integers(0, len(every)), label="cut")
    with TemporaryDirectory() as folder:
        path = Path(folder)
        stored = write_ragged(path / "in", case)
        arrays = stored / "labels", stored / "pred_probs"
        audit_zarr(*arrays, path / "stored", ignore_index=ignored, progress=False)
        num_classes = case.flat.pred_probs.shape[1]
        for images in (every[:cut], every[cut:]):
            with SegmentationInspector(
                path / "out", num_classes, ignore_index=ignored
            ) as inspecting:
                inspecting.update(
                    [table.ids[i] for i in images],
                    [case.labels[i] for i in images],
                    pred_probs=[case.pred_probs[i] for i in images],
                )
        finish(path / "out", manifest=table.ids.tolist())
        if table.regular:
            assert finish(path / "out").open().label_issues.shape == table.regular
        else:
            same_answers(path / "out", path / "stored")
            check_ragged(xr.open_zarr(path / "out"), case)


def test_ranks_whose_samplers_pad(tmp_path: Path) -> None:
    """Two ranks take turns; the last batch is filled up with images from the beginning."""
    case = make_case(1, (7, 6, 8), 4)
    for rank in range(2):
        record(tmp_path / "out", case, *((i % 7, (i + 2) % 7) for i in range(rank, 8, 4)))
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path, case))


def test_folds_of_a_cross_validation(tmp_path: Path) -> None:
    case = make_case(2, (9, 6, 8), 4)
    for fold in range(3):
        record(tmp_path / "out", case, range(fold, 9, 3))
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path, case))


@pytest.mark.parametrize("size", [1, 4000])
def test_records_in_many_parts(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a shuffled loader have issues of every group of the output, or count for nothing."""
    small = partial(plan_blocks, group_bytes=2 * 48 * 16)
    monkeypatch.setattr(recorded_images, "plan_blocks", small)
    monkeypatch.setattr(recorded_images, "cut_into_parts", partial(cut_into_parts, part_bytes=size))
    case = make_case(3, (20, 6, 8), 4, resolution=8)  # that ties
    order = np.random.default_rng(0).permutation(20)
    batches = order.reshape(10, 2).tolist()
    record(tmp_path / "out", case, *batches, batches[0], flush_images=2)
    report = finish(tmp_path / "out")
    assert report.num_groups == 10
    same_answers(tmp_path / "out", stored_run(tmp_path, case))


def test_the_order_is_that_of_the_manifest(tmp_path: Path) -> None:
    """Which of the pixels that tie at the cut are issues depends on it."""
    case = make_case(4, (6, 5, 4), 3, resolution=4, mistakes=0.6)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = Case(case.labels[order], case.pred_probs[order])
    record(tmp_path / "out", case)
    manifest = [names(case)[i] for i in order]
    finish(tmp_path / "out", manifest=manifest)
    found = same_answers(tmp_path / "out", stored_run(tmp_path / "a", shuffled))
    assert found.image_id.values.tolist() == manifest
    file = tmp_path / "manifest.txt"
    file.write_text("\n".join(names(case)))
    finish(tmp_path / "out", manifest=file)
    same_answers(tmp_path / "out", stored_run(tmp_path / "b", case))


def test_finish_add_and_finish(tmp_path: Path) -> None:
    case = make_case(5, (8, 6, 8), 4)
    first = Case(case.labels[:5], case.pred_probs[:5])
    record(tmp_path / "out", case, range(5))
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path / "a", first))
    before = files(tmp_path / "out")
    assert finish(tmp_path / "out").num_images == 5
    assert files(tmp_path / "out") == before
    record(tmp_path / "out", case, range(4, 8))
    assert finish(tmp_path / "out").num_images == 8
    same_answers(tmp_path / "out", stored_run(tmp_path / "b", case))


def test_the_same_bytes_from_other_records(tmp_path: Path) -> None:
    """But for the records: how images were put down is no part of the answer."""
    case = make_case(6, (6, 6, 8), 4)
    record(tmp_path / "a", case, [0, 1, 2], [3, 4, 5])
    record(tmp_path / "b", case, [5, 1], [2, 0, 4], [3, 1], flush_images=1)
    found = []
    for output in (tmp_path / "a", tmp_path / "b"):
        finish(output)
        found.append({n: d for n, d in files(output).items() if not n.startswith("records/")})
    assert found[0] == found[1]


def test_the_files_are_those_of_the_job(tmp_path: Path) -> None:
    """Of predictions in chunks of an image; besides there are the ids."""
    case = make_case(7, (6, 6, 8), 4)
    stored = write_case(tmp_path / "in", case)
    audit_zarr(*stored, tmp_path / "stored", progress=False)
    record(tmp_path / "out", case)
    finish(tmp_path / "out")
    expected, found = files(tmp_path / "stored"), files(tmp_path / "out")
    differing = {name for name, data in expected.items() if found[name] != data}
    assert differing == {"zarr.json"}


def test_rows_that_sum_to_more_than_one(tmp_path: Path) -> None:
    """What was kept may not be enough; it is with bound=1."""
    rng = np.random.default_rng(0)
    probs = rng.integers(1, 1024, (3, 3, 4, 4)) / np.float32(1024)
    case = Case(rng.integers(0, 3, (3, 4, 4)), probs)
    worst = np.argmax(np.abs(probs.sum(axis=1) - 1).max(axis=(1, 2)))
    for name, bound in (("usual", None), ("all", 1)):
        with pytest.warns(LabelQCWarning, match="worst sum is .* at image 'tile_"):
            record(tmp_path / name, case, bound=bound)
    before = files(tmp_path / "usual")
    with (
        pytest.warns(LabelQCWarning, match="worst sum"),
        pytest.raises(InputError, match="with inspectors that are made with bound=1"),
    ):
        finish(tmp_path / "usual")
    assert files(tmp_path / "usual") == before
    with pytest.warns(
        LabelQCWarning, match=f"worst sum is .* at image {names(case)[worst]!r}, pixel"
    ):
        finish(tmp_path / "all")
    with pytest.warns(LabelQCWarning, match="worst sum"):
        expected = stored_run(tmp_path, case)
    same_answers(tmp_path / "all", expected)
