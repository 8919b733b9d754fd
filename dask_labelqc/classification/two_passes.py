"""Thresholds, scores and issues of examples in two passes over their batches."""

from __future__ import annotations

import copy
import os
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from dask_labelqc.arguments import check_flag, number_of_classes, number_of_threads
from dask_labelqc.classification.batches import batch_of, scanned
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.saved import SavedState
from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from dask_labelqc.classification.validity import warn_of_sum
from dask_labelqc.errors import InputError
from dask_labelqc.typing import Floats, Ints

__all__ = ["TwoPassInspector"]


class TwoPassInspector:
    """Learn confident thresholds, score labels and count their issues; see `LabelInspector`."""

    def __init__(
        self,
        *,
        num_class: int,
        store_results: bool = True,
        verbose: bool = True,
        quality_score_kwargs: Mapping[str, Any] | None = None,
        num_issue_kwargs: Mapping[str, Any] | None = None,
        n_jobs: int | None = 1,
    ) -> None:
        self.num_class = number_of_classes("num_class", num_class)
        check_flag("store_results", store_results)
        check_flag("verbose", verbose)
        self.store_results = bool(store_results)
        self.verbose = bool(verbose)
        self.n_jobs = number_of_threads(n_jobs)
        self.examples_processed_quality = 0
        self._options = ScoreOptions.of(quality_score_kwargs, num_issue_kwargs)
        self._parts: dict[str, ExampleStatistics] = {}
        self._statistics = ExampleStatistics.nothing(self.num_class)
        self._own_part: tuple[str, int] | None = None
        self._counts = IssueCounts.nothing(self.num_class)
        self._scores: list[Floats] = []
        self._warned = False
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: all but the lock, and nothing that still grows.

        A copy begins a part of its own with what it learns, so parts of one id differ only in how
        much of it each knows.
        """
        with self._lock:
            grown = {"_scores": [*self._scores], "_parts": {**self._parts}, "_own_part": None}
            state = {**vars(self), **grown}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def _learn(self, part: str, statistics: ExampleStatistics) -> None:
        """Take what is known of a part of the first pass, unless as much of it is known here."""
        known = self._parts.get(part, ExampleStatistics.nothing(self.num_class))
        if statistics.num_examples > known.num_examples:
            self._parts[part] = statistics
            self._statistics = self._statistics + statistics.beyond(known)

    @property
    def examples_processed_thresh(self) -> int:
        """How many examples the thresholds are based on."""
        return self._statistics.num_examples

    def update_confident_thresholds(self, labels: Any, pred_probs: Any) -> None:
        """Learn from the labels (n,) and predictions (n, K) of one more batch."""
        self._check_passes()
        batch = batch_of(labels, pred_probs, self.num_class)
        if batch is None:
            return
        options = self._options.scan(float("-inf"))
        statistics, _ = scanned(batch, self.examples_processed_thresh, options, self.n_jobs)
        self._warn(statistics, batch.form.sum_tolerance)
        with self._lock:
            if self._own_part is None or self._own_part[1] != os.getpid():  # a fork is a copy, too
                self._own_part = uuid.uuid4().hex, os.getpid()
            part = self._own_part[0]
            known = self._parts.get(part, ExampleStatistics.nothing(self.num_class))
            self._learn(part, known + statistics)

    def score_label_quality(
        self, labels: Any, pred_probs: Any, *, update_num_issues: bool = True
    ) -> Floats:
        """Return the label quality scores (n,) of a batch, and count its issues.

        Parameters
        ----------
        labels, pred_probs
            (n,) and (n, K).
        update_num_issues
            Also count the issues, by the thresholds as they are now.

        Returns
        -------
        numpy.ndarray
            NaN where an example takes part in nothing.

        Raises
        ------
        InputError
            No thresholds are known, or the batch cannot be used.
        """
        check_flag("update_num_issues", update_num_issues)
        thresholds = self.get_confident_thresholds(silent=True)
        batch = batch_of(labels, pred_probs, self.num_class)
        if batch is None:
            return np.zeros(0)
        given = thresholds if self._options.reads_twice else None
        start, options = self.examples_processed_quality, self._options.scan(float("inf"), given)
        statistics, found = scanned(batch, start, options, self.n_jobs)
        self._warn(statistics, batch.form.sum_tolerance)
        found = found.adjusted(thresholds)
        scores = np.full(batch.labels.size, np.nan, found.score.dtype)
        scores[found.position] = found.score
        with self._lock:
            if update_num_issues:
                columns = found.given, found.predicted, found.confidence
                self._counts = self._counts + IssueCounts.of(*columns, thresholds)
            self.examples_processed_quality += scores.size
            if self.store_results:
                self._scores.append(scores)
        return scores

    def get_confident_thresholds(self, silent: bool = False) -> Floats:
        """Return the confident thresholds, float64 (K,), of the examples seen so far.

        Raises
        ------
        InputError
            None has been seen.
        """
        self._check_passes()
        if self.examples_processed_thresh < 1:
            raise InputError(
                "confident thresholds: no examples have been seen; "
                "call update_confident_thresholds() first"
            )
        self._say("used for the confident thresholds", self.examples_processed_thresh, silent)
        return self._statistics.thresholds()

    def get_num_issues(self, silent: bool = False) -> int:
        """Return the estimated number of label issues among the examples scored so far.

        Raises
        ------
        InputError
            None has been scored.
        """
        self._check_scored()
        self._say("whose labels were scored", self.examples_processed_quality, silent)
        return self._counts.num_issues(self._options.calibrated)

    def get_quality_scores(self) -> Floats:
        """Return the label quality scores of all examples, in the order they were scored.

        Raises
        ------
        InputError
            They were not stored.
        """
        self._check_passes()
        if not self.store_results:
            raise InputError(
                "store_results: it is False, so scores are only returned by "
                "score_label_quality(), batch by batch"
            )
        with self._lock:
            scores = [*self._scores]
        return np.concatenate(scores) if scores else np.zeros(0)

    def get_label_issues(self) -> Ints:
        """Return the indices of the label issues: the lowest scores first, ties by index.

        Those are the `get_num_issues` examples with the lowest scores.

        Raises
        ------
        InputError
            The scores were not stored, or there are none.
        """
        with self._lock:
            scores, count = self.get_quality_scores(), self.get_num_issues()
        order = np.argsort(scores, kind="stable")  # NaN last: those take part in nothing
        return order[: min(count, np.count_nonzero(~np.isnan(scores)))]

    def __add__(self, other: Self) -> Self:
        """Return the inspector of the batches of both, those of the left one first.

        What both have learned from one and the same first pass counts once.

        Raises
        ------
        InputError
            The two were made with different arguments.
        """
        if not isinstance(other, TwoPassInspector):
            return NotImplemented
        mine, theirs = self._settings(), other._settings()
        if mine != theirs:
            raise InputError(f"other: its settings are {theirs}, they must be {mine}")
        one, other = copy.copy(self), copy.copy(other)  # each as it is at one moment
        for part, statistics in other._parts.items():
            one._learn(part, statistics)
        one._counts = one._counts + other._counts
        one._scores += other._scores
        one._warned |= other._warned
        one.examples_processed_quality += other.examples_processed_quality
        return one

    def save(self, path: str | Path) -> None:
        """Write what two passes know to a file."""
        state = copy.copy(self)  # as it is at one moment
        scores = np.concatenate([np.zeros(0, np.float32), *state._scores])
        number = state.examples_processed_quality
        SavedState(state._settings(), state._parts, state._counts, number, scores).write(path)

    @classmethod
    def load(cls, path: str | Path, *, verbose: bool = True, n_jobs: int | None = 1) -> Self:
        """Return the inspector of two passes that was saved to a file.

        Raises
        ------
        InputError
            The file does not hold one.
        """
        saved = SavedState.read(path)
        try:
            inspector = cls(**saved.settings, verbose=verbose, n_jobs=n_jobs)
        except (InputError, TypeError) as error:
            raise InputError(f"path: {str(path)!r} holds no LabelInspector: {error}") from error
        for part, statistics in saved.parts.items():
            inspector._learn(part, statistics)
        inspector._counts = saved.counts
        inspector.examples_processed_quality = saved.num_scored
        inspector._scores = [saved.scores] if saved.scores.size else []
        return inspector

    def _settings(self) -> dict[str, Any]:
        options = self._options
        return {
            "num_class": self.num_class,
            "store_results": self.store_results,
            "quality_score_kwargs": {
                "method": options.method,
                "adjust_pred_probs": options.adjust_pred_probs,
            },
            "num_issue_kwargs": {"estimation_method": options.estimation_method},
        }

    def _warn(self, statistics: ExampleStatistics, tolerance: float) -> None:
        """Warn once of probabilities that do not sum to one."""
        with self._lock:
            if not self._warned:
                self._warned = warn_of_sum(statistics.worst_sum, tolerance, stacklevel=4)

    def _check_passes(self) -> None:
        """Raise InputError if this inspector is not for two passes."""

    def _check_scored(self) -> None:
        self._check_passes()
        if self.examples_processed_quality < 1:
            raise InputError(
                "label issues: no labels have been scored; call score_label_quality() first"
            )

    def _say(self, what: str, count: int, silent: bool) -> None:
        if self.verbose and not silent:
            sys.stderr.write(f"number of examples {what}: {count:,}\n")
