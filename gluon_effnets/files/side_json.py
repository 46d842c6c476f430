"""JSON from strangers: of bounded size and depth, with finite numbers, and texts that can be printed."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, Collection, Dict, List, Tuple, Union

from .regular import MOST_TEXT, read_bytes
from .text import shown

__all__ = ["parse_json", "read_json"]

_DEPTH = 32
_DIGITS = 40  # of a number; whole ones of more take Python minutes


def read_json(
    path, what: str = "file", most: int = MOST_TEXT, finite: bool = True, without: Collection[str] = ()
) -> Any:
    """Return the content of a JSON file.

    Args:
        path: Of the file.
        what: What it should be, for the error text.
        most: Bytes that it may have.
        finite: Whether NaN and infinities are refused.
        without: Keys whose values are forgotten as soon as they are read, so that a large file needs little memory.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no regular file, no JSON, cut short, or of a kind that no program of ours writes.
    """
    return parse_json(read_bytes(path, what, most), path, finite, without)


def parse_json(text: Union[str, bytes], where, finite: bool = True, without: Collection[str] = ()) -> Any:
    """Return the content of a JSON text. Raises ValueError, which names `where` it stands, as `read_json` does."""
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        content = json.loads(text, parse_int=_whole, object_hook=_forgetting(without) if without else None)
        _check(content, finite)
    except RecursionError:
        raise ValueError(f"{where} has lists within lists, deeper than {_DEPTH}") from None
    except _Refused as error:
        raise ValueError(f"{where} {error}") from None
    except ValueError as error:  # UnicodeDecodeError is one, too
        reason = "" if isinstance(error, UnicodeError) else f": {shown(str(error))}"
        raise ValueError(f"{where} is no JSON, or is cut short{reason}") from None
    return content


class _Refused(Exception):
    pass


def _forgetting(keys: Collection[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    def forget(content: Dict[str, Any]) -> Dict[str, Any]:
        for key in keys:
            content.pop(key, None)
        return content

    return forget


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise _Refused(f"has a number of {len(digits):,} digits")
    return int(digits)


def _check(content: Any, finite: bool) -> None:
    waiting: List[Tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEPTH:
            raise _Refused(f"has lists within lists, deeper than {_DEPTH}")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise _Refused("has a text with half a character (a lone surrogate)") from None
        elif isinstance(value, float) and finite and not math.isfinite(value):
            raise _Refused(f"has a number that is not finite ({value})")
