"""What goes wrong, said once: the exceptions and warnings of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Advice",
    "BlockError",
    "ClusterError",
    "InputError",
    "LabelQCError",
    "LabelQCWarning",
    "OutputError",
    "StoreError",
    "TakenOverError",
    "advise",
]


@dataclass(frozen=True)
class Advice:
    """What to do, the arguments in it by name: a command line writes them in its own way.

    Attributes
    ----------
    text
        With each argument in braces.
    arguments
        Their values: a list if one of several will do, an ellipsis if the name alone is meant.
    """

    text: str
    arguments: Mapping[str, Any]

    def told(self, write: Callable[[str, Any], str]) -> str:
        """Return the text, each argument written by `write` from its name and value."""
        every = {n: v if isinstance(v, list) else [v] for n, v in self.arguments.items()}
        return self.text.format(**{n: " or ".join(write(n, v) for v in every[n]) for n in every})

    def __str__(self) -> str:
        return self.told(lambda name, value: name if value is ... else f"{name}={value!r}")


def advise(text: str, /, **arguments: Any) -> Advice:
    """Return advice.

    Examples
    --------
    >>> str(advise("{ignore_index} leaves such pixels out", ignore_index=255))
    'ignore_index=255 leaves such pixels out'
    >>> str(advise("say {image_dim}", image_dim=[0, False]))
    'say image_dim=0 or image_dim=False'
    """
    return Advice(text, arguments)


class _Advised:
    """What is said, and advice about it."""

    def __init__(self, message: str = "", advice: Advice | None = None) -> None:
        super().__init__(message)  # type: ignore[call-arg]
        self.message, self.advice = message, advice

    def __str__(self) -> str:
        return self.message if self.advice is None else f"{self.message}; {self.advice}"


class LabelQCError(_Advised, Exception):
    """Base of every error that the package raises on purpose.

    Parameters
    ----------
    message
        Which argument, which value, where.
    advice
        What to do about it; follows the message.
    """


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


class StoreError(LabelQCError, OSError):
    """A store did not answer, or refused; the message names the object. It may answer later."""


class LabelQCWarning(_Advised, UserWarning):
    """The answer is well defined, but the input is unusual enough to be looked at."""
