"""Whether this process runs and works: what computes, reads or writes for long is told from what hangs."""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, Dict, FrozenSet, Iterable, Iterator

__all__ = ["Activity", "RunningClock", "list_threads"]

# 2 % of a processor: far more than a process needs to wait, less than a busy machine leaves to one that works.
_LEAST_S, _WINDOW_S = 0.1, 5.0
# So much from or to a disk counts as much as a second of computing, and so many short waits of the main thread do: for
# the answers of a file server perhaps, of which a folder of many files takes one or more for each.
_BYTES_PER_S, _WAITS_PER_S = 20e6, 5000

_LONGEST_TICK_S = 5.0  # that a busy machine makes of half a second


class RunningClock:
    """Seconds that this process has run, as far as it says so again and again: while it is stopped, the clock stands.

    Who has not run could not hear the others either, and must not blame them for silence.
    """

    def __init__(self):
        self.now, self._last = 0.0, time.monotonic()

    def tick(self) -> float:
        """Count what has passed since this was called last, and return the time."""
        last, self._last = self._last, time.monotonic()
        self.now += min(self._last - last, _LONGEST_TICK_S)
        return self.now


def list_threads() -> FrozenSet[int]:
    """The threads of this process, by their numbers; none where the system does not tell."""
    try:
        return frozenset(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return frozenset()


class Activity:
    """The work of this process since it was asked last.

    Work is time of processors, bytes from and to disks, and short waits of the main thread. While this one waits for a
    disk, as at the end of a large file, it is what the machine writes, since nothing tells whose bytes these are.

    Args:
        except_of: Threads that do not count: those of Horovod look for gradients all the time.
        except_name: Nor do Python's threads of this name.
        clock: Seconds.
    """

    def __init__(
        self, except_of: Iterable[int] = (), except_name: str = "", clock: Callable[[], float] = time.monotonic
    ):
        self._except, self._name, self._clock = frozenset(except_of), except_name, clock
        self._excepted: Dict[int, float] = {}
        self._machine = self._for_disk = 0
        self._since, self._done = clock(), self._work()

    def advanced(self) -> bool:
        """Whether the process has worked, as soon as that is more than what waiting takes."""
        now, done = self._clock(), self._work()
        advanced = done - self._done >= _LEAST_S
        if advanced or now - self._since > _WINDOW_S:
            self._since, self._done = now, done
        return advanced

    def _work(self) -> float:
        """Seconds of computing, and all else in the same unit."""
        machine = _written_by_machine()
        if _waits_for_disk():
            self._for_disk += machine - self._machine
        self._machine = machine
        others = (_bytes() + self._for_disk) / _BYTES_PER_S + _waits() / _WAITS_PER_S
        # Last and without a pause between them: the excepted threads go on meanwhile.
        for thread in self._threads():
            # The time of a thread that has ended stays that of the process.
            self._excepted[thread] = _seconds_of(thread) or self._excepted.get(thread, 0.0)
        return time.process_time() - sum(self._excepted.values()) + others

    def _threads(self) -> Iterator[int]:
        yield from self._except
        for thread in threading.enumerate():
            if thread.name == self._name and thread.native_id:
                yield thread.native_id


def _seconds_of(thread: int) -> float:
    # Linux gives every thread of a process a clock of this number. To read it takes no file, for which other threads
    # of Python would run in between.
    try:
        return time.clock_gettime(~thread << 3 | 6)
    except (AttributeError, OSError):  # another system, or it has ended
        return 0.0


def _waits_for_disk() -> bool:
    try:
        with open(f"/proc/self/task/{os.getpid()}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "D"
    except OSError:
        return False


def _waits() -> int:
    """How often the main thread has given its processor away to wait."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches")), 0)
    except OSError:
        return 0


def _bytes() -> int:
    """Read from and written to disks by this process, and all that its main thread has read and written as files.

    What was written may still be in memory, and not every file system tells what came from elsewhere.
    """
    disks, files = _numbers("/proc/self/io"), _numbers(f"/proc/self/task/{os.getpid()}/io")
    return sum(disks.get(f"{way}_bytes:", 0) + files.get(f"{way[0]}char:", 0) for way in ("read", "write"))


def _written_by_machine() -> int:
    """Bytes that have come to the disks of the machine."""
    return 1024 * _numbers("/proc/vmstat").get("pgpgout", 0)


def _numbers(path: str) -> Dict[str, int]:
    try:
        with open(path) as file:
            return {name: int(number) for name, number in map(str.split, file)}
    except OSError:
        return {}
