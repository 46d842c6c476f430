"""Start a command again after a crash: python -m gluon_effnets.train.supervise --restarts N -- horovodrun ...

A run that starts again goes on from its last checkpoint. Not started again: a run that finished, that a user's mistake
ended (exit code 1), or that a signal stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import List, Optional, Sequence

from .exit_codes import FINAL, USER_ERROR, VERDICT_VARIABLE, stopped

__all__ = ["main", "supervise"]

PAUSE_S = 2.0  # ports and devices of the dead processes become free


def supervise(command: Sequence[str], restarts: int) -> int:
    """Run `command`, and up to `restarts` times again after a crash; return the last exit code.

    SIGTERM and SIGINT are passed on to the command, which is then not started again; between two starts they end the
    supervisor itself.
    """
    signals: List[int] = []
    child: Optional[subprocess.Popen] = None

    def pass_on(signum, frame):
        signals.append(signum)
        if child and child.poll() is None:
            child.send_signal(signum)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for start in range(restarts + 1):
            with tempfile.NamedTemporaryFile("r", prefix="gluon_effnets-") as verdict:
                child = subprocess.Popen(command, env={**os.environ, VERDICT_VARIABLE: verdict.name})
                if signals:  # it came while there was no child to pass it on to
                    child.send_signal(signals[-1])
                code = child.wait()
                code = stopped(-code) if code < 0 else code
                told = verdict.read()
            if code == 0 or signals or (told and int(told) in FINAL) or start == restarts:
                return int(told or code) if code else 0
            print(f"\nended with exit code {told or code}; start {start + 2} of {restarts + 1}", file=sys.stderr)
            # --fresh would throw away what the restart is to go on from.
            command = [part for part in command if part != "--fresh"]
            _pause(signals)
            if signals:
                return stopped(signals[-1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise AssertionError("the loop returns at its last start")


def _pause(signals: List[int]) -> None:
    # A handler that ran does not end a longer sleep.
    end = time.monotonic() + PAUSE_S
    while not signals and time.monotonic() < end:
        time.sleep(0.05)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry of the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gluon_effnets.train.supervise", description=__doc__)
    parser.add_argument("--restarts", type=int, default=2, help="how often at most (default 2)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command")
    args = parser.parse_args(argv)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    try:
        if not command or args.restarts < 0:
            raise ValueError("give --restarts N (at least 0), then -- and the command to run")
        return supervise(command, args.restarts)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
