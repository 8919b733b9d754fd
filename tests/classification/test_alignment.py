"""Examples are paired by name and by label where both arrays have these."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pytest

from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.errors import InputError
from tests.segmentation.aligned import NAMED, Build, shuffled

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 3, 40)
PROBS = rng.multinomial(64, [1 / 3] * 3, 40) / 64
COORDS = {"example": np.arange(40) * 3}
DIMS = ("example", "class")

every_mix = pytest.mark.parametrize(
    ("of_labels", "of_probs"),
    [(one, other) for one in NAMED.values() for other in NAMED.values()],
)


@every_mix
@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
@pytest.mark.parametrize("order", [range(40), range(39, -1, -1), rng.permutation(40)])
def test_other_orders(
    of_labels: Build, of_probs: Build, axes: tuple[int, ...], order: Iterable[int]
) -> None:
    expected = find_label_issues_batched(LABELS, PROBS, verbose=False)
    labels = of_labels(LABELS, ("example",), COORDS)
    moved = shuffled(PROBS, DIMS, COORDS, {"example": list(order)}, axes)
    found = find_label_issues_batched(labels, of_probs(*moved), verbose=False)
    assert len(expected) > 3
    np.testing.assert_array_equal(found, expected)


@every_mix
def test_examples_that_differ(of_labels: Build, of_probs: Build) -> None:
    labels = of_labels(LABELS, ("example",), COORDS)
    other = of_probs(PROBS, DIMS, {"example": np.arange(40) * 3 + 3})
    message = (
        "pred_probs: the labels along 'example' differ from those of labels: 1 of 40 that labels "
        "has are not in pred_probs, the first is 0; 1 of 40 that pred_probs has are not in labels, "
        "the first is 120; select"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        find_label_issues_batched(labels, other, verbose=False)
