"""The method of the design page in slow, obvious NumPy, written from its text.

Probabilities are (N, K, *spatial), labels and codes (N, *spatial); the code of a pixel that takes
part in nothing is -1. Sums are exact (fractions), so there is no order of additions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

VOID = -1
LOWEST_THRESHOLD = 2e-6
SLACK = 1e-6
UNITS = 2**32


def decode(stored: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Stored predictions as float32 or float64; the largest integer means 1 without a scale."""
    if stored.dtype.kind == "u":
        largest = {1: 255, 2: 65535}[stored.dtype.itemsize]
        values = stored.astype(np.float64)
        return (values / largest if scale is None else values * scale).astype(np.float32)
    return stored.astype(np.float64 if stored.dtype.itemsize == 8 else np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the classes, in float64."""
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(logits.dtype)


def encode(labels: np.ndarray, num_classes: int, ignore_index: Sequence[int] = ()) -> np.ndarray:
    """Class codes of labels that are all valid or ignored."""
    codes = np.empty(labels.shape, np.int64)
    for place in np.ndindex(labels.shape):
        label = int(labels[place])
        codes[place] = VOID if label in ignore_index else label
        assert label in ignore_index or 0 <= label < num_classes
    return codes


def predicted(probs: np.ndarray) -> np.ndarray:
    """The most probable class, the lowest on ties."""
    classes = np.empty((probs.shape[0], *probs.shape[2:]), np.int64)
    for place in np.ndindex(classes.shape):
        row = list(probs[(place[0], slice(None), *place[1:])])
        classes[place] = row.index(max(row))
    return classes


def at_class(probs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The probability of the given classes; NaN where there is none."""
    values = np.full(classes.shape, np.nan, probs.dtype)
    for place in np.ndindex(classes.shape):
        if classes[place] != VOID:
            values[place] = probs[(place[0], classes[place], *place[1:])]
    return values


def class_sums(scores: np.ndarray, codes: np.ndarray, num_classes: int) -> tuple[list, list]:
    """Sums of self-confidence as integers, in units of 2**-32, and counts."""
    sums, counts = [0] * num_classes, [0] * num_classes
    for score, code in zip(scores.ravel().tolist(), codes.ravel().tolist(), strict=True):
        if code != VOID:
            sums[code] += round(Fraction(score) * UNITS)
            counts[code] += 1
    return sums, counts


def confident_thresholds(sums: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    means = [float(Fraction(s, c * UNITS)) if c else 0.0 for s, c in zip(sums, counts, strict=True)]
    return np.maximum(means, LOWEST_THRESHOLD)


def off_diagonal(
    codes: np.ndarray, classes: np.ndarray, confidence: np.ndarray, thresholds: np.ndarray
) -> int:
    """How many pixels are confidently predicted to be of another class."""
    return sum(
        y not in (VOID, a) and float(m) >= float(thresholds[a]) - SLACK
        for y, a, m in zip(codes.ravel(), classes.ravel(), confidence.ravel(), strict=True)
    )


def select(scores: np.ndarray, codes: np.ndarray, classes: np.ndarray, n: int) -> np.ndarray:
    """The n lowest scores; on ties those that disagree first, then the lowest flat index."""
    flat = zip(scores.ravel().tolist(), codes.ravel(), classes.ravel(), strict=True)
    order = sorted((s, y == a, i) for i, (s, y, a) in enumerate(flat) if y != VOID)
    mask = np.zeros(scores.size, bool)
    mask[[i for _, _, i in order[:n]]] = True
    return mask.reshape(scores.shape)


def cells(shape: tuple[int, ...], factor: int) -> Iterator[tuple[tuple[int, ...], list]]:
    """Each cell of the small grid with the places of its pixels."""
    for cell in np.ndindex(shape[0], *(n // factor for n in shape[1:])):
        ranges = [range(c * factor, (c + 1) * factor) for c in cell[1:]]
        yield cell, [(cell[0], *pixel) for pixel in itertools.product(*ranges)]


def downsample(
    codes: np.ndarray, probs: np.ndarray, factor: int, how: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and probabilities of the cells, of the pixels that take part."""
    small = (codes.shape[0], *(n // factor for n in codes.shape[1:]))
    small_codes = np.full(small, VOID)
    small_probs = np.zeros((small[0], probs.shape[1], *small[1:]), probs.dtype)
    for cell, pixels in cells(codes.shape, factor):
        valid = [place for place in pixels if codes[place] != VOID]
        if not valid:
            continue
        labels = [int(codes[place]) for place in valid]
        if how == "majority":
            small_codes[cell] = min(set(labels), key=lambda k: (-labels.count(k), k))
        else:
            small_codes[cell] = round(Fraction(sum(labels), len(labels)))
        rows = [probs[(place[0], slice(None), *place[1:])].astype(np.float64) for place in valid]
        means = [math.fsum(column) for column in zip(*rows, strict=True)]
        small_probs[(cell[0], slice(None), *cell[1:])] = np.array(means) / math.fsum(means)
    return small_codes, small_probs


def repeat(mask: np.ndarray, factor: int) -> np.ndarray:
    for axis in range(1, mask.ndim):
        mask = mask.repeat(factor, axis)
    return mask


def softmin(scores: np.ndarray, temperature: float = 0.1) -> float:
    """Of the scores of one image that are not NaN; NaN if there is none."""
    given = [float(s) for s in scores.ravel() if not np.isnan(s)]
    if not given:
        return math.nan
    weights = [math.exp((min(given) - s) / temperature) for s in given]
    return math.fsum(s * w for s, w in zip(given, weights, strict=True)) / math.fsum(weights)


@dataclass(frozen=True)
class Audit:
    """Every output of an audit, and what they were derived from."""

    label_issues: np.ndarray
    pixel_scores: np.ndarray
    predicted_label: np.ndarray
    image_score: np.ndarray
    image_issue_fraction: np.ndarray
    image_issue_count: np.ndarray
    confident_threshold: np.ndarray
    class_count: np.ndarray
    class_issue_count: np.ndarray
    issue_matrix: np.ndarray
    num_selected: int


def audit(
    labels: np.ndarray,
    pred_probs: np.ndarray,
    *,
    ignore_index: Sequence[int] = (),
    temperature: float = 0.1,
    from_logits: bool = False,
    downsample: int = 1,
    label_downsample: str = "mean",
    scale: float | None = None,
) -> Audit:
    num_classes = pred_probs.shape[1]
    probs = decode(pred_probs, scale)
    if from_logits:
        probs = softmax(probs)
    codes = encode(labels, num_classes, ignore_index)
    classes, scores = predicted(probs), at_class(probs, codes)
    small = codes, probs
    if downsample > 1:
        small = _downsample(codes, probs, downsample, label_downsample)
    thresholds, num_selected, selected = _selected(*small)
    issues = repeat(selected, downsample) & (codes != VOID) & (codes != classes)
    images = range(labels.shape[0])
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (codes[issues], classes[issues]), 1)
    issue_count = np.array([issues[i].sum() for i in images])
    valid_count = np.array([(codes[i] != VOID).sum() for i in images])
    return Audit(
        label_issues=issues,
        pixel_scores=scores,
        predicted_label=classes,
        image_score=np.array([softmin(scores[i], temperature) for i in images]),
        image_issue_fraction=np.array(
            [c / v if v else np.nan for c, v in zip(issue_count, valid_count, strict=True)]
        ),
        image_issue_count=issue_count,
        confident_threshold=thresholds,
        class_count=np.array([(codes == k).sum() for k in range(num_classes)]),
        class_issue_count=matrix.sum(axis=1),
        issue_matrix=matrix,
        num_selected=num_selected,
    )


_downsample = downsample


def _selected(codes: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    classes, scores = predicted(probs), at_class(probs, codes)
    thresholds = confident_thresholds(*class_sums(scores, codes, probs.shape[1]))
    count = off_diagonal(codes, classes, at_class(probs, classes), thresholds)
    return thresholds, count, select(scores, codes, classes, count)


def issues_from_scores(
    image_scores: Any, pixel_scores: Any = None, threshold: float = 0.1
) -> np.ndarray:
    if pixel_scores is not None:
        return np.asarray(pixel_scores) < threshold
    scores = np.asarray(image_scores).tolist()
    below = [(score, i) for i, score in enumerate(scores) if score < threshold]
    return np.array([i for _, i in sorted(below)], int)
