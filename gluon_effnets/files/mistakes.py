"""Errors of libraries as mistakes of a user: one sentence, without a trace."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Iterator, Tuple, Type

from .text import shown

__all__ = ["TRACE_VARIABLE", "as_mistakes", "sentence"]

TRACE_VARIABLE = "GLUON_EFFNETS_TRACE"  # set, it brings the traces of errors back that nobody foresaw
_MOST, _MOST_OF_LINE = 1800, 800
_FORESEEN: Tuple[Type[Exception], ...] = (ValueError, OSError, ImportError)


def sentence(error: BaseException) -> str:
    """Return what an error says, as the text of a message."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    if isinstance(error, RecursionError):
        return "this is nested too deeply"
    if _is_of_mxnet(error):
        return f"MXNet refuses this: {_of_mxnet(str(error))}"
    # A path may be as long as its author likes.
    lines = str(error).strip()[: 100 * _MOST].splitlines()
    text = shown("\n".join(shown(line, _MOST_OF_LINE) for line in lines), _MOST)
    if isinstance(error, (*_FORESEEN, TypeError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_of_mxnet(error: BaseException) -> bool:
    """Whether MXNet raised it, which need not be there."""
    return any(kind.__name__ == "MXNetError" for kind in type(error).__mro__)


def _of_mxnet(text: str) -> str:
    """The line of MXNet's error that says something: traces stand around it."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not re.match(r"(Traceback|Stack trace|\[bt\]|File |\(\d+\))", line)]
    line = re.sub(r"^(MXNetError|Error|\[\d\d:\d\d:\d\d\] \S+): ", "", said[0] if said else "unknown error")
    return shown(re.sub(r"^\[\d\d:\d\d:\d\d\] \S+: ", "", line), 300)


@contextlib.contextmanager
def as_mistakes(where: str) -> Iterator[None]:
    """Turn errors that nobody foresaw, within the block, into a ValueError that begins with `where`.

    They come from libraries, and from our own code that trusted a value. With GLUON_EFFNETS_TRACE=1 they stay as they
    are.
    """
    try:
        yield
    except _FORESEEN as error:
        # Of these, UnicodeError says nothing of the file.
        if isinstance(error, UnicodeError):
            raise ValueError(f"{where}: {sentence(error)}") from error
        raise
    except (
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        AssertionError,
        MemoryError,
        RuntimeError,  # MXNet's errors, too
        EOFError,
    ) as error:
        if os.environ.get(TRACE_VARIABLE):
            raise
        raise ValueError(f"{where}: {sentence(error)}") from error
