"""What goes wrong, said once: the exceptions and warnings of the package."""

from __future__ import annotations

__all__ = [
    "BlockError",
    "ClusterError",
    "InputError",
    "LabelQCError",
    "LabelQCWarning",
    "OutputError",
    "StoreError",
    "TakenOverError",
]


class LabelQCError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(LabelQCError, ValueError):
    """An argument or the data behind it cannot be used; the message says which, what and where."""


class OutputError(LabelQCError, OSError):
    """An output exists already, belongs to other inputs, or cannot be written."""


class TakenOverError(OutputError):
    """Another job has the output now; nothing was written to it."""


class BlockError(LabelQCError, RuntimeError):
    """A block of images failed as often as it may; the message says which, where and why."""


class ClusterError(LabelQCError, RuntimeError):
    """The cluster is gone; what was finished is on record."""


class StoreError(OSError):
    """A store did not answer, or refused; the message names the object. It may answer later."""


class LabelQCWarning(UserWarning):
    """The answer is well defined, but the input is unusual enough to be looked at."""
