"""Chunks that are not in the store: one warning where they may be meant so, an error elsewhere."""

from __future__ import annotations

import asyncio
import re
import warnings
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.segmentation import audit, find_label_issues, get_label_quality_scores
from tests.segmentation.containers import WHOLE, smallest_groups
from tests.strategies import make_case

CASE = make_case(80, (6, 6, 8), 4)
FUNCTIONS = {
    "find_label_issues": find_label_issues,
    "scores": get_label_quality_scores,
    "audit": audit,
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def stored(
    values: np.ndarray, chunks: tuple[int, ...], gone: Any = (), fill: Any = 0, **keywords: Any
) -> zarr.Array:
    array = zarr.create_array(
        MemoryStore(), data=values, chunks=chunks, fill_value=fill, config=WHOLE, **keywords
    )
    for place in gone:
        asyncio.run(array.store_path.store.delete("c/" + "/".join(map(str, place))))
    return array


def warned(function: Any, *arrays: Any, **arguments: Any) -> list[str]:
    """The warnings of computing an answer with a task for each chunk, and of nothing else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with smallest_groups(), dask.config.set(scheduler="sync"):
            answer = function(*arrays, **arguments)
            assert not caught
            answer.compute() if isinstance(answer, xr.Dataset) else dask.compute(answer)
    assert {w.category for w in caught} <= {LabelQCWarning}
    return [str(w.message) for w in caught]


@every_function
@pytest.mark.parametrize("chunks", [(1, 4, 6, 8), (1, 2, 3, 8), (4, 4, 6, 8)])
def test_labels_that_are_not_there(function: Any, chunks: Any) -> None:
    """Chunks of two images, which several tasks see: each is counted once."""
    labels = stored(CASE.labels, (2, 3, 8), [(0, 1, 0), (2, 0, 0), (2, 1, 0)])
    (message,) = warned(function, labels, stored(CASE.pred_probs, chunks))
    assert message == (
        "labels: 3 of 6 chunks are not in the store and read as class 0, in images 0 to 1, 4 to 5; "
        "if they are not meant to, write them, or ignore_index=0 leaves that class out"
    )


@pytest.mark.parametrize(
    ("fill", "images"), [(2, "image 3"), (3, "image 3"), (0, "image 3"), (True, "image 3")]
)
def test_the_class_that_they_read_as(fill: Any, images: Any) -> None:
    values = CASE.labels > 1 if fill is True else CASE.labels
    labels = stored(values, (1, 6, 8), [(3, 0, 0)], fill)
    probs = stored(CASE.pred_probs, (1, 4, 6, 8))
    (message,) = warned(audit, labels, probs)
    assert f"1 of 6 chunks are not in the store and read as class {int(fill)}, in {images};" in (
        message
    )
    assert warned(audit, labels, probs, ignore_index=int(fill)) == []


def test_floats_of_which_nothing_is_there() -> None:
    labels = stored(CASE.labels.astype("f4"), (1, 6, 8), [(3, 0, 0)], np.nan)
    probs = stored(CASE.pred_probs, (1, 4, 6, 8))
    assert warned(audit, labels, probs) == []


def test_fill_values_outside_of_the_classes() -> None:
    probs = stored(CASE.pred_probs, (1, 4, 6, 8))
    labels = stored(CASE.labels, (1, 6, 8), [(3, 0, 0)], 255)
    assert warned(audit, labels, probs, ignore_index=255) == []
    assert warned(audit, labels, probs, validate="none") == []
    with pytest.raises(InputError, match="the first is 255 at image 3"):
        warned(audit, labels, probs)


def test_all_of_many_images() -> None:
    labels = stored(np.zeros((1200, 1, 2), "u1"), (1, 1, 2), [(i, 0, 0) for i in range(1200)])
    probs = stored(np.full((1200, 2, 1, 2), 0.5, "f4"), (600, 2, 1, 2))
    (message,) = warned(audit, labels, probs)
    assert (
        "1200 of 1200 chunks are not in the store and read as class 0, in images 0 to 999 and "
        in (message)
    )


@every_function
@pytest.mark.parametrize("fill", [0, np.nan, 0.25])
@pytest.mark.parametrize("validate", ["full", "labels", "none"])
def test_predictions_of_which_no_class_is_there(function: Any, fill: Any, validate: Any) -> None:
    gone = [(3, k, 1, 0) for k in (0, 1)]
    probs = stored(CASE.pred_probs, (1, 2, 3, 8), gone, fill)
    labels = stored(CASE.labels, (1, 6, 8))
    message = (
        f"pred_probs: the chunk 'c/3/0/1/0' is not in the store and all classes read as "
        f"{float(fill)} at image 3, pixel (3, 0); check that the predictions are complete"
    )
    if validate == "full" and fill != 0.25:
        message = "at image 3, pixel (3, 0)"
    with pytest.raises(InputError, match=re.escape(message)):
        warned(function, labels, probs, validate=validate)


@pytest.mark.parametrize("shards", [None, (2, 4, 6, 8)])
def test_predictions_of_what_is_ignored_need_not_be_there(shards: Any) -> None:
    values = CASE.labels.copy()
    values[2:4] = 7
    gone = [(2, 0, 0, 0), (3, 0, 0, 0)] if shards is None else [(1, 0, 0, 0)]
    probs = stored(CASE.pred_probs, (1, 4, 6, 8), gone, shards=shards)
    labels = stored(values, (1, 6, 8))
    assert warned(audit, labels, probs, ignore_index=7) == []
    values[3, 4, 5] = 1
    with pytest.raises(InputError, match="image 3, pixel"):
        warned(audit, stored(values, (1, 6, 8)), probs, ignore_index=7)


@every_function
@pytest.mark.parametrize("some", [False, True])
def test_logits_that_are_not_there(function: Any, some: Any) -> None:
    """They would read as a class that is as likely as others."""
    gone = [(1, 1, 0, 0)] if some else [(1, 0, 0, 0), (1, 1, 0, 0)]
    logits = stored(np.log(CASE.pred_probs + 1e-3), (1, 2, 6, 8), gone)
    what = "2 of the classes read" if some else "all classes read"
    key = "c/1/1/0/0" if some else "c/1/0/0/0"
    message = (
        f"pred_probs: the chunk '{key}' is not in the store and {what} as 0.0 at image 1, pixel "
        "(0, 0); check that the predictions are complete"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        warned(function, stored(CASE.labels, (1, 6, 8)), logits, from_logits=True)


@every_function
def test_classes_that_are_not_there(function: Any) -> None:
    """Their zeros may be meant, as of a class that is never predicted."""
    probs = CASE.pred_probs.copy()
    probs[2:5, 1] = 0
    probs[2, 3] = 0
    probs /= probs.sum(1, keepdims=True)
    gone = [(2, 1, 0, 0), (3, 1, 0, 0), (4, 1, 0, 0), (2, 3, 0, 0)]
    labels = stored(CASE.labels, (1, 6, 8))
    messages = warned(function, labels, stored(probs, (1, 1, 6, 8), gone))
    assert messages == [
        "pred_probs: chunks of classes 1, 3 are not in the store and read as the fill value, in "
        "images 2 to 4; check that the predictions are complete"
    ]


def test_chunks_of_the_fill_value_that_are_there() -> None:
    probs = CASE.pred_probs.copy()
    probs[2:5, 1] = 0
    probs /= probs.sum(1, keepdims=True)
    labels = stored(np.zeros_like(CASE.labels), (2, 6, 8))
    assert warned(audit, labels, stored(probs, (1, 1, 6, 8))) == []


def test_nothing_that_is_there_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether chunks are there is seen as they are read."""

    async def exists(self: Any, key: Any) -> None:
        raise AssertionError(f"{key} was asked for")

    labels = stored(CASE.labels, (2, 6, 8), [(1, 0, 0)])
    probs = stored(CASE.pred_probs, (1, 4, 6, 8))
    monkeypatch.setattr(MemoryStore, "exists", exists)
    assert len(warned(audit, labels, probs)) == 1
