"""Hypothesis strategies that the tests share: small datasets of every kind, and their chunks.

The probabilities of a pixel are multiples of a power of two that sum to exactly one, so that
sums of them are exact in any order and every answer can be compared bit by bit. Coarse ones tie.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

__all__ = [
    "Case",
    "by_turns",
    "cases",
    "chunkings",
    "examples",
    "label_dtypes",
    "make_case",
    "prediction_dtypes",
]

USUAL_EXAMPLES = 20
"""Of a property, where it does not say otherwise; other profiles have more."""


SIDES = st.sampled_from([1, 2, 3, 4, 6, 7, 11])
SHAPES = st.one_of(
    st.tuples(SIDES),
    st.tuples(SIDES, SIDES),
    st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 3),
)
CLASSES = st.one_of(st.integers(2, 6), st.sampled_from([9, 21, 256, 257, 300]))
LABELS = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i2", ">u4", ">i8")
PREDICTIONS = ("f2", "f4", "f8", "u1", "u2", ">f4", ">u2")

label_dtypes = st.sampled_from([np.dtype(d) for d in LABELS])
prediction_dtypes = st.sampled_from([np.dtype(d) for d in PREDICTIONS])


def examples(usual: int) -> settings:
    """Let a property have so many examples as a rule, and more where all have more."""
    return settings(max_examples=usual * settings().max_examples // USUAL_EXAMPLES)


def by_turns(**axes: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Run a test with every combination of values, those of the last name by turns.

    So each value meets each of another name; profiles of more examples have all combinations.
    """
    sizes = [range(len(values)) for values in axes.values()]
    turns = len(sizes[-1]) if settings().max_examples == USUAL_EXAMPLES else 1
    taken = [places for places in itertools.product(*sizes) if sum(places) % turns == 0]
    items = [list(values.items()) for values in axes.values()]
    chosen = [[of[i] for of, i in zip(items, places, strict=True)] for places in taken]
    return pytest.mark.parametrize(
        tuple(axes),
        [tuple(value for _, value in pairs) for pairs in chosen],
        ids=["-".join(name for name, _ in pairs) for pairs in chosen],
    )


@dataclass(frozen=True)
class Case:
    """A dataset and how to audit it."""

    labels: np.ndarray
    pred_probs: np.ndarray
    ignore_index: tuple[int, ...] = ()
    downsample: int = 1
    label_downsample: str = "mean"

    @property
    def arguments(self) -> dict:
        return {
            "ignore_index": self.ignore_index,
            "downsample": self.downsample,
            "label_downsample": self.label_downsample,
        }


def make_probabilities(
    rng: np.random.Generator, shape: tuple[int, ...], num_classes: int, resolution: int
) -> np.ndarray:
    """float64 (N, K, *spatial), multiples of 1 / resolution."""
    likely = rng.dirichlet(np.full(num_classes, 0.5), size=shape)
    counts = rng.multinomial(resolution, likely)
    return np.moveaxis(counts / resolution, -1, 1)


def make_case(
    seed: int = 0,
    shape: tuple[int, ...] = (3, 6, 8),
    num_classes: int = 4,
    *,
    label_dtype: str | np.dtype = "i8",
    dtype: str | np.dtype = "f4",
    resolution: int = 2**20,
    mistakes: float = 0.4,
    ignored: tuple[int, ...] = (),
    void: float = 0.0,
    downsample: int = 1,
    label_downsample: str = "mean",
) -> Case:
    """A dataset whose labels are the predicted class but for a fraction of mistakes."""
    rng = np.random.default_rng(seed)
    dtype, label_dtype = np.dtype(dtype), np.dtype(label_dtype)
    if dtype.kind == "u":
        resolution = np.iinfo(dtype.newbyteorder("=")).max
    elif dtype.itemsize == 2:
        resolution = min(resolution, 2**10)
    probs = make_probabilities(rng, shape, num_classes, resolution)
    stored = np.rint(probs * resolution) if dtype.kind == "u" else probs
    most = 2 if label_dtype.kind == "b" else int(np.iinfo(label_dtype.newbyteorder("=")).max) + 1
    most = min(most, num_classes)
    random = rng.integers(0, most, shape)
    labels = np.where(rng.random(shape) < mistakes, random, probs.argmax(axis=1) % most)
    if ignored:
        labels = np.where(rng.random(shape) < void, rng.choice(ignored, shape), labels)
    return Case(
        labels.astype(label_dtype), stored.astype(dtype), ignored, downsample, label_downsample
    )


@st.composite
def cases(draw: st.DrawFn, downsampling: bool = True) -> Case:
    """Datasets of every shape and dtype; ignored labels lie inside and outside of the classes."""
    label_dtype = draw(label_dtypes)
    num_classes = draw(CLASSES)
    spatial = draw(SHAPES if num_classes < 100 else st.tuples(st.integers(1, 4)))
    factor = draw(st.sampled_from([1, 2, 3])) if downsampling else 1
    kinds = [(), (0,), (num_classes - 1, 1)]
    if label_dtype.kind != "b":
        kinds += [(127,)] if num_classes <= 127 else []
        kinds += [(-1,), (-100, 2)] if label_dtype.kind == "i" else []
        kinds += [(255, 0)] if label_dtype.kind == "u" and num_classes <= 255 else []
    fitting = [k for k in kinds if all(_fits(v, label_dtype) for v in k)]
    return make_case(
        draw(st.integers(0, 2**16)),
        (draw(st.sampled_from([1, 2, 5])), *(n * factor for n in spatial)),
        num_classes,
        label_dtype=label_dtype,
        dtype=draw(prediction_dtypes),
        resolution=draw(st.sampled_from([1, 2, 8, 64, 2**20])),
        mistakes=draw(st.sampled_from([0.0, 0.2, 1.0])),
        ignored=draw(st.sampled_from(fitting)),
        void=draw(st.sampled_from([0.1, 0.6, 1.0])),
        downsample=factor,
        label_downsample=draw(st.sampled_from(["mean", "majority"])),
    )


def _fits(value: int, dtype: np.dtype) -> bool:
    if dtype.kind == "b":
        return value in (0, 1)
    info = np.iinfo(dtype.newbyteorder("="))
    return bool(info.min <= value <= info.max)


@st.composite
def chunkings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Any way to cut an array, at least one piece along each axis."""
    chunks = []
    for n in shape:
        ends = draw(st.sets(st.integers(1, max(n - 1, 1)), max_size=3)) - {n}
        chunks.append(tuple(int(c) for c in np.diff([0, *sorted(ends), n])))
    return tuple(chunks)
