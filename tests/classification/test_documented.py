"""The examples in cleanlab's documentation, run with nothing changed but the import.

They are taken from the docstrings of the installed cleanlab. Its calls of Zarr 2, which Zarr 3 no
longer has, are the one other thing replaced.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cleanlab.experimental import label_issues_batched as documented

from dask_labelqc.experimental import label_issues_batched as ours
from tests.classification.examples import draw_examples

ZARR_2 = (
    (r"zarr\.convenience\.save_array\((.*?), (\w+)\)", r"zarr.create_array(\1, data=\2)"),
    (r"zarr\.convenience\.open\(", "zarr.open_array("),
)


def example_of(documented_object: Any) -> Any:
    """Return the source of the example in a docstring; all of its lines begin with >>>."""
    lines = re.findall(r"^ *>>> ?(.*)$", documented_object.__doc__, flags=re.MULTILINE)
    source = "\n".join(lines)
    for old, new in ZARR_2:
        source = re.sub(old, new, source)
    return source


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    labels, pred_probs = draw_examples(num_examples=25_000, num_classes=4, dtype=np.float32)
    return {
        "np": np,
        "labels": labels,
        "pred_probs": pred_probs,
        "labels_array": labels,
        "pred_probs_array": pred_probs,
        "LabelInspector": ours.LabelInspector,
        "find_label_issues_batched": ours.find_label_issues_batched,
    }


def expected(names: Any) -> Any:
    return documented.find_label_issues_batched(
        names["labels_array"], names["pred_probs_array"], verbose=False, return_mask=True
    )


def test_find_label_issues_batched(names: Any) -> None:
    source = example_of(documented.find_label_issues_batched)
    assert source.count("find_label_issues_batched(") == 2
    mask = expected(names)
    first, second = source.split("# This method also works with Zarr arrays:")
    for part in (first, second):
        exec(part, names)
        assert sorted(names.pop("issues")) == np.flatnonzero(mask).tolist()


def test_label_inspector(names: Any) -> None:
    source = example_of(documented.LabelInspector)
    by_hand, at_once = source.split("# If your `pred_probs`")
    exec(by_hand, names)
    other = documented.LabelInspector(num_class=4, verbose=False)
    other.update_confident_thresholds(names["labels"], names["pred_probs"])
    other.score_label_quality(names["labels"], names["pred_probs"])
    np.testing.assert_allclose(
        names["confident_thresholds"], other.get_confident_thresholds(), rtol=0, atol=1e-6
    )
    scores = names["lab"].get_quality_scores()
    np.testing.assert_array_equal(scores, other.get_quality_scores())
    ranked, their_ranked = names["indices_of_examples_with_issues"], other.get_label_issues()
    np.testing.assert_array_equal(scores[ranked], scores[their_ranked])
    exec("# " + at_once, names)
    found = names["indices_of_examples_with_issues"]
    assert sorted(found) == np.flatnonzero(expected(names)).tolist()


def test_every_public_name_has_the_same_arguments() -> None:
    for name in ("find_label_issues_batched", "LabelInspector"):
        theirs = inspect.signature(getattr(documented, name)).parameters
        mine = inspect.signature(getattr(ours, name)).parameters
        assert [(p.name, p.kind, p.default) for p in mine.values() if p.name in theirs] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ]
        own = [p for p in mine.values() if p.name not in theirs]
        assert not any(p.default is p.empty for p in own)
        assert bool(own) == (name == "LabelInspector")  # which writes records, too
    methods = [n for n in vars(documented.LabelInspector) if not n.startswith("_")]
    assert len(methods) == 6
    for method in methods:
        theirs = inspect.signature(getattr(documented.LabelInspector, method)).parameters
        mine = inspect.signature(getattr(ours.LabelInspector, method)).parameters
        assert [(p.name, p.kind, p.default) for p in mine.values()] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ]
