"""Text for a terminal, which would take some characters for orders."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Return text with what a terminal would obey, hide or break lines at written as escapes.

    Names and paths of others may hold anything: escape sequences, characters that turn the
    direction of writing, bytes that are no text.

    Examples
    --------
    >>> print(printable("tile\x1b[31m\u202e 7\n"))
    tile\x1b[31m\u202e 7\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
