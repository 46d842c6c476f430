"""Bounds of the options of networks, which a user or a stranger's file may give."""

from __future__ import annotations

from typing import Any, Dict

from ..files.schema import number, text, whole
from ..files.text import shortened

__all__ = ["check_options"]

_RANGES = {
    "prefix": text(100),
    "bn_epsilon": number(0, 10, above=0),
    "bn_momentum": number(0, 1),
    "dropout": number(0, 0.999),
    "drop_connect": number(0, 0.999),
}
_LARGEST = 10_000_000  # number among the options; the number of classes is one of them


def check_options(name: str, classes: Any, options: Dict[str, Any]) -> None:
    """Raise ValueError for options that cannot be meant: numbers beyond all bounds, texts of pages."""
    whole(1, _LARGEST)(classes, f"{name}: classes")
    waiting = [(f"{name}: option {key}", value, 0) for key, value in options.items()]
    while waiting:
        where, value, depth = waiting.pop()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number(-_LARGEST, _LARGEST)(value, where)
        elif isinstance(value, str):
            text(1000)(value, where)
        elif isinstance(value, (list, tuple, dict)):
            if depth > 4 or len(value) > 1000:
                raise ValueError(f"{where} is {shortened(value)}; it must have fewer values")
            values = value.values() if isinstance(value, dict) else value
            waiting += [(where, inner, depth + 1) for inner in values]
    for key, check in _RANGES.items():
        if options.get(key) is not None:
            check(options[key], f"{name}: option {key}")
