"""Calls on arrays in memory say how far they are once they last, and why the first one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from dask_labelqc import progress
from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.kernels import fixed_point
from dask_labelqc.method.calls import call_progress
from dask_labelqc.segmentation import find_label_issues, get_label_quality_scores
from tests.strategies import make_case

CASE = make_case(1)
COMPILING = "compiling kernels: this takes some seconds, once\n"


class Timer:
    """A clock that the test winds."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self.seconds, self.function = seconds, function

    def start(self) -> None: ...

    def cancel(self) -> None: ...

    def join(self) -> None: ...


class TimeIsOver(Timer):
    def start(self) -> None:
        assert self.seconds == 2
        self.function()


def in_segmentation(verbose: bool) -> None:
    find_label_issues(CASE.labels, CASE.pred_probs, verbose=verbose)


def scores(verbose: bool) -> None:
    get_label_quality_scores(CASE.labels, CASE.pred_probs, verbose=verbose)


def in_classification(verbose: bool) -> None:
    probs = np.moveaxis(CASE.pred_probs, 1, -1).reshape(-1, CASE.pred_probs.shape[1])
    find_label_issues_batched(CASE.labels.reshape(-1), probs, verbose=verbose)


@pytest.mark.parametrize("call", [in_segmentation, scores, in_classification])
@pytest.mark.parametrize("timer", [Timer, TimeIsOver])
def test_progress_of_calls_that_last(
    call: Callable[[bool], None],
    timer: type[Timer],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress.threading, "Timer", timer)
    call(False)
    assert capsys.readouterr() == ("", "")
    call(True)
    output, shown = capsys.readouterr()
    assert output == ""
    assert bool(shown) == (timer is TimeIsOver)
    if shown:
        assert shown.splitlines()[0].endswith(" blocks")


@pytest.mark.parametrize("verbose", [True, False])
def test_compiling_is_told(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def half(x: Any) -> Any:
        return x / 2

    half.__module__ = fixed_point.__name__
    kernel = numba.njit(half)  # nothing is kept for the next run
    with call_progress(verbose):
        kernel(1)
        kernel(1.0)
    with call_progress(verbose):
        kernel(3)
    assert capsys.readouterr() == ("", COMPILING if verbose else "")
