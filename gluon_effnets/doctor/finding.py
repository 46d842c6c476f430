"""Finding: what the doctor says of one thing; and how it asks a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any, Dict, Mapping, NamedTuple, Sequence

from ..runtime.files import printable

__all__ = ["FINE", "LEVELS", "NOTE", "WRONG", "ChildFailed", "Finding", "ask", "fine", "note", "wrong"]

LEVELS = FINE, NOTE, WRONG = "fine", "note", "wrong"
_PATIENCE_S = 120.0
_MOST_OF_A_LINE = 300


class Finding(NamedTuple):
    """What was found.

    Attributes:
        subject: What was looked at.
        level: 'fine'; 'note', where something is slower or less than it could be; or 'wrong'.
        found: What there is.
        cure: The line or sentence that helps; empty where nothing has to be done.
    """

    subject: str
    level: str
    found: str
    cure: str = ""


def fine(subject: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(subject, FINE, found)


def note(subject: str, found: str, cure: str = "") -> Finding:
    """Return what could be better."""
    return Finding(subject, NOTE, found, cure)


def wrong(subject: str, found: str, cure: str) -> Finding:
    """Return what is wrong, and its cure."""
    return Finding(subject, WRONG, found, cure)


class ChildFailed(RuntimeError):
    """A process of its own ended without an answer; the text is the rest of a sentence."""


def ask(
    command: Sequence[str], patience_s: float = _PATIENCE_S, environment: Mapping[str, str] = os.environ
) -> Dict[str, Any]:
    """Run Python with these arguments, and return the JSON object in the last line that it prints.

    Raises:
        ChildFailed: It crashed, ended with an error, said something else, or takes longer than `patience_s`.
    """
    try:
        done = subprocess.run(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience_s,
            env=dict(environment),
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"gives no answer within {patience_s:.0f} s") from None
    if done.returncode < 0:
        raise ChildFailed(f"crashes ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        raise ChildFailed(f"fails: {last_line(done.stderr)}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise ChildFailed(f"says nothing that can be read: {last_line(done.stdout)}") from None


def last_line(text: str) -> str:
    """The last line of a program's output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1])[:_MOST_OF_A_LINE] if lines else "no word"
