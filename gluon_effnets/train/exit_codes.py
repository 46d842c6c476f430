"""How a run ended, as the exit code of its processes."""

from __future__ import annotations

import os

__all__ = [
    "CRASHED",
    "FINISHED",
    "FINAL",
    "USER_ERROR",
    "VERDICT_VARIABLE",
    "WORKER_LOST",
    "is_supervised",
    "record_verdict",
    "stopped",
]

FINISHED = 0
USER_ERROR = 1  # a message says what to change
USAGE = 2  # of the command line, by argparse
CRASHED = 70  # an error that we did not foresee, with its trace
WORKER_LOST = 75  # a worker was killed or hung; the same command goes on from the last checkpoint
_SIGNAL_BASE = 128

# Starting the same command again after one of these would change nothing, or is not wanted.
FINAL = {FINISHED, USER_ERROR, USAGE, _SIGNAL_BASE + 2, _SIGNAL_BASE + 15}

VERDICT_VARIABLE = "GLUON_EFFNETS_VERDICT"


def stopped(signum: int) -> int:
    """Exit code of a run that a signal ended after a checkpoint: 130 (SIGINT) or 143 (SIGTERM)."""
    return _SIGNAL_BASE + signum


def is_supervised() -> bool:
    """Whether a supervisor started this process, for the first time or again."""
    return VERDICT_VARIABLE in os.environ


def record_verdict(code: int) -> None:
    """Tell a supervisor how the run ended: horovodrun answers every failure with exit code 1."""
    path = os.environ.get(VERDICT_VARIABLE)
    if path:
        try:
            with open(path, "w") as file:
                file.write(str(code))
        except OSError:  # a supervisor on another host; it then counts the end as a crash
            pass
