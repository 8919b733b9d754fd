"""Find mislabeled examples batch by batch, over plain arrays."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from dask_labelqc.arguments import check_flag, positive_integer, texts_of_ids
from dask_labelqc.classification.one_pass import ExampleRecorder
from dask_labelqc.classification.two_passes import TwoPassInspector
from dask_labelqc.errors import InputError

__all__ = ["LabelInspector"]

FLUSH_EXAMPLES = 4096


class LabelInspector(TwoPassInspector):
    """Find label issues batch by batch: in two passes, or in one while a model predicts.

    **Two passes**: `update_confident_thresholds` with every batch (or enough of them to know each
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

    **One pass**, while a model predicts: with an `output`, `update` puts what an audit needs of
    each example on record there. Any number of inspectors, in any processes, may write to one
    output; `dask_labelqc.finish_audit` makes the audit of all of them, the same that
    `audit_examples_zarr` makes of the predictions. For the self-confidence that is, before it is
    packed, 5 or 6 bytes an example (its label, and the probability of that, in float32), and as
    many more of one that disagrees; for the margin 4 more, the entropy or adjusted probabilities
    8 more; for the margin of adjusted probabilities all K of them. Besides, each has its id and a
    hash of 16 bytes.

    Parameters
    ----------
    output
        Path or URL of the output to make in one pass; None for two passes.
    num_class
        K.
    store_results
        Of two passes, keep the scores, for `get_quality_scores` and `get_label_issues`.
    verbose
        Say on the standard error how many examples an answer is based on.
    quality_score_kwargs, num_issue_kwargs
        As in `find_label_issues_batched`; what is in them are arguments of `audit_examples_zarr`.
    n_jobs
        Threads for each batch; None: one for each core.
    class_names
        Of the K classes, or of some by their number; for the output.
    write_label_quality, write_predicted_label
        Of one pass: the output has the score and the predicted class of every example, too.
    flush_examples
        How many may wait to be put on record, which is what is lost if the process is killed.
    storage_options
        Of the store that the URL names, as in `dask_labelqc.storage.stores.open_store`.

    Raises
    ------
    InputError
        An argument or a batch cannot be used.
    OutputError
        The output is there and is something else, or its records were made with other parameters.

    See Also
    --------
    find_label_issues_batched : both passes in one call, which reads the predictions once.
    dask_labelqc.finish_audit : the audit of what is on record.

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

    In one pass:

    >>> import tempfile
    >>> with LabelInspector(tempfile.mkdtemp(), num_class=2) as inspector:
    ...     inspector.update(range(5), labels, pred_probs)
    ...     inspector.missing(range(7))
    ['5', '6']
    """

    def __init__(
        self,
        output: str | Path | None = None,
        *,
        num_class: int,
        store_results: bool = True,
        verbose: bool = True,
        quality_score_kwargs: Mapping[str, Any] | None = None,
        num_issue_kwargs: Mapping[str, Any] | None = None,
        n_jobs: int | None = 1,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        write_label_quality: bool = False,
        write_predicted_label: bool = False,
        flush_examples: int = FLUSH_EXAMPLES,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_class=num_class,
            store_results=store_results,
            verbose=verbose,
            quality_score_kwargs=quality_score_kwargs,
            num_issue_kwargs=num_issue_kwargs,
            n_jobs=n_jobs,
        )
        write = {
            "write_label_quality": write_label_quality,
            "write_predicted_label": write_predicted_label,
        }
        for name, flag in write.items():
            check_flag(name, flag)
        self._recorder: ExampleRecorder | None = None
        if output is not None:
            self._recorder = ExampleRecorder(
                output,
                self.num_class,
                self._options,
                class_names=class_names,
                write=write,
                flush_examples=positive_integer("flush_examples", flush_examples),
                storage_options=storage_options,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied: a copy writes records of its own."""
        return super().__getstate__() | {"_recorder": copy.copy(self._recorder)}

    def __add__(self, other: Self) -> Self:
        """Return the inspector of the batches of both; of one pass it has no output.

        What has been put on record is added up where it is finished.

        Raises
        ------
        InputError
            The two were made with different arguments.
        """
        one = super().__add__(other)
        if isinstance(one, LabelInspector):
            one._recorder = None
        return one

    def update(self, ids: Any, labels: Any, pred_probs: Any = None, *, logits: Any = None) -> None:
        """Put a batch on record in the output: the one pass.

        Parameters
        ----------
        ids
            Of n examples, texts or whole numbers; one of which the same is known already counts
            once.
        labels
            (n,); NaN takes part in nothing.
        pred_probs, logits
            One of the two, (n, K). As `labels`, an array of any framework, on any device.

        Raises
        ------
        InputError
            The batch cannot be used, and nothing of it is taken in; or there is no output.
        StoreError, OutputError
            The records that were due cannot be written; they are kept, and tried again.
        """
        found = self._records().update(ids, labels, pred_probs, logits, self.n_jobs)
        if found is not None:
            self._warn(*found)

    def _records(self) -> ExampleRecorder:
        if self._recorder is None:
            raise InputError(
                "output: this inspector has none to put records in; LabelInspector(output, "
                "num_class=...) does, or use update_confident_thresholds() and "
                "score_label_quality() for two passes"
            )
        return self._recorder

    def _check_passes(self) -> None:
        if self._recorder is not None:
            raise InputError(
                "output: this inspector puts records in its output, in one pass: update() takes "
                "batches in, and finish_audit() makes the audit; for two passes make one without "
                "an output"
            )

    def flush(self) -> None:
        """Put all that waits on record.

        Raises
        ------
        StoreError, OutputError
            It cannot be written; it is kept, and written with what follows.
        """
        self._records().records.flush()

    def close(self) -> None:
        """Put all that waits on record, and take nothing more."""
        self._records().records.close()

    def __enter__(self) -> Self:
        self._records()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def missing(self, ids: Any) -> list[str]:
        """Return which of these examples are neither on record nor waiting for that, in order.

        Parameters
        ----------
        ids
            Texts or whole numbers.

        Returns
        -------
        list of str
            Their ids as texts.
        """
        return self._records().records.missing(texts_of_ids(ids))
