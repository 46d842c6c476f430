"""Forked children that run a command, and may do something in its middle."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Sequence

from .. import judge

# What a process that writes does to folders, as Python's audit names it.
_EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.chmod", "tempfile.mkdtemp")


class Ended(NamedTuple):
    """How a child ended: its exit code, or minus the signal; and what it said."""

    code: int
    out: str
    err: str


class Child:
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


def main_of(words: Sequence[str]) -> Callable[[], int]:
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


def at_change(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Prepare a process to do something before its n-th change of a folder."""
    return _on_change(lambda count: act() if count == number else None)


def count_changes(folder: Path, words: Sequence[str]) -> int:
    """How many changes of folders a command makes."""
    counter, counted = folder.parent / "changes", [0]

    def run():
        code = main_of(words)()
        counter.write_text(str(counted[0]))
        return code

    ended = Child(folder, run, _on_change(lambda count: counted.__setitem__(0, count))).end()
    if ended.code:
        raise RuntimeError(f"without a fault: {ended.err}")
    return int(counter.read_text())
