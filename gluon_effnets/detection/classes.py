"""What classes of detectors may be: a number of them, or their names."""

from __future__ import annotations

from typing import Any

from ..files.schema import check_type, text, whole

__all__ = ["MOST_CLASSES", "check_classes"]

MOST_CLASSES = 100_000


def check_classes(classes: Any, what: str) -> None:
    """Raise for what is neither a number of classes, the background not counted, nor their names.

    Args:
        classes: What was given.
        what: How messages name it.

    Raises:
        TypeError: It is of another type.
        ValueError: There are none, or more than `MOST_CLASSES`, or a name is no text or a page long.
    """
    check_type(what, classes, int, list, tuple, words="a number, or a list of names")
    named = not isinstance(classes, int)
    whole(1, MOST_CLASSES)(len(classes) if named else classes, f"the number of {what}")
    for name in classes if named else ():
        text(1000)(name, f"one of the {what}")
