"""Faults in the middle of work that writes: kills, a stop, a full disk, lost rights, torn files; and the next start.

Every kind of work begins in a folder with an earlier result. After the fault either the earlier result is there, or the
new one, or a mixture that is refused; the same command then ends with the new one.
"""

from __future__ import annotations

import collections
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from . import judge
from .inputs import PHOTO
from .sources import SIDE, TORCH_MODEL

FAULTS = ("kill", "kill at a time", "stop", "full disk", "limited files", "lost rights", "torn")
NOBODY = 65534
# What a process that writes does to folders, as Python's audit names it.
_EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.chmod", "tempfile.mkdtemp")


class Work(NamedTuple):
    """Something that writes.

    Args:
        words: The command; its paths are relative to the folder of the case.
        given: Files of the sources that lie there before.
        before: The command whose result lies there, or None.
        look: Returns what the result says, for comparison; raises ValueError or OSError where it is refused.
        goes_on: Whether a second start meanwhile must be refused.
    """

    words: Sequence[str]
    given: Sequence[str]
    before: Optional[Sequence[str]]
    look: Callable[[], Any]
    goes_on: bool = False


def _predict(*words: str) -> Callable[[], Any]:
    def look():
        from gluon_effnets.__main__ import main

        code = main([*words, PHOTO])
        if code:
            raise ValueError("refused")

    return look


def _trained(names: Sequence[str]) -> Callable[[], Any]:
    """The bytes of the last checkpoints."""

    def look():
        import hashlib

        for name in names:
            folders = sorted((Path("out") / name / "checkpoints").glob("update-*"))
            if not folders:
                raise ValueError("no checkpoint")
            for path in sorted(folders[-1].glob("*.params")):
                print(folders[-1].name, path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    return look


def _export(*more: str, model: str = "idle_tiny", weights: str = "") -> Work:
    def words(file: str) -> List[str]:
        return ["export", model, file, "net", "--image-size", str(SIDE), *more]

    files = [f"{weights}old.params", f"{weights}new.params"]
    return Work(words(files[1]), [*files, PHOTO], words(files[0]), _predict("predict", "net.json"))


KINDS: Dict[str, Work] = {
    "training": Work(["train", "--config", "tiny.yaml", "--out", "out"], ["tiny.yaml"], None, _trained([""]), True),
    "staged training": Work(
        ["train", "--config", "staged.yaml", "--out", "out"],
        ["staged.yaml"],
        None,
        _trained(["supernet", "recalibrate", "gate"]),
        True,
    ),
    "export": _export(),
    "export to ONNX": _export("--format", "onnx"),
    "routed export": _export("--routed", "--format", "onnx", model="ds_mobilenet_tiny", weights="gated_"),
    "8-bit export": _export("--int8", "--data", "recordio:records", "--images", "8"),
    "conversion": Work(
        ["convert", "--model", TORCH_MODEL, "new.safetensors", "net.params"],
        ["old.safetensors", "new.safetensors", PHOTO],
        ["convert", "--model", TORCH_MODEL, "old.safetensors", "net.params"],
        _predict("predict", "--image-size", str(SIDE), TORCH_MODEL, "net.params"),
    ),
    "two workers": Work([], [], None, lambda: None),
}
KINDS["8-bit export"] = KINDS["8-bit export"]._replace(given=[*KINDS["8-bit export"].given, "records"])
_SHARES = {"staged training": 0.5, "8-bit export": 0.35, "routed export": 0.6, "two workers": 0.03}


class Ended(NamedTuple):
    """How a child ended: its exit code, or minus the signal; and what it said."""

    code: int
    out: str
    err: str


class _Child:
    """A forked child that calls a function in a folder."""

    def __init__(self, folder: Path, run: Callable[[], Any], prepare: Callable[[], None] = lambda: None):
        self._texts = [tempfile.TemporaryFile(dir=folder.parent) for _ in (1, 2)]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 70
        try:
            for n, file in zip((1, 2), self._texts):
                os.dup2(file.fileno(), n)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
            resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
            os.chdir(folder)
            prepare()
            code = run() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)

    def stopped(self) -> bool:
        """Wait until it stops or ends; whether it stopped."""
        status = os.waitpid(self.pid, os.WUNTRACED)[1]
        self._status = None if os.WIFSTOPPED(status) else status
        return os.WIFSTOPPED(status)

    _status: Optional[int] = None

    def end(self) -> Ended:
        """Wait for its end."""
        begin = time.monotonic()
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
            elif time.monotonic() - begin > judge.WALL_S:
                os.kill(self.pid, signal.SIGKILL)
                self._status = os.waitpid(self.pid, 0)[1]
                return Ended(-1000, "", "it hangs")
            else:
                time.sleep(0.02)
        texts = []
        for file in self._texts:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        code = -os.WTERMSIG(self._status) if os.WIFSIGNALED(self._status) else os.WEXITSTATUS(self._status)
        return Ended(code, *texts)


