"""Faults in the middle of work that writes: kills, a stop, a full disk, lost rights, torn files; and the next start.

Every kind of work begins in a folder with an earlier result. After the fault either the earlier result is there, or the
new one, or a mixture that is refused; the same command then ends with the new one.
"""

from __future__ import annotations

import collections
import time
from pathlib import Path
from random import Random
from typing import Optional

from .. import judge
from .child import Child, main_of
from .felling import FAULTS, disk
from .two_workers import fell_worker
from .work import KINDS, SHARES, Known, Work, learn, make_sources

__all__ = ["KINDS", "row"]


def row(name: str, args, kinds: int, folder: Path) -> dict:
    """Run faults in a kind of work, print its line, and return its figures."""
    from ..__main__ import show

    # A job of two workers takes so long that few faults leave it out.
    share = SHARES.get(name, 1.2) if kinds > 1 else 1.0
    number = max(name != "two workers", round(args.faults / kinds * share))
    home = folder / "faults" / name.replace(" ", "_")
    start, ended, failures = time.monotonic(), collections.Counter(), 0
    if not (folder / "new.params").exists() and name != "two workers":
        make_sources(folder)
    known = None if name == "two workers" else learn(KINDS[name], folder, home)
    for case in range(args.first, args.first + number):
        draw = Random(f"{args.seed}:{name}:{case}")
        fault = list(FAULTS)[case % len(FAULTS)]
        if known is None:
            home.mkdir(parents=True, exist_ok=True)
            fault, failure = fell_worker(case, home)
        else:
            failure = _case(KINDS[name], known, fault, draw, home / f"case{case}")
        ended[fault] += 1
        if failure:
            failures += 1
            print(f"  {name} {case}: {fault}: {failure}", flush=True)
    return show(name, number, ended, failures, time.monotonic() - start)


def _case(work: Work, known: Known, fault: str, draw: Random, place: Path) -> Optional[str]:
    """Run a fault; return what was wrong, or None."""
    with disk(known.start, place, fault, draw):
        event = draw.randrange(1, known.events + 1)
        failure = FAULTS[fault](work, known, draw, place, event)
        if failure:
            return f"event {event}: {failure}"
        if fault == "full disk":  # it stays full; what was there before is judged above
            return None
        again = Child(place, main_of(work.words)).end()
        if again.code or judge._NOISE.search(again.err):
            return f"event {event}: the next start ended with {again.code}: {again.err[-1500:]}"
        said = Child(place, work.look).end()
        if said.out != known.after:
            return f"event {event}: the next start ended otherwise: {said.out[:300]} {said.err[:300]}"
        left = [str(path) for path in place.rglob(".gluon_effnets-writing*")]
        return f"event {event}: left after the next start: {left}" if left else None
