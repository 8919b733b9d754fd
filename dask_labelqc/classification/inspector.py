"""Find mislabeled examples batch by batch, over plain arrays."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from dask_labelqc.classification.facts import (
    ExampleStatistics,
    IssueCounts,
    RegionFacts,
    scan_region,
)
from dask_labelqc.classification.options import ExampleFormat, ScoreOptions, check_format
from dask_labelqc.classification.validity import warn_of_sum
from dask_labelqc.errors import InputError
from dask_labelqc.typing import AnyArray, Floats, Ints

__all__ = ["LabelInspector"]


class LabelInspector:
    """Learn confident thresholds, score labels and count their issues, batch by batch.

    Two passes: `update_confident_thresholds` with every batch (or enough of them to know each
    class), then `score_label_quality` with every batch. Agrees with
    ``cleanlab.experimental.label_issues_batched.LabelInspector``, but sums are exact, so the
    order and the size of the batches change nothing.

    Inspectors of different batches add up, so each worker of a cluster can run one: after the
    first pass ``functools.reduce(operator.add, inspectors)`` knows the thresholds of all batches.
    For the second pass every worker takes a copy of it (`copy.deepcopy`, or what a scheduler
    sends), and these add up in turn.

    The state has a fixed size, a few numbers for each class, and a score for each example with
    `store_results`.

    Parameters
    ----------
    num_class
        K.
    store_results
        Keep the scores, for `get_quality_scores` and `get_label_issues`.
    verbose
        Say on the standard error how many examples an answer is based on.
    quality_score_kwargs, num_issue_kwargs
        As in `find_label_issues_batched`.
    n_jobs
        Threads for each batch; None: one for each core.

    Raises
    ------
    InputError
        An argument or a batch cannot be used.

    See Also
    --------
    find_label_issues_batched : both passes in one call, which reads the predictions once.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([0, 0, 1, 1, 0])
    >>> certain = np.array([0.9, 0.8, 0.1, 0.2, 0.05])
    >>> pred_probs = np.stack([certain, 1 - certain], axis=1)
    >>> lab = LabelInspector(num_class=2, verbose=False)
    >>> lab.update_confident_thresholds(labels, pred_probs)
    >>> lab.score_label_quality(labels, pred_probs)
    array([0.9 , 0.8 , 0.9 , 0.8 , 0.05])
    >>> lab.get_label_issues()
    array([4])
    """

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
        if isinstance(num_class, bool) or not isinstance(num_class, int | np.integer):
            raise InputError(f"num_class: got {num_class!r}, it must be an integer of 2 or more")
        if num_class < 2:
            raise InputError(f"num_class: got {num_class!r}, it must be an integer of 2 or more")
        if n_jobs is not None and n_jobs < 1:
            raise InputError(f"n_jobs: got {n_jobs!r}, it must be an integer of 1 or more")
        self.num_class = int(num_class)
        self.store_results = store_results
        self.verbose = verbose
        self.n_jobs = n_jobs or os.cpu_count() or 1
        self.examples_processed_quality = 0
        self._options = ScoreOptions.of(quality_score_kwargs, num_issue_kwargs)
        self._statistics = ExampleStatistics.nothing(self.num_class)
        self._counts = IssueCounts.nothing(self.num_class)
        self._scores: list[Floats] = []
        self._warned = False

    @property
    def examples_processed_thresh(self) -> int:
        """How many examples the thresholds are based on."""
        return self._statistics.num_examples

    def update_confident_thresholds(self, labels: Any, pred_probs: Any) -> None:
        """Learn from the labels (n,) and predictions (n, K) of one more batch."""
        region = self._scan(labels, pred_probs, self.examples_processed_thresh, float("-inf"))
        if region is not None:
            self._statistics = self._statistics + region.statistics

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

        Raises
        ------
        InputError
            No thresholds are known, or the batch cannot be used.
        """
        thresholds = self.get_confident_thresholds(silent=True)
        given = thresholds if self._options.reads_twice else None
        start = self.examples_processed_quality
        region = self._scan(labels, pred_probs, start, float("inf"), given)
        if region is None:
            return np.zeros(0)
        facts = region.facts
        if self._options.rescored and given is None:
            facts = facts.adjusted(thresholds)
        if update_num_issues:
            self._counts = self._counts + facts.counts(thresholds, self._options.calibrated)
        self.examples_processed_quality += facts.score.size
        if self.store_results:
            self._scores.append(facts.score)
        return facts.score

    def get_confident_thresholds(self, silent: bool = False) -> Floats:
        """Return the confident thresholds, float64 (K,), of the examples seen so far.

        Raises
        ------
        InputError
            None has been seen.
        """
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
        if not self.store_results:
            raise InputError(
                "store_results: it is False, so scores are only returned by "
                "score_label_quality(), batch by batch"
            )
        return np.concatenate([*self._scores]) if self._scores else np.zeros(0)

    def get_label_issues(self) -> Ints:
        """Return the indices of the label issues: the lowest scores first, ties by index.

        Those are the `get_num_issues` examples with the lowest scores.

        Raises
        ------
        InputError
            The scores were not stored, or there are none.
        """
        scores = self.get_quality_scores()
        return np.argsort(scores, kind="stable")[: self.get_num_issues()]

    def __add__(self, other: LabelInspector) -> LabelInspector:
        """Return the inspector of the batches of both, those of the left one first.

        Where both have scored with equal thresholds from equally many examples of each class,
        they were given these, which then count once.

        Raises
        ------
        InputError
            The two were made with different arguments.
        """
        if not isinstance(other, LabelInspector):
            return NotImplemented
        mine, theirs = self._settings(), other._settings()
        if mine != theirs:
            raise InputError(f"other: its settings are {theirs}, they must be {mine}")
        merged = self._like(self)
        shared = (
            min(self.examples_processed_quality, other.examples_processed_quality) > 0
            and np.array_equal(self._statistics.class_sum, other._statistics.class_sum)
            and np.array_equal(self._statistics.class_count, other._statistics.class_count)
        )
        merged._statistics = self._statistics if shared else self._statistics + other._statistics
        merged._counts = self._counts + other._counts
        merged._scores = [*self._scores, *other._scores]
        merged._warned = self._warned or other._warned
        merged.examples_processed_quality = (
            self.examples_processed_quality + other.examples_processed_quality
        )
        return merged

    def save(self, path: str | Path) -> None:
        """Write the state to a file."""
        statistics = self._statistics
        with Path(path).open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                settings=np.array(json.dumps(self._settings())),
                class_sum=np.array([str(total) for total in statistics.class_sum]),
                class_count=statistics.class_count,
                counts=np.stack(list(vars(self._counts).values())),
                num_scored=np.array(self.examples_processed_quality),
                scores=np.concatenate([np.zeros(0, np.float32), *self._scores]),
            )

    @classmethod
    def load(
        cls, path: str | Path, *, verbose: bool = True, n_jobs: int | None = 1
    ) -> LabelInspector:
        """Return the inspector that was saved to a file.

        Raises
        ------
        InputError
            The file does not hold one.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            inspector = cls(**json.loads(str(arrays["settings"])), verbose=verbose, n_jobs=n_jobs)
            inspector._statistics = ExampleStatistics(
                np.array([int(total) for total in arrays["class_sum"]], object),
                arrays["class_count"],
            )
            inspector._counts = IssueCounts(*arrays["counts"])
            inspector.examples_processed_quality = int(arrays["num_scored"])
            inspector._scores = [arrays["scores"]] if arrays["scores"].size else []
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"path: {str(path)!r} holds no LabelInspector: {error}") from error
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

    @classmethod
    def _like(cls, other: LabelInspector) -> LabelInspector:
        return cls(**other._settings(), verbose=other.verbose, n_jobs=other.n_jobs)

    def _scan(
        self,
        labels: Any,
        pred_probs: Any,
        start: int,
        bound: float,
        thresholds: Floats | None = None,
    ) -> RegionFacts | None:
        """Scan a batch whose first example is number `start`; None if it is empty."""
        given, predicted = np.asarray(labels), np.asarray(pred_probs)
        if predicted.ndim == 2 and predicted.shape[1] != self.num_class:
            raise InputError(
                f"pred_probs: got shape {predicted.shape}, it must be (n, {self.num_class}) "
                f"for num_class={self.num_class}"
            )
        if given.shape == (0,) and predicted.shape == (0, self.num_class):
            return None
        form = check_format(given.shape, given.dtype, predicted.shape, predicted.dtype)
        region = self._scan_parts(given, predicted, start, form, bound, thresholds)
        if not self._warned:
            worst, tolerance = region.statistics.worst_sum, form.sum_tolerance
            self._warned = warn_of_sum(worst, tolerance, stacklevel=4)
        return region

    def _scan_parts(
        self,
        labels: AnyArray,
        pred_probs: AnyArray,
        start: int,
        form: ExampleFormat,
        bound: float,
        thresholds: Floats | None,
    ) -> RegionFacts:
        """Scan the parts of a batch, one for each thread."""
        ends = np.linspace(0, labels.size, min(self.n_jobs, labels.size) + 1).astype(int)
        parts = [slice(a, b) for a, b in pairwise(ends)]
        scan = (labels, pred_probs.__getitem__, form, self._options, bound, thresholds)
        if len(parts) == 1:
            return scan_region(start, parts, *scan)
        with ThreadPoolExecutor(len(parts)) as pool:
            regions = list(pool.map(lambda part: scan_region(start, [part], *scan), parts))
        return RegionFacts(
            reduce(add, (region.statistics for region in regions)),
            reduce(add, (region.facts for region in regions)),
        )

    def _check_scored(self) -> None:
        if self.examples_processed_quality < 1:
            raise InputError(
                "label issues: no labels have been scored; call score_label_quality() first"
            )

    def _say(self, what: str, count: int, silent: bool) -> None:
        if self.verbose and not silent:
            sys.stderr.write(f"number of examples {what}: {count:,}\n")
