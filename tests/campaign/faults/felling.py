"""Faults in the middle of a work: what is done to its process and its files, and what must be there afterwards."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path
from random import Random
from typing import Optional

from .. import judge
from .child import Child, Ended, at_change, main_of
from .work import Known, Work

NOBODY = 65534


@contextlib.contextmanager
def disk(start: Path, place: Path, fault: str, draw: Random):
    """The folder of a case: for a full disk one of its own with little space left."""
    place.mkdir()
    mounted = False
    if fault == "full disk":
        used = sum(path.stat().st_size + 8192 for path in start.rglob("*"))
        size = used + draw.choice([0, 4096, 20_000, 100_000, 300_000])
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        shutil.copytree(start, place, dirs_exist_ok=True)
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)


def _state(work: Work, known: Known, place: Path, refused: bool) -> Optional[str]:
    """What is wrong with the results as they are now; `refused`: whether a mixture may be there, which is refused."""
    looked = Child(place, work.look).end()
    if work.before is None:
        return None  # judged by the next start
    if looked.code == 0:
        return None if looked.out in (known.before, known.after) else f"another result is taken: {looked.out[:300]}"
    if not refused:
        return f"the earlier result is lost: {looked.err[:500]}"
    return judge._failure_of_refusal(judge._error_in(looked.err)) if looked.code == 1 else f"it crashed: {looked}"


def _kill(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    Child(place, main_of(work.words), at_change(event, lambda: os.kill(os.getpid(), signal.SIGKILL))).end()
    return _state(work, known, place, refused=True)


def _kill_at_a_time(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    def prepare():
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, draw.uniform(0.01, 1.2))

    Child(place, main_of(work.words), prepare).end()
    return _state(work, known, place, refused=True)


def _stop(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    """Stopped while the same command is started a second time, then continued or killed."""
    first = Child(place, main_of(work.words), at_change(event, lambda: os.kill(os.getpid(), signal.SIGSTOP)))
    if not first.stopped():
        ended = first.end()
        return f"ended with {ended.code}: {ended.err[-500:]}" if ended.code else None
    failure = None
    locked = work.goes_on and (place / "out" / "run.lock").exists() and (place / "out" / "run.lock").stat().st_size > 0
    # Two exports wait for each other while they move their files.
    if locked:
        second = Child(place, main_of(work.words)).end()
        if second.code == 0:
            failure = "a second run was let into the folder"
        elif second.code < 0 or judge._NOISE.search(second.err):
            failure = f"a second run ended with {second.code}: {second.err[-600:]}"
    if draw.random() < 0.5:
        os.kill(first.pid, signal.SIGKILL)
        os.kill(first.pid, signal.SIGCONT)
        first.end()
    else:
        os.kill(first.pid, signal.SIGCONT)
        ended = first.end()
        if ended.code:
            failure = failure or f"continued, it ended with {ended.code}: {ended.err[-600:]}"
    return failure or _state(work, known, place, refused=True)


def _told(ended: Ended) -> Optional[str]:
    """What is wrong with how a command told of a refusal by the system."""
    if ended.code == 0:
        return None
    if ended.code < 0 or ended.code == 70:
        return f"it ended with {ended.code}: {ended.err[-1500:]}"
    if judge._NOISE.search(ended.err):
        return f"a trace: {ended.err[-1500:]}"
    return judge._failure_of_refusal(judge._error_in(ended.err))


def _full_disk(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    if not os.path.ismount(place):
        return _limited(work, known, draw, place, event)
    ended = Child(place, main_of(work.words)).end()
    return _told(ended) or _state(work, known, place, refused=False)


def _limited(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = draw.choice([0, 100, 4096, 20_000, 50_000, draw.randrange(200_000)])
        limited = at_change(event, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 4096), -1)))
        limited()

    ended = Child(place, main_of(work.words), prepare).end()
    return _told(ended) or _state(work, known, place, refused=False)


def _lost_rights(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    """Rights that are taken away in the middle of work, from a process of an ordinary user."""
    if os.getuid():
        user = os.getuid()
    else:
        user = NOBODY
        for path in [place, *place.rglob("*")]:
            os.lchown(path, user, user)

    def take():
        os.chmod(place, 0o500)
        for path in place.rglob("*"):
            if path.is_dir() and draw.random() < 0.5:
                os.chmod(path, 0o500)

    def prepare():
        done = [False]

        def once():
            if not done[0]:
                done[0] = True
                take()

        if user != os.getuid():
            os.setgid(user)
            os.setuid(user)
        os.environ["HOME"] = str(place)
        at_change(event, once)()

    ended = Child(place, main_of(work.words), prepare).end()
    for path in [place, *place.rglob("*")]:
        if not path.is_symlink():
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
            if not os.getuid():
                os.chown(path, 0, 0)
    return _told(ended) or _state(work, known, place, refused=False)


def _torn(work: Work, known: Known, draw: Random, place: Path, event: int) -> Optional[str]:
    """Killed, and then a file that it wrote ends earlier, or in zeros, as after a power cut."""
    old = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    Child(place, main_of(work.words), at_change(event, lambda: os.kill(os.getpid(), signal.SIGKILL))).end()
    written = [path for path in sorted(place.rglob("*")) if path.is_file() and old.get(path) != path.stat().st_mtime_ns]
    written = [path for path in written if path.name not in work.given]
    if written:
        path = draw.choice(written)
        content = path.read_bytes()
        end = draw.randrange(len(content) + 1)
        path.write_bytes(content[:end] + (bytes(len(content) - end) if draw.random() < 0.3 else b""))
    return _state(work, known, place, refused=True)


FAULTS = {
    "kill": _kill,
    "kill at a time": _kill_at_a_time,
    "stop": _stop,
    "full disk": _full_disk,
    "limited files": _limited,
    "lost rights": _lost_rights,
    "torn": _torn,
}
