"""What values from strangers may be: small checks of types and ranges, put together to those of whole files."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, Optional

from .text import shortened

__all__ = [
    "Check",
    "check_type",
    "flag",
    "list_of",
    "number",
    "one_of",
    "optional",
    "record",
    "table_of",
    "text",
    "whole",
]

# Takes a value and its place. Raises ValueError, naming the place, for a value that it does not allow.
Check = Callable[[Any, str], None]


def check_type(name: str, value: Any, *kinds: type, words: str) -> None:
    """Raise TypeError if an argument of a caller has none of the types.

    Args:
        name: Of the argument.
        value: What was given; True and False are no numbers.
        kinds: The types.
        words: What they are called: "a text".
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{name} is {shortened(value)}, of type {type(value).__name__}; it must be {words}")


def _refuse(value: Any, where: str, words: str) -> None:
    raise ValueError(f"{where} is {shortened(value)}; it must be {words}")


def text(most: int = 10_000) -> Check:
    """Allow texts of at most so many characters."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str):
            _refuse(value, where, "a text")
        if len(value) > most:
            raise ValueError(f"{where} is a text of {len(value):,} characters; at most {most:,} are read")

    return check


def number(low: float = -math.inf, high: float = math.inf, above: Optional[float] = None) -> Check:
    """Allow finite numbers from `low` to `high`, and beyond `above`."""
    words = "a number" if high == math.inf else f"a number of {low:g} to {high:g}"
    words += "" if above is None else f", above {above:g}"

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not (fits and low <= value <= high and (above is None or value > above)):
            _refuse(value, where, words)

    return check


def whole(low: int, high: int) -> Check:
    """Allow whole numbers from `low` to `high`."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            _refuse(value, where, f"a whole number of {low} to {high}")

    return check


def flag(value: Any, where: str) -> None:
    """Allow true and false."""
    if not isinstance(value, bool):
        _refuse(value, where, "true or false")


def one_of(*choices: str) -> Check:
    """Allow some texts alone."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in choices:
            _refuse(value, where, " or ".join(choices))

    return check


def optional(inner: Check) -> Check:
    """Allow null, too."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def list_of(inner: Check, least: int = 0, most: int = 1_000_000) -> Check:
    """Allow lists of values that a check allows."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            _refuse(value, where, "a list")
        if not least <= len(value) <= most:
            raise ValueError(f"{where} has {len(value):,} entries; there must be {least} to {most:,}")
        for place, item in enumerate(value):
            inner(item, f"{where}[{place}]")

    return check


def table_of(inner: Check, most: int = 10_000) -> Check:
    """Allow objects with any keys, and values that a check allows."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "an object with keys")
        if len(value) > most:
            raise ValueError(f"{where} has {len(value):,} keys; at most {most:,} are read")
        for key, item in value.items():
            inner(item, f"{where}.{shortened(key)[1:-1]}")

    return check


def record(needed: Mapping[str, Check], others: Optional[Mapping[str, Check]] = None, closed: bool = True) -> Check:
    """Allow objects that have all of some keys, perhaps some of the others, and, if `closed`, no more."""
    known = {**needed, **(others or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "an object with keys")
        missing, unknown = needed.keys() - value.keys(), value.keys() - known.keys() if closed else ()
        if missing:
            raise ValueError(f"{where} lacks {shortened(min(missing))}")
        if unknown:
            raise ValueError(f"{where} has the key {shortened(min(unknown))}, which is not known")
        for key, item in value.items():
            if key in known:
                known[key](item, f"{where}.{key}")

    return check
