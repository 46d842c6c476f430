"""Durations of a recipe: '5ep' (epochs), '100it' (updates), '0.9run' (share of the whole run)."""

from __future__ import annotations

import math
import re

from ..files.text import shortened

__all__ = ["exact_updates", "to_updates"]

_MOST_UPDATES, _LONGEST = 10**10, 100
_FORM = re.compile(r"([0-9.eE+-]+?)(ep|it|run)")


def to_updates(duration: str, updates_per_epoch: int, total_updates: int = 0) -> int:
    """Convert a duration to optimizer updates, rounded to the nearest; arguments and errors of `exact_updates`."""
    return round(exact_updates(duration, updates_per_epoch, total_updates))


def exact_updates(duration: str, updates_per_epoch: int, total_updates: int = 0) -> float:
    """Convert a duration to optimizer updates.

    Args:
        duration: "5ep", "100it" or "0.9run".
        updates_per_epoch: Length of an epoch.
        total_updates: Length of the run, for a share of it.

    Raises:
        ValueError: Another form, a negative number, or a share without a total.
    """
    form = (
        f"duration {shortened(duration)} is not of the form 5ep (epochs), 100it (updates) or 0.9run (share of the run)"
    )
    match = _FORM.fullmatch(str(duration)[:_LONGEST].strip())
    if match is None:
        raise ValueError(form)
    try:
        number = float(match.group(1))
    except ValueError:
        raise ValueError(form) from None
    unit = {"ep": updates_per_epoch, "it": 1, "run": total_updates}[match.group(2)]
    if unit == 0:
        raise ValueError(f"duration {duration!r}: a share of the run cannot define the length of the run")
    if not 0 <= number < math.inf:
        raise ValueError(f"duration {duration!r} must be finite and not negative")
    if number * unit > _MOST_UPDATES:
        raise ValueError(
            f"duration {duration!r} is {number * unit:.1e} updates; at most {_MOST_UPDATES:.0e} are possible"
        )
    return number * unit
