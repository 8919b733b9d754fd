"""Examples put on record while a model predicts them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dask_labelqc.arguments import names_of_classes, texts_of_ids
from dask_labelqc.classification.batches import batch_of, probabilities, scanned
from dask_labelqc.classification.options import ScoreOptions
from dask_labelqc.classification.recorded import recorded
from dask_labelqc.classification.statistics import ExampleStatistics
from dask_labelqc.errors import Advice, InputError
from dask_labelqc.storage.columns import Columns
from dask_labelqc.storage.recorder import Recorder, check_repeated
from dask_labelqc.typing import Floats

__all__ = ["EXAMPLES", "EXAMPLE_FORM", "ExampleRecorder"]

EXAMPLE_FORM = 1
"""Of the records; those of another form say something else by the same names."""
EXAMPLES = "examples"
FLUSH_BYTES = 64 * 2**20


class ExampleRecorder:
    """Puts examples on record beside an output; see `LabelInspector`.

    Parameters
    ----------
    output, storage_options
        Where.
    num_classes, class_names, options, write
        What all records have in common; `write` are the dense outputs that are asked for.
    flush_examples
        How many may wait.
    """

    def __init__(
        self,
        output: str | Path,
        num_classes: int,
        options: ScoreOptions,
        *,
        class_names: Sequence[str] | Mapping[int, str] | None,
        write: Mapping[str, bool],
        flush_examples: int,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        names = names_of_classes(class_names, num_classes)
        self._num_classes, self._options = num_classes, options
        self.records: Recorder[Columns] = Recorder(
            output,
            {
                "form": EXAMPLE_FORM,
                "what": EXAMPLES,
                "num_classes": num_classes,
                "class_names": {str(k): name for k, name in names.items()},
                "options": {**vars(options), "adjust_pred_probs": bool(options.adjust_pred_probs)},
                "write": {name: bool(asked) for name, asked in write.items()},
            },
            flush_items=flush_examples,
            flush_bytes=FLUSH_BYTES,
            storage_options=storage_options,
        )
        self._stored: tuple[str, float | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied: a copy writes records of its own."""
        return {**vars(self), "records": copy.copy(self.records)}

    def update(
        self, ids: Any, labels: Any, pred_probs: Any, logits: Any, threads: int
    ) -> tuple[ExampleStatistics, float] | None:
        """Take in a batch; return what is known of it, and how far from one its sums may be."""
        self.records.check_open()
        names, argument = texts_of_ids(ids), "pred_probs" if logits is None else "logits"
        if (logits is None) == (pred_probs is None):
            given = "neither" if logits is None else "both"
            raise InputError(f"logits, pred_probs: got {given}, it must be one of the two")
        try:
            probs = pred_probs if logits is None else probabilities(logits)
            return self._update(names, labels, probs, threads)
        except InputError as error:
            if error.advice is not None:
                error.advice = Advice("logits= is for logits", {})
            error.message = error.message.replace("pred_probs: ", f"{argument}: ", 1)
            raise

    def _update(
        self, names: Sequence[str], labels: Any, probs: Floats, threads: int
    ) -> tuple[ExampleStatistics, float] | None:
        batch = batch_of(labels, probs, self._num_classes)
        size = 0 if batch is None else batch.labels.size
        if len(names) != size:
            raise InputError(f"ids: got {len(names)} of them for {size} labels")
        if batch is None:
            return None
        stored = batch.form.dtype.str, batch.form.scale
        if self._stored not in (None, stored):
            raise InputError(
                f"pred_probs: got dtype and scale {stored} after {self._stored}; the predictions "
                "of one audit must have one of each"
            )

        def named(place: int) -> str:
            return f"example {names[place]!r}"

        options = self._options.scan(float("inf"))
        statistics, found = scanned(batch, 0, options, threads, named)
        columns = recorded(names, batch, found, statistics.worst_sum, self._options)
        check_repeated([columns])
        self._stored = stored
        self.records.add(columns)
        return statistics, batch.form.sum_tolerance
