"""Making an object of a recipe by its name and options, with errors that name the nearest right word."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Dict, Type, TypeVar

__all__ = ["create"]

T = TypeVar("T")


def create(what: str, known: Dict[str, Type[T]], name: str, options: Dict[str, Any], where: str) -> T:
    """Return known[name](**options); `where` is the place of the options in the recipe.

    Raises ValueError for an unknown name or option.
    """
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; did you mean {_nearest(name, known)!r}?")
    if not isinstance(options, dict):
        raise ValueError(f"{where} must be a section with options, not {options!r}")
    accepted = list(inspect.signature(known[name]).parameters)
    for option in options:
        if option not in accepted:
            takes = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
            raise ValueError(f"{where}: no option {option!r}; {takes}")
    try:
        return known[name](**options)
    except TypeError as error:
        raise ValueError(f"{where}: {str(error).split(') ')[-1]}") from None


def _nearest(word: str, words) -> str:
    return difflib.get_close_matches(word, words, 1, 0)[0]