def _main(words: Sequence[str]) -> Callable[[], int]:
    def run():
        from gluon_effnets.__main__ import main

        return main(list(words))

    return run


def _on_change(act: Callable[[int], None]) -> Callable[[], None]:
    """Prepare a process to do something before each of its changes of a folder, given their number from 1."""

    def prepare():
        seen, home = [0], os.getcwd()

        def hook(event, args):
            writes = event in _EVENTS or (event == "open" and isinstance(args[1], str) and args[1][:1] in "wax")
            if writes and (home in str(args) or not str(args[0]).startswith(("/", "3"))):
                seen[0] += 1
                act(seen[0])

        sys.addaudithook(hook)

    return prepare


def _at_change(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Prepare a process to do something before its n-th change of a folder."""
    return _on_change(lambda count: act() if count == number else None)


def _count_changes(folder: Path, words: Sequence[str]) -> int:
    """How many changes of folders a command makes."""
    counter, counted = folder.parent / "changes", [0]

    def run():
        code = _main(words)()
        counter.write_text(str(counted[0]))
        return code

    ended = _Child(folder, run, _on_change(lambda count: counted.__setitem__(0, count))).end()
    if ended.code:
        raise RuntimeError(f"without a fault: {ended.err}")
    return int(counter.read_text())


class _Known(NamedTuple):
    """What is known of a work without faults: its start, and what the earlier and the new result say."""

    start: Path
    before: Optional[str]
    after: str
    events: int


def _known(work: Work, folder: Path, home: Path) -> _Known:
    start = home / "start"
    start.mkdir(parents=True)
    for name in work.given:
        source = folder / name
        shutil.copytree(source, start / name) if source.is_dir() else shutil.copy(source, start / name)
    before = None
    if work.before:
        ended = _Child(start, _main(work.before)).end()
        if ended.code:
            raise RuntimeError(f"without a fault: {ended.err}")
        before = _Child(start, work.look).end().out
    whole = home / "whole"
    shutil.copytree(start, whole)
    events = _count_changes(whole, work.words)
    after = _Child(whole, work.look).end().out
    if not after or after == before:
        raise RuntimeError(f"the results do not differ: {after}")
    return _Known(start, before, after, events)


def make_sources(folder: Path) -> None:
    """Two sets of weights for each work, made in a child."""

    def run():
        from networks import trained

        from gluon_effnets.models import Preprocessing
        from gluon_effnets.weights import write_official

        for seed, age in enumerate(("old", "new")):
            for prefix, name in (("", "idle_tiny"), ("gated_", "ds_mobilenet_tiny")):
                net = _changed(trained(name, classes=3), seed)
                net.preprocessing = Preprocessing(image_size=SIDE)
                net.save_parameters(str(folder / f"{prefix}{age}.params"))
            write_official(_changed(trained(TORCH_MODEL, classes=3), seed), folder / f"{age}.safetensors", "timm")

    ended = _Child(folder, run).end()
    if ended.code:
        raise RuntimeError(ended.err)


def _changed(net, seed: int):
    """Other weights of the last layer, so that the answers differ."""
    for param in net.output.collect_params().values():
        param.set_data(param.data() * (1 + 2 * seed))
    return net


def row(name: str, args, kinds: int, folder: Path) -> dict:
    """Run faults in a kind of work, print its line, and return its figures."""
    from .__main__ import show

    # A job of two workers takes so long that few faults leave it out.
    share = _SHARES.get(name, 1.2) if kinds > 1 else 1.0
    number = max(name != "two workers", round(args.faults / kinds * share))
    home = folder / "faults" / name.replace(" ", "_")
    start, ended, failures = time.monotonic(), collections.Counter(), 0
    if not (folder / "new.params").exists() and name != "two workers":
        make_sources(folder)
    known = None if name == "two workers" else _known(KINDS[name], folder, home)
    for case in range(args.first, args.first + number):
        draw = Random(f"{args.seed}:{name}:{case}")
        fault = FAULTS[case % len(FAULTS)]
        if known is None:
            home.mkdir(parents=True, exist_ok=True)
            fault, failure = _workers(case, home)
        else:
            failure = _case(KINDS[name], known, fault, draw, home / f"case{case}")
        ended[fault] += 1
        if failure:
            failures += 1
            print(f"  {name} {case}: {fault}: {failure}", flush=True)
    return show(name, number, ended, failures, time.monotonic() - start)


def _case(work: Work, known: _Known, fault: str, draw: Random, place: Path) -> Optional[str]:
    """Run a fault; return what was wrong, or None."""
    with _disk(known.start, place, fault, draw):
        event = draw.randrange(1, known.events + 1)
        failure = _FAULTS[fault](work, known, draw, place, event)
        if failure:
            return f"event {event}: {failure}"
        if fault == "full disk":  # it stays full; what was there before is judged above
            return None
        again = _Child(place, _main(work.words)).end()
        if again.code or judge._NOISE.search(again.err):
            return f"event {event}: the next start ended with {again.code}: {again.err[-1500:]}"
        said = _Child(place, work.look).end()
        if said.out != known.after:
            return f"event {event}: the next start ended otherwise: {said.out[:300]} {said.err[:300]}"
        left = [str(path) for path in place.rglob(".gluon_effnets-writing*")]
        return f"event {event}: left after the next start: {left}" if left else None


@contextlib.contextmanager
def _disk(start: Path, place: Path, fault: str, draw: Random):
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


def _state(work: Work, known: _Known, place: Path, refused: bool) -> Optional[str]:
    """What is wrong with the results as they are now; `refused`: whether a mixture may be there, which is refused."""
    looked = _Child(place, work.look).end()
    if work.before is None:
        return None  # judged by the next start
    if looked.code == 0:
        return None if looked.out in (known.before, known.after) else f"another result is taken: {looked.out[:300]}"
    if not refused:
        return f"the earlier result is lost: {looked.err[:500]}"
    return judge._failure_of_refusal(judge._error_in(looked.err)) if looked.code == 1 else f"it crashed: {looked}"


def _kill(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
    _Child(place, _main(work.words), _at_change(event, lambda: os.kill(os.getpid(), signal.SIGKILL))).end()
    return _state(work, known, place, refused=True)


def _kill_at_a_time(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
    def prepare():
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, draw.uniform(0.01, 1.2))

    _Child(place, _main(work.words), prepare).end()
    return _state(work, known, place, refused=True)


def _stop(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
    """Stopped while the same command is started a second time, then continued or killed."""
    first = _Child(place, _main(work.words), _at_change(event, lambda: os.kill(os.getpid(), signal.SIGSTOP)))
    if not first.stopped():
        ended = first.end()
        return f"ended with {ended.code}: {ended.err[-500:]}" if ended.code else None
    failure = None
    locked = work.goes_on and (place / "out" / "run.lock").exists() and (place / "out" / "run.lock").stat().st_size > 0
    # Two exports wait for each other while they move their files.
    if locked:
        second = _Child(place, _main(work.words)).end()
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


def _full_disk(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
    if not os.path.ismount(place):
        return _limited(work, known, draw, place, event)
    ended = _Child(place, _main(work.words)).end()
    return _told(ended) or _state(work, known, place, refused=False)


def _limited(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = draw.choice([0, 100, 4096, 20_000, 50_000, draw.randrange(200_000)])
        limited = _at_change(event, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 4096), -1)))
        limited()

    ended = _Child(place, _main(work.words), prepare).end()
    return _told(ended) or _state(work, known, place, refused=False)


def _lost_rights(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
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
        _at_change(event, once)()

    ended = _Child(place, _main(work.words), prepare).end()
    for path in [place, *place.rglob("*")]:
        if not path.is_symlink():
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
            if not os.getuid():
                os.chown(path, 0, 0)
    return _told(ended) or _state(work, known, place, refused=False)


def _torn(work: Work, known: _Known, draw: Random, place: Path, event: int) -> Optional[str]:
    """Killed, and then a file that it wrote ends earlier, or in zeros, as after a power cut."""
    old = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    _Child(place, _main(work.words), _at_change(event, lambda: os.kill(os.getpid(), signal.SIGKILL))).end()
    written = [path for path in sorted(place.rglob("*")) if path.is_file() and old.get(path) != path.stat().st_mtime_ns]
    written = [path for path in written if path.name not in work.given]
    if written:
        path = draw.choice(written)
        content = path.read_bytes()
        end = draw.randrange(len(content) + 1)
        path.write_bytes(content[:end] + (bytes(len(content) - end) if draw.random() < 0.3 else b""))
    return _state(work, known, place, refused=True)


_FAULTS = {
    "kill": _kill,
    "kill at a time": _kill_at_a_time,
    "stop": _stop,
    "full disk": _full_disk,
    "limited files": _limited,
    "lost rights": _lost_rights,
    "torn": _torn,
}


def _workers(case: int, home: Path):
    """One of two Horovod workers is killed, or stops, in its n-th update; the same command then ends as without it."""
    import workers
    from recipes import TINY

    fault = ("kill", "freeze", "leave")[case % 3]

    def job(out: str, **variables: str):
        (home / "tiny.yaml").write_text(TINY)
        changes = ("duration=8it", "data.source=synthetic:64", "data.batch_size=4", "distributed.timeout_s=40")
        command = [
            str(workers.HOROVODRUN),
            "-np",
            "2",
            *workers.FAULTY_WORKER,
            "--config",
            str(home / "tiny.yaml"),
            "--hvd",
        ]
        command += ["--out", str(home / out), *(word for change in changes for word in ("--set", change))]
        environment = workers.environment(**variables)
        return subprocess.run(command, capture_output=True, text=True, timeout=judge.WALL_S, env=environment)

    def last(out: str) -> Dict[str, bytes]:
        folder = sorted((home / out / "checkpoints").glob("update-*"))[-1]
        return {path.name: path.read_bytes() for path in folder.glob("*.params")}

    if not (home / "whole").exists() and job("whole").returncode:
        return fault, "without a fault it failed"
    out = f"case{case}"
    felled = job(out, FAULT=f"{fault}:{case % 2}:{1 + case % 7}", MARKER=str(home / f"{out}.marker"))
    if felled.returncode == 0:
        return fault, "it ended with 0"
    again = job(out)
    if again.returncode:
        return fault, f"the next start ended with {again.returncode}: {again.stderr[-800:]}"
    return fault, None if last(out) == last("whole") else "the next start ended with other weights"
