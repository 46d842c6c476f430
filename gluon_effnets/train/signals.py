"""SIGINT and SIGTERM as a wish to stop, heard also while the main thread waits inside MXNet."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import Callable, Iterator

from .exit_codes import stopped

__all__ = ["EvaluationStopped", "Stopped", "stop_signals"]

# Launchers and terminals deliver the same wish twice; only a later signal is an insistent user.
_SAME_WISH_S = 1.0


class Stopped(Exception):
    """The run ended because a signal asked for it, after a checkpoint."""

    def __init__(self, signum: int, update: int):
        super().__init__(f"stopped by {signal.Signals(signum).name} after update {update}; a checkpoint is saved")
        self.signum = signum


class EvaluationStopped(Exception):
    """An evaluation is given up because a signal asked for the end of the run: `signum`."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name} in an evaluation")
        self.signum = signum


@contextlib.contextmanager
def stop_signals(ask_to_stop: Callable[[int], None]) -> Iterator[None]:
    """Within the block, call `ask_to_stop(signum)` on the first signal, and end the process on a second one.

    `ask_to_stop` is called from another thread. Does nothing where signals belong to others (not the main thread).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_listen, args=(reader, ask_to_stop), name="signals", daemon=True).start()
    # A handler in Python runs only once MXNet returns; the interpreter writes to this socket at once. The socket is
    # there before the handlers and goes after them: what comes without it they would swallow.
    descriptor = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        writer.close()


def _listen(reader: socket.socket, ask_to_stop: Callable[[int], None]) -> None:
    first = None
    with reader:
        while True:
            received = reader.recv(1)
            if not received:
                return
            if received[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if first is None:
                first = time.monotonic()
                ask_to_stop(received[0])
            elif time.monotonic() - first > _SAME_WISH_S:
                os._exit(stopped(received[0]))
