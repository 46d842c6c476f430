"""The watch over a job of several processes: it notices dead and hanging ones, and lets all end together.

Horovod on Gloo waits for ever for a worker that hangs, and tells the others nothing of why one died. So every worker
keeps a TCP connection to a coordinator within worker 0, apart from Horovod's: it reports how far it is, twice a second,
and the coordinator answers with what concerns all: to end, with which exit code, or after which update to stop.

Who hangs follows from the number of exchanges (allreduce, broadcast) that each worker has entered: all go through the
same sequence, so the one that others wait for has entered the fewest. It hangs if it makes no progress. Progress is
whatever the program reports (a batch, an update, an exchange), and the work of its process (activity.py), so that what
takes long (start, evaluation, checkpoint, report) is none the worse for it. Within an update, which is short, work
alone counts no longer than `BUSY_FACTOR` times the limit: a worker that computes in circles hangs, too.

Messages are lines of JSON; a random token, broadcast by Horovod, keeps strangers out.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import threading
import time
from typing import Callable, Dict, List, Optional

from .activity import Activity, RunningClock
from .connection import CONNECT_S, Address, Connection, connect
from .exit_codes import WORKER_LOST, record_verdict

__all__ = ["THREAD_NAME", "TIMEOUT_S", "Coordinator", "Link"]

# Unless a recipe says otherwise: with the time that horovodrun takes, a job ends within a minute.
TIMEOUT_S = 40.0
BUSY_FACTOR = 10

THREAD_NAME = "watchdog"
HEARTBEAT_S = 0.5
_NEVER = 2**62
_NEXT = 2.0**-25  # less than what is between any two boundaries

_AGAIN = "The same command goes on from the last checkpoint."


def _say(text: str) -> None:
    print(f"\n{text}", file=sys.stderr, flush=True)


def _start_thread(target: Callable, *args) -> None:
    threading.Thread(target=target, args=args, name=THREAD_NAME, daemon=True).start()


@dataclasses.dataclass
class _Worker:
    """What the coordinator knows of a worker."""

    connection: Connection
    rank: int
    host: str
    heard: float  # when, by the coordinator's clock
    place: str = "starting"
    exchanges: int = 0
    idle: float = 0.0  # seconds without progress at `heard`
    earliest_stop: Optional[float] = None

    def __str__(self):
        return f"worker {self.rank} ({self.host})"


class Coordinator:
    """Hears all workers, and decides for all. Lives in threads of worker 0.

    `timeout_s` is the time without progress after which a worker counts as hanging, 0 for no limit.
    """

    def __init__(self, size: int, timeout_s: float, say: Callable[[str], None] = _say):
        self._size, self.timeout_s, self._say = size, timeout_s, say
        self._socket = socket.create_server(("", 0), backlog=size)
        self._token = os.urandom(16).hex()
        self._workers: Dict[int, _Worker] = {}
        self._lock = threading.RLock()
        self._left = threading.Condition(self._lock)
        self._clock, self._complete = RunningClock(), False
        self._ended = False
        self._stop_signal: Optional[int] = None
        _start_thread(self._accept)
        _start_thread(self._judge)

    @property
    def address(self) -> Address:
        """What workers need to connect."""
        name = socket.gethostname()
        hosts = [os.environ.get("HOROVOD_HOSTNAME", name), name]
        try:
            hosts.append(socket.gethostbyname(name))
        except OSError:
            pass
        return Address([*dict.fromkeys(hosts), "127.0.0.1"], self._socket.getsockname()[1], self._token)

    def _accept(self) -> None:
        while True:
            sock, _ = self._socket.accept()
            _start_thread(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(CONNECT_S)
        connection = Connection(sock)
        hello = connection.receive() or {}
        if hello.get("token") != self._token:
            connection.close()
            return
        sock.settimeout(None)
        worker = _Worker(connection, hello["rank"], hello["host"], self._clock.now)
        with self._lock:
            self._workers[worker.rank] = worker
            connection.send({"welcome": socket.gethostname()})
            self._complete = self._complete or len(self._workers) == self._size
            if self._stop_signal is not None:  # a wish that was there before this worker
                connection.send({"hold": True})
        while True:
            message = connection.receive()
            with self._lock:
                if message is None:
                    self._lose(worker)
                    break
                if message.get("bye"):
                    del self._workers[worker.rank]
                    self._left.notify_all()
                    break
                self._hear(worker, message)
        connection.close()

    def _hear(self, worker: _Worker, message: dict) -> None:
        worker.heard = self._clock.now
        for name in ("place", "exchanges", "idle"):
            setattr(worker, name, message.get(name, getattr(worker, name)))
        if worker.rank == 0:  # in this process, whose signs of life these are
            self._send({"alive": worker.place})
        if "failed" in message:
            where = f" on {worker}" if worker.rank else ""
            self._end(f"error{where}: {message['failed']}", message["code"])
        if message.get("left"):
            self._end(f"error: {worker} left before the end of the run, {worker.place}\n{_AGAIN}", WORKER_LOST)
        if "stop" in message and self._stop_signal is None:
            self._stop_signal = message["stop"]
            self._send({"hold": True})
        if "earliest_stop" in message:
            worker.earliest_stop = message["earliest_stop"]
            self._agree_on_stop()

    def _agree_on_stop(self) -> None:
        if not self._complete:
            return
        answers = [worker.earliest_stop for worker in self._workers.values()]
        earliest = [update for update in answers if update is not None]
        if len(earliest) == len(answers):
            self._send({"stop_at": max(earliest), "signal": self._stop_signal})

    def _lose(self, worker: _Worker) -> None:
        self._end(
            f"error: {worker} ended without a word (last seen {worker.place}): killed, or out of memory?\n{_AGAIN}",
            WORKER_LOST,
        )

    def _judge(self) -> None:
        while not self._ended:
            with self._lock:
                text = self._find_fault(self._clock.tick())
                if text:
                    self._end(f"error: {text}\n{_AGAIN}", WORKER_LOST)
            time.sleep(HEARTBEAT_S)

    def _find_fault(self, now: float) -> Optional[str]:
        """What is wrong with the workers that have not finished, if anything is."""
        if self._complete and self._workers and self.timeout_s:
            return _find_hanging(list(self._workers.values()), self.timeout_s, now)
        return None

    def wait_for_others(self) -> None:
        """Return when all other workers have finished, which still need the coordinator."""
        with self._lock:
            self._left.wait_for(lambda: not self._workers.keys() - {0})

    def _end(self, text: str, code: int) -> None:
        """End all workers, worker 0 last: with it goes the coordinator."""
        if not self._ended:
            self._ended = True
            self._say(text)
            record_verdict(code)
            self._send({"end": code})

    def _send(self, message: dict) -> None:
        for worker in sorted(self._workers.values(), key=lambda worker: -worker.rank):
            worker.connection.send(message)


def _find_hanging(workers: List[_Worker], timeout_s: float, now: float) -> Optional[str]:
    silent = [worker for worker in workers if now - worker.heard > timeout_s]
    fewest = min(worker.exchanges for worker in workers)
    behind = [worker for worker in workers if worker.exchanges == fewest]
    if not silent and any(worker.idle + now - worker.heard <= timeout_s for worker in behind):
        return None
    # One that was stopped may have waited before, and is not heard of for less than the limit.
    silent = silent or [worker for worker in behind if now - worker.heard > timeout_s / 2]
    if silent:
        names = ", ".join(f"{worker} (last seen {worker.place})" for worker in silent)
        silence = min(now - worker.heard for worker in silent)
        return f"no sign of life for {silence:.0f} s from {names}: process stopped, or network down?"
    if len(behind) == len(workers) > 1:
        places = "; ".join(f"{worker} {worker.place}" for worker in workers[:4])
        return f"no worker has made progress for {timeout_s:g} s: {places}"
    names = ", ".join(f"{worker} hangs {worker.place}" for worker in behind)
    return f"{names}; no progress for {timeout_s:g} s while the others wait"


class Link:
    """A worker's connection to the coordinator.

    Args:
        rank: Of this worker.
        address: Of the coordinator.
        timeout_s: As for `Coordinator`.
        leave: Ends the process at once; tests replace it.
        activity: Whether this process works.

    Raises:
        OSError: The coordinator cannot be reached.
    """

    def __init__(
        self,
        rank: int,
        address: Address,
        timeout_s: float,
        leave: Callable[[int], None] = os._exit,
        activity: Optional[Activity] = None,
    ):
        self.rank, self.timeout_s, self._leave = rank, timeout_s, leave
        self._activity = activity or Activity(except_name=THREAD_NAME)
        self._clock = RunningClock()
        self._place, self._exchanges, self._is_short = "starting", 0, False
        self._moved = self._marked = self._heard = self._clock.now
        self._state = threading.Condition()
        self._next_boundary: float = 0
        self._holding = False
        self._stop_at: Optional[float] = None
        self._signal = 0
        self._closing = False
        self._connection, self._server = connect(rank, address)
        self._place_of_server = "starting"
        _start_thread(self._listen)
        _start_thread(self._beat)

    def progress(self, place: str, exchange: bool = False, is_short: bool = False) -> None:
        """Note that this process moves on, and where it is.

        Args:
            place: As a message goes on behind the worker's name.
            exchange: Whether it enters an exchange.
            is_short: Whether what now comes is part of an update; all else may last as long as the process works.
        """
        is_news = is_short != self._is_short or (not is_short and place != self._place)
        self._place, self._is_short = place, is_short
        self._exchanges += exchange
        self._moved = self._marked = self._clock.now
        if is_news:  # should it be the last
            self._report()

    def enter_exchange(self) -> None:
        """Note that this process enters an exchange where it is."""
        self._exchanges += 1
        self._moved = self._marked = self._clock.now

    def ask_to_stop(self, signum: int) -> None:
        """Ask all workers to stop after the same update."""
        self._connection.send({"stop": signum})

    def must_stop(self, update: float) -> int:
        """Before the next update, `update` ones being done: the signal that ends the run here, or 0.

        Within an evaluation there are boundaries, too, between the numbers of updates. Every worker comes to the last
        one of each evaluation, and to greater ones later.
        """
        with self._state:
            self._next_boundary = update
            while self._holding and self._stop_at is None:
                self._state.wait()
            if self._stop_at is not None and update >= self._stop_at:
                return self._signal
            self._next_boundary = update + _NEXT
            return 0

    def pass_last_boundary(self) -> None:
        """No update is left: a wish to stop comes too late."""
        with self._state:
            self._next_boundary = _NEVER

    def fail(self, text: str, code: int) -> None:
        """End all workers with this message and exit code. Returns only if the coordinator does not answer."""
        self._connection.send({"failed": text, "code": code})
        time.sleep(CONNECT_S)
        self._closing = True

    def leave_early(self) -> None:
        """End all workers if this process ends while the run is not over."""
        if not self._closing:
            self._report(left=True)
            time.sleep(CONNECT_S)

    def close(self) -> None:
        """The run is over for this worker, as it should be."""
        self._closing = True
        self._connection.send({"bye": True})

    def _beat(self) -> None:
        while not self._closing:
            now = self._clock.tick()
            if self._activity.advanced() and self._may_work(now):
                self._moved = now
            self._report()
            # The coordinator beats too; it would speak if it could.
            if self.timeout_s and now - self._heard > self.timeout_s:
                silence = f"has given no sign of life for {now - self._heard:.0f} s"
                self._lose_coordinator(silence, "process stopped, or network down?")
            time.sleep(HEARTBEAT_S)

    def _report(self, **more) -> None:
        idle = self._clock.now - self._moved
        self._connection.send({"place": self._place, "exchanges": self._exchanges, "idle": idle, **more})

    def _may_work(self, now: float) -> bool:
        return not self._is_short or now - self._marked <= BUSY_FACTOR * self.timeout_s

    def _listen(self) -> None:
        while True:
            message = self._connection.receive()
            if message is None:
                self._connection.close()
                self._lose_coordinator("ended without a word", "killed, or out of memory?")
                return
            self._heard = self._clock.now
            self._place_of_server = message.get("alive") or self._place_of_server
            if "end" in message:
                self._closing = True
                self._connection.close()
                self._leave(message["end"])
                return
            if "hold" in message:
                with self._state:
                    self._holding, earliest = True, self._next_boundary
                self._connection.send({"earliest_stop": earliest})
            if "stop_at" in message:
                with self._state:
                    self._stop_at, self._signal = message["stop_at"], message["signal"]
                    self._state.notify_all()

    def _lose_coordinator(self, what: str, why: str) -> None:
        if self._closing:
            return
        self._closing = True
        if self.rank == 1:  # one of those that are left speaks
            _say(f"error: worker 0 ({self._server}) {what} (last seen {self._place_of_server}): {why}\n{_AGAIN}")
            record_verdict(WORKER_LOST)
        self._leave(WORKER_LOST)
