"""Label issues of examples in slow, obvious NumPy, written from the text of the method."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from tests.reference import VOID, class_sums, confident_thresholds, decode, predicted

SLACK = 1e-6


def codes_of(labels: np.ndarray) -> np.ndarray:
    """Classes, -1 where a label is masked or NaN."""
    return np.array(
        [
            VOID if masked or value != value else int(value)
            for value, masked in zip(
                np.ma.getdata(labels).tolist(), np.ma.getmaskarray(labels), strict=True
            )
        ]
    )


def adjusted(
    row: np.ndarray, thresholds: np.ndarray, summed: Callable[[np.ndarray], Any]
) -> np.ndarray:
    total = ordered_sum(row)
    shift = thresholds.max() * len(row) - summed(thresholds)
    return (row - thresholds + thresholds.max()) / (total + shift)


def ordered_sum(row: np.ndarray) -> float:
    """The sum in the order that is the same everywhere: eight partial sums."""
    values = [float(value) for value in row]
    whole = len(values) // 8 * 8
    t = [0.0] * 8
    for k in range(whole):
        t[k % 8] += values[k]
    total = ((t[0] + t[4]) + (t[1] + t[5])) + ((t[2] + t[6]) + (t[3] + t[7]))
    for value in values[whole:]:
        total += value
    return total


def score(row: np.ndarray, code: int, method: str, adjust: bool, thresholds: np.ndarray) -> float:
    if adjust:
        # The sum of the thresholds is NumPy's, or one of compiled code, from left to right.
        summed = np.sum if method == "self_confidence" else lambda t: sum(t.tolist())
        row = adjusted(row, thresholds, summed)
    own, others = row[code], np.delete(row, code)
    if method == "self_confidence":
        return float(own)
    if method == "normalized_margin":
        if adjust:
            return float((own - others.max() + 1.0) / 2.0)
        return float((own - others.max() + row.dtype.type(1)) / row.dtype.type(2))
    entropy = 0.0
    for p in row:
        entropy -= float(p) * math.log(float(p)) if 0 < p < 1 else 0.0
    ratio = entropy / math.log(len(row)) / max(float(own), 1e-6)
    return math.log(ratio + 1.0) / max(ratio, 1e-6)


def find_label_issues(
    labels: np.ndarray,
    pred_probs: np.ndarray,
    *,
    method: str = "self_confidence",
    adjust: bool = False,
    calibrated: bool = False,
) -> np.ndarray:
    """The indices of the issues, the lowest score first."""
    codes = codes_of(labels)
    codes[np.ma.getmaskarray(pred_probs).any(axis=1)] = VOID
    stored = np.ma.getdata(pred_probs)
    (there,) = np.nonzero(codes != VOID)
    rows, given = decode(stored[there]), codes[there]
    classes = predicted(rows)
    num_classes = rows.shape[1]
    own = rows[np.arange(len(rows)), given]
    highest = rows.max(axis=1, initial=0)
    thresholds = confident_thresholds(*class_sums(own, given, num_classes))
    confident = [
        float(m) >= float(thresholds[a]) - SLACK for m, a in zip(highest, classes, strict=True)
    ]
    count = Fraction(0)
    for k in range(num_classes):
        in_class = [c for c, y in zip(confident, given, strict=True) if y == k]
        wrong = sum(
            c and y == k and a != k for c, y, a in zip(confident, given, classes, strict=True)
        )
        if not calibrated:
            count += wrong
        elif wrong:
            count += Fraction(wrong * len(in_class)) / sum(in_class)
    scores = [score(r, y, method, adjust, thresholds) for r, y in zip(rows, given, strict=True)]
    ranked = sorted(range(len(rows)), key=lambda i: (scores[i], i))[: round(count)]
    issues = []
    for i in ranked:
        raised = rows[i].copy()
        raised[given[i]] += rows.dtype.type(SLACK)
        if raised.argmax() != given[i]:
            issues.append(there[i])
    return np.array(issues, np.int64)
