"""One pass: what is on record of examples, of any framework, and what is refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc import InputError, LabelInspector, LabelQCWarning, OutputError, finish_audit
from dask_labelqc.classification.batches import batch_of, probabilities, scanned
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.recorded import recorded, scan_of_facts, with_all
from dask_labelqc.pipeline import audit_examples_zarr
from tests.classification.examples import SCORES, draw_examples
from tests.inspectors.columns import DENSE, Examples, finish, record, same_answers
from tests.strategies import examples

ESTIMATES = ("off_diagonal", "off_diagonal_calibrated")


def ids(count: int) -> list[str]:
    return [f"{i:03}" for i in range(count)]


@examples(20)
@given(
    score=st.sampled_from([score for score in SCORES if score != ("normalized_margin", True)]),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(["f2", "f4", "f8", "u1"]),
    num_classes=st.sampled_from([2, 5, 128, 129, 300]),
    bound=st.sampled_from([-np.inf, 0.3, 0.505, np.inf]),
)
def test_what_a_scan_found_is_on_record(
    score: tuple[Any, bool], seed: int, dtype: str, num_classes: int, bound: float
) -> None:
    """To the bit: the scan of any batch follows from the record."""
    options = ScoreOptions(*score)
    labels, probs = draw_examples(seed, 40, num_classes)
    labels = np.where(np.arange(40) % 7 == 3, np.nan, labels)  # which take part in nothing
    stored = np.rint(probs * 255).astype("u1") if dtype == "u1" else probs.astype(dtype)
    stored[:, 0] += np.asarray(stored.sum(axis=1) == 0, stored.dtype)
    batch = batch_of(labels, stored, num_classes)
    assert batch is not None
    statistics, found = scanned(batch, 0, options.scan(np.inf), 1)
    columns = with_all(recorded(ids(40), batch, found, statistics.worst_sum, options))
    scan = scan_of_facts(columns.values, batch.form, options.scan(bound))
    expected_statistics, expected = scanned(batch, 0, options.scan(bound), 1)
    assert scan.class_sum.tolist() == expected_statistics.class_sum.tolist()
    assert scan.class_count.tolist() == expected_statistics.class_count.tolist()
    for name, values in vars(expected).items():
        mine = getattr(scan, name)
        assert (mine.dtype, mine.tobytes()) == (values.dtype, values.tobytes()), name


@pytest.mark.parametrize("method", SCORES)
@pytest.mark.parametrize("estimation", ESTIMATES)
def test_all_options(method: tuple[str, bool], estimation: str, tmp_path: Path) -> None:
    """Also where scores of those that agree tie, or must be looked at once more."""
    labels, probs = draw_examples(3, 60, 4, np.float32, steps=8, noise=0.4)
    score = {"method": method[0], "adjust_pred_probs": method[1]}
    made = Examples(labels, probs, {**score, "estimation_method": estimation})
    record(tmp_path / "out", made, range(0, 60, 2), range(1, 60, 2), flush=20)
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", made.stored(tmp_path))


def stored_run(path: Path, labels: Any, probs: Any, **attributes: Any) -> Path:
    group = zarr.open_group(path / "in", mode="w")
    group.create_array("labels", data=labels)
    group.create_array("pred_probs", data=probs, attributes=attributes)
    places = path / "in/labels", path / "in/pred_probs", path / "stored"
    audit_examples_zarr(*places, **DENSE, progress=False, n_jobs=1)
    return path / "stored"


FRAMEWORKS = {
    "numpy": np.asarray,
    "torch": torch.tensor,
    "learning": lambda values: torch.tensor(values).float().requires_grad_() * 1,
    "jax": jnp.asarray,
    "xarray": lambda values: xr.DataArray(values, dims=["example", "class"][: np.ndim(values)]),
}


@pytest.mark.parametrize("make", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_frameworks(make: Any, tmp_path: Path) -> None:
    labels, probs = draw_examples(1, 30, 3, np.float32)
    with LabelInspector(tmp_path / "out", num_class=3, **DENSE) as inspector:
        inspector.update(ids(30)[:20], make(labels[:20]), make(probs[:20]))
        inspector.update(ids(30)[20:], make(labels[20:]), pred_probs=make(probs[20:]))
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path, labels, probs))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_logits(dtype: str, tmp_path: Path) -> None:
    labels, probs = draw_examples(2, 30, 3)
    logits = np.log(probs + 1e-4).astype(dtype)
    with LabelInspector(tmp_path / "out", num_class=3, **DENSE) as inspector:
        inspector.update(ids(30), labels, logits=torch.tensor(logits))
    finish(tmp_path / "out")
    softmax = probabilities(logits)
    exact = np.exp(logits.astype("f8"))
    np.testing.assert_allclose(softmax, exact / exact.sum(1, keepdims=True), atol=1e-6)
    same_answers(tmp_path / "out", stored_run(tmp_path, labels, softmax))


def test_bfloat16_is_as_float32(tmp_path: Path) -> None:
    labels, probs = draw_examples(2, 30, 3)
    half = torch.tensor(probs).bfloat16()
    with LabelInspector(tmp_path / "out", num_class=3, **DENSE) as inspector:
        inspector.update(ids(30), labels, half)
    finish(tmp_path / "out")
    same_answers(tmp_path / "out", stored_run(tmp_path, labels, half.float().numpy()))


@pytest.mark.parametrize("adjust", [False, True])
def test_integers_with_a_scale_and_labels_that_are_missing(adjust: bool, tmp_path: Path) -> None:
    labels, probs = draw_examples(4, 30, 3)
    stored = np.rint(probs * 200).astype("u1")
    labels = np.where(np.arange(30) % 5 == 2, np.nan, labels)
    scaled = xr.DataArray(stored, dims=["example", "class"], attrs={"scale_factor": 1 / 200})
    score = {"method": "normalized_margin", "adjust_pred_probs": adjust}
    with LabelInspector(
        tmp_path / "out", num_class=3, quality_score_kwargs=score, **DENSE
    ) as inspector:
        inspector.update(ids(30), labels, scaled)
    finish(tmp_path / "out")
    group = zarr.open_group(tmp_path / "in", mode="w")
    group.create_array("labels", data=labels)
    group.create_array("pred_probs", data=stored, attributes={"scale_factor": 1 / 200})
    places = tmp_path / "in/labels", tmp_path / "in/pred_probs", tmp_path / "stored"
    audit_examples_zarr(*places, **score, **DENSE, progress=False, n_jobs=1)
    same_answers(tmp_path / "out", tmp_path / "stored")


def test_names_of_classes(tmp_path: Path) -> None:
    labels, probs = draw_examples(4, 30, 3)
    names = ["cat", "dog", "owl"]
    with LabelInspector(tmp_path / "out", num_class=3, class_names=names) as inspector:
        inspector.update(range(30), labels, probs)
    report = finish(tmp_path / "out")
    assert report.open().attrs["class_names"] == names
    assert {name for name, _ in report.worst_classes} <= set(names)


def test_rows_that_do_not_sum_to_one_are_told_of_then_and_when_it_is_finished(
    tmp_path: Path,
) -> None:
    labels, probs = draw_examples(4, 30, 3, np.float32)
    probs[17] *= 0.5
    with LabelInspector(tmp_path / "out", num_class=3, flush_examples=10) as inspector:
        inspector.update(ids(30)[20:], labels[20:], probs[20:])
        with pytest.warns(LabelQCWarning, match=r"the worst sum is 0\.5"):
            inspector.update(ids(30)[:20], labels[:20], probs[:20])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is told once
            inspector.update(ids(30)[:20], labels[:20], probs[:20])
    with pytest.warns(LabelQCWarning, match=r"the worst sum is 0\.5 at example 17"):
        finish(tmp_path / "out")


def good(count: int = 4) -> tuple[Any, Any, Any]:
    return (ids(count), *draw_examples(0, count, 3, np.float32))


def bad(place: int, value: float) -> np.ndarray:
    probs: np.ndarray = good()[2].copy()
    probs[place, 0] = value
    return probs


NAMES, LABELS, PROBS = good()
BAD = [
    (("a", LABELS, PROBS), {}, "ids: got 'a'"),
    ((NAMES[:3], LABELS, PROBS), {}, "ids: got 3 of them for 4 labels"),
    ((["a", "b", "a", "c"], LABELS, PROBS), {}, "ids: 'a' stands for more than one"),
    ((NAMES, LABELS), {}, "logits, pred_probs: got neither"),
    ((NAMES, LABELS, PROBS), {"logits": PROBS}, "logits, pred_probs: got both"),
    ((NAMES, LABELS, PROBS[:, :2]), {}, r"pred_probs: got shape \(4, 2\)"),
    ((NAMES, LABELS + 3, PROBS), {}, "outside 0..2, the first is .* at example '000'"),
    ((NAMES, LABELS + 0.5, PROBS), {}, "no whole numbers, .* at example '000'"),
    ((NAMES, LABELS, bad(2, np.nan)), {}, "pred_probs: class 0 is nan at example '002'"),
    ((NAMES, LABELS, bad(1, 7)), {}, "class 0 is 7 at example '001'.*; logits= is for logits"),
    ((NAMES, LABELS), {"logits": bad(2, np.nan)}, "logits: class 0 is nan at example '002'"),
    ((NAMES, LABELS), {"logits": PROBS[0]}, r"logits: got shape \(3,\), it must be \(n, K\)"),
    ((NAMES, LABELS), {"logits": LABELS[:, None]}, "logits: got dtype int64"),
    ((NAMES, LABELS), {"logits": PROBS[:, :2]}, r"logits: got shape \(4, 2\)"),
]


@pytest.mark.parametrize(("batch", "keywords", "message"), BAD)
def test_what_cannot_be_used_is_not_taken_in(
    batch: Any, keywords: Any, message: str, tmp_path: Path
) -> None:
    inspector = LabelInspector(tmp_path / "out", num_class=3)
    with pytest.raises(InputError, match=message):
        inspector.update(*batch, **keywords)
    assert inspector.missing(NAMES) == NAMES


def test_one_dtype_for_all(tmp_path: Path) -> None:
    inspector = LabelInspector(tmp_path / "out", num_class=3)
    inspector.update(NAMES, LABELS, PROBS)
    with pytest.raises(InputError, match=r"got dtype and scale \('<f8', None\) after \('<f4'"):
        inspector.update(["x", "y", "z", "u"], LABELS, PROBS.astype("f8"))
    inspector.close()
    with LabelInspector(tmp_path / "out", num_class=3) as other:
        other.update(["x", "y", "z", "u"], LABELS, PROBS.astype("f8"))
    with pytest.raises(InputError, match="all must be of one dtype"):
        finish_audit(tmp_path / "out", progress=False)


def test_two_passes_need_an_output_for_one(tmp_path: Path) -> None:
    inspector = LabelInspector(num_class=3, verbose=False)
    for call in (
        lambda: inspector.update(NAMES, LABELS, PROBS),
        inspector.flush,
        inspector.close,
        inspector.__enter__,
        lambda: inspector.missing(NAMES),
    ):
        with pytest.raises(InputError, match="output: this inspector has none"):
            call()
    other = LabelInspector(num_class=3, verbose=False)
    other.update_confident_thresholds(torch.tensor(LABELS), torch.tensor(PROBS))
    inspector.update_confident_thresholds(LABELS, PROBS)
    assert (
        other.get_confident_thresholds().tolist() == inspector.get_confident_thresholds().tolist()
    )
    one_pass = LabelInspector(tmp_path / "out", num_class=3, verbose=False)
    with pytest.raises(InputError, match="output: this inspector has none"):
        (one_pass + one_pass).flush()
    one_pass.flush()
    assert pickle.loads(pickle.dumps(one_pass)).missing(NAMES) == NAMES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flush_examples": 0}, "flush_examples: got 0"),
        ({"class_names": ["cat"]}, r"class_names: got \['cat'\], it must be 3 names"),
        ({"write_label_quality": "yes"}, "write_label_quality: got 'yes'"),
    ],
)
def test_arguments(arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        LabelInspector(tmp_path / "out", num_class=3, **arguments)


def test_an_output_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(OutputError, match=r"output: .* is a file; name a folder"):
        LabelInspector(tmp_path / "file", num_class=3)


def test_an_inspector_of_one_pass_is_none_of_two(tmp_path: Path) -> None:
    inspector = LabelInspector(tmp_path / "out", num_class=3)
    for call in (inspector.update_confident_thresholds, inspector.score_label_quality):
        with pytest.raises(InputError, match=r"in one pass: update\(\) takes"):
            call(LABELS, PROBS)
    for ask in (inspector.get_num_issues, inspector.get_label_issues, inspector.get_quality_scores):
        with pytest.raises(InputError, match=r"finish_audit\(\) makes the audit"):
            ask()


def test_an_example_that_a_sampler_pads_counts_once(tmp_path: Path) -> None:
    padded = np.array([0, 1, 2, 3, 1])
    with LabelInspector(tmp_path / "out", num_class=3) as inspector:
        inspector.update([NAMES[i] for i in padded], LABELS[padded], PROBS[padded])
        assert inspector.missing(["x", NAMES[0], "x"]) == ["x"]
    assert finish(tmp_path / "out").num_examples == 4
