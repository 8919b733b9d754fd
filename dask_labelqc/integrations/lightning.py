"""Lightning: a callback that audits the labels while a trainer validates, tests or predicts.

It needs Lightning: ``pip install "dask-labelqc[lightning]"``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dask_labelqc.errors import InputError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        'this callback needs Lightning: pip install "dask-labelqc[lightning]"'
    ) from error

__all__ = ["AuditCallback"]


class Inspector(Protocol):
    """What `AuditCallback` needs of an inspector."""

    @property
    def update(self) -> Callable[..., None]: ...

    def flush(self) -> None: ...


class AuditCallback(Callback):
    """Hand every batch that a trainer validates, tests or predicts to an inspector.

    Validation in the middle of `fit` is passed over, the sanity check too: the same images come
    there again and again, and their predictions change as the model learns. What was taken in is
    on record at the end of each run, also of one that fails. Each rank of a distributed run is a
    writer of its own; images that a sampler repeats to even out the ranks count once.

    Parameters
    ----------
    inspector
        A `SegmentationInspector`, `DetectionInspector` or `LabelInspector`. One may serve several
        runs, such as the folds of a cross-validation.
    unpack
        ``unpack(batch, outputs)`` returns the arguments of the inspector's ``update`` by name,
        where ``outputs`` is what the step of the model returned. By default they are looked up by
        these names in the outputs and in the batch, which then have to be mappings.

    Raises
    ------
    ImportError
        On import, if Lightning is not installed.

    See Also
    --------
    dask_labelqc.SegmentationInspector, dask_labelqc.finish_audit
    """

    def __init__(
        self,
        inspector: Inspector,
        unpack: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    ) -> None:
        self.inspector = inspector
        self._unpack = unpack

    def _arguments(self, batch: Any, outputs: Any) -> Mapping[str, Any]:
        if self._unpack is not None:
            return self._unpack(batch, outputs)
        found: dict[str, Any] = {}
        names = inspect.signature(self.inspector.update).parameters
        for there in (batch, outputs):
            if isinstance(there, Mapping):
                found |= {name: there[name] for name in names if name in there}
        needed = [n for n, p in names.items() if p.default is p.empty and n not in found]
        if needed:
            raise InputError(
                f"unpack: neither the batch ({type(batch).__name__}) nor what the step returned "
                f"({type(outputs).__name__}) is a mapping with {', '.join(map(repr, needed))}; "
                "give a function that returns the arguments of update by name"
            )
        return found

    def _take(self, trainer: Trainer, batch: Any, outputs: Any) -> None:
        if trainer.state.fn != "fit":
            self.inspector.update(**self._arguments(batch, outputs))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, batch, outputs)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.inspector.flush()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.inspector.flush()
