"""Find mislabeled examples batch by batch, over plain arrays."""

from __future__ import annotations

import copy
import json
import os
import sys
import threading
import uuid
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from dask_labelqc.arguments import check_flag, number_of_threads
from dask_labelqc.classification.facts import ExampleCandidates
from dask_labelqc.classification.inputs import InMemoryExamples, loaded, normalize
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.scan import scan_runs
from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from dask_labelqc.classification.validity import warn_of_sum
from dask_labelqc.errors import InputError
from dask_labelqc.kernels.examples import ExampleScan
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
    sends), and these add up in turn: what a first pass has learned counts once, however many
    copies of it there are. Threads may share one: each call of theirs counts once, and scores are
    kept in the order in which the calls end.

    The state has a fixed size, a few numbers for each class and each inspector of the first pass
    that was added, and a score for each example with `store_results`.

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
        integer = isinstance(num_class, int | np.integer) and not isinstance(num_class, bool)
        if not integer or num_class < 2:
            raise InputError(f"num_class: got {num_class!r}, it must be an integer of 2 or more")
        check_flag("store_results", store_results)
        check_flag("verbose", verbose)
        self.num_class = int(num_class)
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
        batch = self._batch(labels, pred_probs)
        if batch is None:
            return
        statistics, _ = self._scan(batch, self.examples_processed_thresh, float("-inf"))
        self._warn(statistics, batch)
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
        batch = self._batch(labels, pred_probs)
        if batch is None:
            return np.zeros(0)
        given = thresholds if self._options.reads_twice else None
        start = self.examples_processed_quality
        statistics, found = self._scan(batch, start, float("inf"), given)
        self._warn(statistics, batch)
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

    def __add__(self, other: LabelInspector) -> LabelInspector:
        """Return the inspector of the batches of both, those of the left one first.

        What both have learned from one and the same first pass counts once.

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
        one, other = copy.copy(self), copy.copy(other)  # each as it is at one moment
        for part, statistics in other._parts.items():
            one._learn(part, statistics)
        one._counts = one._counts + other._counts
        one._scores += other._scores
        one._warned |= other._warned
        one.examples_processed_quality += other.examples_processed_quality
        return one

    def save(self, path: str | Path) -> None:
        """Write the state to a file."""
        state = copy.copy(self)  # as it is at one moment
        parts = list(state._parts.values())
        shape = len(parts), self.num_class
        with Path(path).open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                settings=np.array(json.dumps(self._settings())),
                parts=np.array([*state._parts], str),
                class_sum=np.array([[str(t) for t in p.class_sum] for p in parts], str).reshape(
                    shape
                ),
                class_count=np.array([p.class_count for p in parts], np.int64).reshape(shape),
                counts=np.stack(list(vars(state._counts).values())),
                num_scored=np.array(state.examples_processed_quality),
                scores=np.concatenate([np.zeros(0, np.float32), *state._scores]),
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
            with Path(path).open("rb") as file:  # which NumPy leaves open where it is cut off
                stored = np.load(file, allow_pickle=False)
                if isinstance(stored, np.ndarray):
                    raise ValueError("it is a file of one array")
                arrays = {name: stored[name] for name in stored.files}
            inspector = cls(**json.loads(str(arrays["settings"])), verbose=verbose, n_jobs=n_jobs)
            inspector._check_stored(arrays)
            sums, counts = arrays["class_sum"], arrays["class_count"]
            for part, class_sum, class_count in zip(arrays["parts"], sums, counts, strict=True):
                total = np.array([int(text) for text in class_sum], object)
                inspector._learn(str(part), ExampleStatistics(total, class_count))
            inspector._counts = IssueCounts(*arrays["counts"])
            inspector.examples_processed_quality = int(arrays["num_scored"])
            inspector._scores = [arrays["scores"]] if arrays["scores"].size else []
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"path: {str(path)!r} holds no LabelInspector: {error}") from error
        return inspector

    def _check_stored(self, arrays: Mapping[str, AnyArray]) -> None:
        """Raise ValueError if arrays do not fit one another and the settings."""
        numbers, scored = self.num_class, int(arrays["num_scored"])
        shapes = {
            "class_sum": (arrays["parts"].size, numbers),
            "class_count": (arrays["parts"].size, numbers),
            "counts": (3, numbers),
            "scores": (scored if self.store_results else 0,),
        }
        for name, shape in shapes.items():
            array = arrays[name]
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, not {shape}")
            counts = name.endswith(("count", "counts"))
            if counts and (array.dtype.kind != "i" or array.min(initial=0) < 0):
                raise ValueError(f"{name} are no counts")

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

    def _batch(self, labels: Any, pred_probs: Any) -> InMemoryExamples | None:
        """Return a batch in memory, checked; None if it is empty."""
        shape = np.shape(pred_probs)
        if len(shape) == 2 and self.num_class not in shape:
            raise InputError(
                f"pred_probs: got shape {shape}, it must be (n, {self.num_class}) "
                f"for num_class={self.num_class}"
            )
        if np.shape(labels) == (0,) and shape == (0, self.num_class):
            return None
        batch = normalize(labels, pred_probs)
        if batch.form.num_classes != self.num_class:
            raise InputError(
                f"pred_probs: got {batch.form.num_classes} classes, it must be (n, "
                f"{self.num_class}) for num_class={self.num_class}"
            )
        return loaded(batch)

    def _scan(
        self,
        batch: InMemoryExamples,
        start: int,
        bound: float,
        thresholds: Floats | None = None,
    ) -> tuple[ExampleStatistics, ExampleCandidates]:
        """Scan a batch whose first example is number `start`, a part of it on each thread."""
        size = batch.labels.size
        ends = np.linspace(0, size, min(self.n_jobs, size) + 1).astype(int)
        options = self._options.scan(bound, thresholds)
        read, form = batch.pred_probs.__getitem__, batch.form

        def scan(part: slice) -> list[tuple[slice, ExampleScan]]:
            return list(scan_runs(start, [part], batch.labels, read, form, options))

        parts = [slice(a, b) for a, b in pairwise(ends)]
        if len(parts) == 1:
            runs = scan(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                runs = [run for found in pool.map(scan, parts) for run in found]
        statistics = (ExampleStatistics.of(found, start + run.start) for run, found in runs)
        candidates = ExampleCandidates.joined([ExampleCandidates.of(found) for _, found in runs])
        return reduce(add, statistics), candidates

    def _warn(self, statistics: ExampleStatistics, batch: InMemoryExamples) -> None:
        """Warn once of probabilities that do not sum to one."""
        with self._lock:
            if not self._warned:
                worst, tolerance = statistics.worst_sum, batch.form.sum_tolerance
                self._warned = warn_of_sum(worst, tolerance, stacklevel=4)

    def _check_scored(self) -> None:
        if self.examples_processed_quality < 1:
            raise InputError(
                "label issues: no labels have been scored; call score_label_quality() first"
            )

    def _say(self, what: str, count: int, silent: bool) -> None:
        if self.verbose and not silent:
            sys.stderr.write(f"number of examples {what}: {count:,}\n")
