"""What a job that failed leaves behind: nothing, unless something in it is worth keeping."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from dask_labelqc.errors import Advice, InputError, TakenOverError
from dask_labelqc.pipeline.output import Output
from dask_labelqc.storage.objects import remove_folder

__all__ = ["discarded_if_empty"]

log = logging.getLogger(__name__)


@contextmanager
def discarded_if_empty(output: Output) -> Iterator[None]:
    """Remove the output if the job fails, made it, and has put no group on record.

    Otherwise what was done can be resumed, and advice to change an argument says that other
    arguments need another output. No task may run any more.
    """
    try:
        yield
    except TakenOverError:
        raise  # it is another job's
    except Exception as error:
        if not _discard(output) and isinstance(error, InputError) and error.advice:
            error.advice = Advice(
                error.advice.text + "; {overwrite} besides, for the output is begun without",
                {**error.advice.arguments, "overwrite": True},
            )
        raise


def _discard(output: Output) -> bool:
    """Say whether the output is gone. Trouble with that is no cause: the job has its own."""
    if not output.created:
        return False
    try:
        assert output.on_record is not None
        if output.on_record.records.array.nchunks_initialized:
            return False
        remove_folder(output.group.store, output.group.path)
    except TakenOverError:
        return False  # it is another job's
    except Exception as error:
        log.warning("output: %s cannot be removed: %s", output.group.store, error)
        return False
    return True
