"""What inspectors of images have in common: what they learn waits, and is put on record."""

from __future__ import annotations

from typing import Any, Self

from dask_labelqc.arguments import texts_of_ids
from dask_labelqc.storage.recorder import Recorder

__all__ = ["Recording"]


class Recording:
    """An inspector of images, whose `update` hands what it learns to its recorder."""

    _recorder: Recorder[Any]

    def flush(self) -> None:
        """Put all that waits on record.

        Raises
        ------
        StoreError, OutputError
            It cannot be written; it is kept, and written with what follows.
        """
        self._recorder.flush()

    def close(self) -> None:
        """Put all that waits on record, and take nothing more."""
        self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def missing(self, ids: Any) -> list[str]:
        """Return which of these images are neither on record nor waiting for that, in their order.

        Parameters
        ----------
        ids
            Texts or whole numbers.

        Returns
        -------
        list of str
            Their ids as texts.
        """
        return self._recorder.missing(texts_of_ids(ids))
