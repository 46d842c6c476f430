"""Durations of a recipe: '5ep' (epochs), '100it' (updates), '0.9run' (share of the whole run)."""

from __future__ import annotations

import math
import re

__all__ = ["to_updates"]

_FORM = re.compile(r"([0-9.eE+-]+?)(ep|it|run)")


def to_updates(duration: str, updates_per_epoch: int, total_updates: int = 0) -> int:
    """Convert a duration to optimizer updates, rounded to the nearest.

    Raises ValueError for anything but '<number>ep', '<number>it' or '<number>run' (with a total to take a share of).
    """
    match = _FORM.fullmatch(str(duration).strip())
    try:
        number = float(match.group(1))
    except (AttributeError, ValueError):
        raise ValueError(
            f"duration {duration!r} is not of the form 5ep (epochs), 100it (updates) or 0.9run (share of the run)"
        ) from None
    unit = {"ep": updates_per_epoch, "it": 1, "run": total_updates}[match.group(2)]
    if unit == 0:
        raise ValueError(f"duration {duration!r}: a share of the run cannot define the length of the run")
    if not 0 <= number < math.inf:
        raise ValueError(f"duration {duration!r} must be finite and not negative")
    return round(number * unit)
