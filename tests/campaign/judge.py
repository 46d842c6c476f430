"""Cases run in forked children and judged: one short message and an exit code, or an answer that makes sense.

A child takes a number of cases one after the other and tells of each as it ends, so that the case in which a child
crashes or hangs is known; the next child goes on behind it. The parent has imported everything and computed nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

CPU_S = 30  # of one case
WALL_S = 900  # of one case, on a machine that is busy
MOST_BYTES = 12 << 30  # of address space, most of it libraries
MOST_TEXT = 2000
CASES_PER_CHILD = 40
_NOISE = re.compile(
    r"Traceback|Stack trace|\[\d\d:\d\d:\d\d\] |^ *\[bt\]|\.py:\d+: \w*Warning|Fatal Python|panicked at", re.M
)
_NAN = re.compile(r"\bnan\b ?%|\binf\b ?%", re.I)
# What only code of a stranger would do in these cases.
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn", "socket.connect")


class Call(NamedTuple):
    """What a case does.

    Args:
        run: Returns an exit code as commands do, or raises ValueError, TypeError or OSError as functions do.
        same: Whether an answer must be the one that the undamaged input has.
        damaged: Whether anything is damaged at all; what is not must be answered.
    """

    run: Callable[[], Any]
    same: bool = False
    damaged: bool = True


class Verdict(NamedTuple):
    """How a case ended: `refused`, `answered`, or a failure with its reason."""

    number: int
    ended: str
    failure: Optional[str] = None
    said: str = ""


class Part(NamedTuple):
    """A kind of input: `make` puts case after case into a folder."""

    name: str
    make: Callable[[Path, Random], Call]


def run_part(part: Part, numbers: range, seed: int, folder: Path) -> Iterator[Verdict]:
    """Run cases of a part, each in a folder of its own that is gone afterwards."""
    left = list(numbers)
    while left:
        told = 0
        for verdict in _child(part, left[:CASES_PER_CHILD], seed, folder):
            told += 1
            yield verdict
        del left[: max(told, 1)]


def _child(part: Part, numbers: List[int], seed: int, folder: Path) -> Iterator[Verdict]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with contextlib.suppress(BaseException):
            _work(part, numbers, seed, folder, writer)
        os._exit(0)
    os.close(writer)
    number, text, hung = 0, b"", False
    with open(reader, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], WALL_S)[0]:
                os.kill(child, signal.SIGKILL)
                hung = True
            got = pipe.read(1 << 16)
            if not got:
                break
            text += got
            *lines, text = text.split(b"\n")
            for line in lines:
                number += 1
                yield Verdict(*json.loads(line))
    status = os.waitpid(child, 0)[1]
    if number < len(numbers):
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        what = f"used more than {CPU_S} s of the processor" if ended == signal.SIGPROF else f"ended by signal {ended}"
        yield Verdict(numbers[number], "failure", f"took more than {WALL_S} s" if hung else what)


def _work(part: Part, numbers: List[int], seed: int, folder: Path, writer: int) -> None:
    _limit_memory()
    ran: List[str] = []
    sys.addaudithook(lambda event, args: _watch(event, args, ran, folder))
    for number in numbers:
        place = folder / "cases" / part.name / str(number)
        shutil.rmtree(place, ignore_errors=True)
        try:
            place.mkdir(parents=True)
            verdict = _judged(part, number, Random(f"{seed}:{part.name}:{number}"), place, ran)
        except Exception as error:
            told = traceback.format_exc(limit=-3)
            verdict = Verdict(number, "failure", f"the campaign itself: {type(error).__name__}: {error}: {told}")
        os.chdir(folder)
        os.write(writer, json.dumps(verdict).encode() + b"\n")
        shutil.rmtree(place, ignore_errors=True)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch(event: str, args: Tuple, ran: List[str], folder: Path) -> None:
    """Remember what runs code, and what is loaded as code from the folder of a case."""
    if event in _FORBIDDEN:
        ran.append(f"{event}{str(args)[:200]}")
    elif event in ("ctypes.dlopen", "import", "open"):
        name = str(args[0]) if args else ""
        if event == "open" and not name.endswith("canary.py"):
            return
        if "canary" in name or (event == "ctypes.dlopen" and name.startswith(str(folder))):
            ran.append(f"{event}: {name[:200]}")


def _judged(part: Part, number: int, draw: Random, place: Path, ran: List[str]) -> Verdict:
    call = part.make(place, draw)
    before = _snapshot(place)
    del ran[:]
    os.chdir(place)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    with _captured(place.parent / f"{number}.out") as text:
        code, raised = _called(call.run)
    signal.setitimer(signal.ITIMER_PROF, 0)
    out, err = text
    said = raised if raised is not None else _error_in(err)
    refused = code not in (0, None) or raised is not None
    failure = _failure_of_all(ran, err, out, before, _snapshot(place), refused)
    if failure is None and refused:
        failure = _failure_of_refusal(said) if call.damaged else f"refused, though undamaged: {said}"
    elif failure is None and call.same and out != _ANSWERS.get(part.name, out):
        failure = f"answered otherwise than the undamaged input: {out.strip()[:300]}"
    return Verdict(number, "failure" if failure else "refused" if refused else "answered", failure, said[:600])


_ANSWERS: Dict[str, str] = {}  # of the undamaged inputs, by parts


def learn_answer(part: Part, seed: int, folder: Path, make: Callable[[Path, Random], Call]) -> None:
    """Remember what the undamaged input of a part is answered."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        place = folder / "clean" / part.name
        place.mkdir(parents=True)
        os.chdir(place)
        call = make(place, Random(seed))
        with _captured(folder / "clean.out") as text:
            code, raised = _called(call.run)
        if code not in (0, None) or raised is not None:
            os.write(writer, f"!{raised or text[1]}".encode()[:60_000])
        else:
            os.write(writer, text[0].encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    if said.startswith("!"):
        raise RuntimeError(f"{part.name}: the undamaged input is refused: {said[1:]}")
    _ANSWERS[part.name] = said


def _called(run: Callable[[], Any]) -> Tuple[Any, Optional[str]]:
    """The exit code of a call, or what it raised as a function may."""
    try:
        return run(), None
    except SystemExit as end:
        return end.code, None
    except (ValueError, TypeError, OSError, ImportError) as error:
        return 1, str(error) or f"Traceback: a {type(error).__name__} without text"
    except BaseException as error:  # a function let it out
        return 1, f"Traceback: {type(error).__name__}: {error}"


@contextlib.contextmanager
def _captured(path: Path) -> Iterator[List[str]]:
    """What a block writes to standard output and error, by Python or not; filled in at its end."""
    text: List[str] = []
    sys.stdout.flush()
    kept, files = [os.dup(1), os.dup(2)], [open(f"{path}{n}", "w+b") for n in (1, 2)]
    standard = sys.stdout, sys.stderr
    for n, file in zip((1, 2), files):
        os.dup2(file.fileno(), n)
    sys.stdout, sys.stderr = open(1, "w", closefd=False, errors="backslashreplace"), open(2, "w", closefd=False)
    for handler in _handlers():
        handler.setStream(sys.stderr)
    try:
        yield text
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdout, sys.stderr = standard
        for n, copy in zip((1, 2), kept):
            os.dup2(copy, n)
            os.close(copy)
        for n, file in zip((1, 2), files):
            file.seek(0)
            text.append(file.read(1 << 20).decode(errors="replace"))
            file.close()
            os.unlink(f"{path}{n}")


def _handlers() -> list:
    import logging

    return [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]


def _error_in(err: str) -> str:
    """The message in what went to standard error: from its `error: ` on."""
    place = err.find("error: ")
    return err[place:] if place >= 0 else err


def _snapshot(place: Path) -> Dict[str, Tuple]:
    found = {}
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[os.path.relpath(path, place)] = (status.st_mode, status.st_size * (name in files), status.st_ino)
    return found


def _failure_of_all(ran, err: str, out: str, before: Dict, after: Dict, refused: bool) -> Optional[str]:
    if ran:
        return f"ran what a stranger wrote: {ran[0]}"
    if any("canary.ran" in name for name in after):
        return "ran what a stranger wrote: the canary is dead"
    if _NOISE.search(err):
        return f"a trace or noise of a library: {err[:600]}"
    left = [name for name in after if ".gluon_effnets-writing" in name]
    # What a check of records found is kept beside them, as a cache.
    names = (name for name in {*before, *after} if not name.endswith(".checked.npz"))
    changed = sorted(name for name in names if before.get(name) != after.get(name))
    if left or (refused and changed):
        return f"left half written: {left or changed}"
    if not refused and _NAN.search(out):
        return f"answered with numbers that are none: {out[:300]}"
    return None


def _failure_of_refusal(said: str) -> Optional[str]:
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return "refused without a message"
    if said.startswith("Traceback"):
        return f"raised what no function of ours announces: {said[:400]}"
    if len(said) > MOST_TEXT:
        return f"a message of {len(said):,} characters: {said[:200]}"
    if len(lines) > 6:
        return f"a message of {len(lines)} lines: {said[:600]}"
    if any(not (c.isprintable() or c in "\n\t") for c in said):
        return f"a message that a terminal obeys: {said[:200]!r}"
    return None
