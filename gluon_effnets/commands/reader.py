"""Whoever reads the output of a command may have seen enough before its end, as `head` does."""

from __future__ import annotations

import os
import select
import sys

__all__ = ["reader_left"]


def reader_left() -> bool:
    """Write what was printed so far, and return whether nobody reads it any more; then nothing more is written."""
    try:
        sys.stdout.flush()
        output = sys.stdout.fileno()
    except BrokenPipeError:
        output = sys.stdout.fileno()
    except ValueError:  # it is closed, or no file
        return False
    pipe = select.poll()
    pipe.register(output, 0)
    left = any(event & select.POLLERR for _, event in pipe.poll(0))
    if left:
        # Python writes the rest once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return left
