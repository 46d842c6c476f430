"""What a stranger wrote, shown in messages: short, in one line, and without what a terminal would obey."""

from __future__ import annotations

import reprlib
from typing import Any

from ..runtime.files import printable

__all__ = ["shortened", "shown"]

_MOST = 80  # characters of a value
_BITS = 256  # of a whole number whose digits are shown


def shortened(value: Any, most: int = _MOST) -> str:
    """Return a value as Python writes it, with the middle left out if it is long.

    Args:
        value: Anything, also a text of megabytes or a list in a hundred lists.
        most: Characters of a text or number, and roughly of all else.

    Example:
        >>> shortened("idle")
        "'idle'"
    """
    shortener = _Shortener()
    shortener.maxstring = shortener.maxother = shortener.maxlong = most
    return shown(shortener.repr(value), 4 * most)


def shown(text: str, most: int = 2 * _MOST) -> str:
    """Return a text for a message: without what a terminal obeys but line ends, the middle left out if it is long."""
    if len(text) > most:
        half = (most - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    return printable(text.replace("\t", "?"))


class _Shortener(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict = 4, 6

    def repr_int(self, value: int, level: int) -> str:
        # Python takes minutes for the digits of a large one, or refuses.
        return (
            super().repr_int(value, level) if value.bit_length() <= _BITS else f"a number of {value.bit_length()} bits"
        )

    def repr_instance(self, value: Any, level: int) -> str:
        try:
            return super().repr_instance(value, level)
        except Exception:  # of the repr of a stranger's class
            return f"<{type(value).__name__}>"
