"""How the workers of a job come together, which nobody watches yet."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from typing import Iterator, List, MutableMapping, Optional

from .exit_codes import WORKER_LOST, record_verdict

__all__ = ["meeting"]

_TIMEOUT = "HOROVOD_GLOO_TIMEOUT_SECONDS"
# Horovod's own limit ends a process by a signal, when it meets the others and in every exchange; we have better ones.
_NO_LIMIT_S = 7 * 24 * 3600
_REQUEST_S = 5.0


@contextlib.contextmanager
def meeting(environment: MutableMapping[str, str], timeout_s: float) -> Iterator[None]:
    """End this process, and so the job, if the workers are not all there at the end of the block in time.

    Args:
        environment: Of a worker of horovodrun. `--gloo-timeout-seconds`, where given, is the time.
        timeout_s: The time for the slowest worker to import the package, from when the first one has done so.
    """
    limit_s = float(environment.get(_TIMEOUT) or timeout_s)
    environment[_TIMEOUT] = str(_NO_LIMIT_S)
    _come(environment)
    timer = threading.Timer(limit_s, _leave, (environment, limit_s))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _leave(environment: MutableMapping[str, str], limit_s: float) -> None:
    missing, rank = _missing(environment), int(environment.get("HOROVOD_RANK", 0))
    # Of those that wait the first one speaks; where nobody is known to be missing, all do.
    if not missing or missing[:rank] == list(range(rank)):
        local = environment.get("HOROVOD_SIZE") == environment.get("HOROVOD_LOCAL_SIZE")
        host = f" ({socket.gethostname()})" if local else ""
        names = ", ".join(f"worker {number}{host}" for number in missing)
        who = names or f"one that worker {rank} waits for"
        text = f"{who} has not come to the others within {limit_s:g} s, starting: ended, stopped, or slow?"
        advice = "horovodrun --gloo-timeout-seconds SECONDS gives a slow start more time."
        print(f"\nerror: {text}\n{advice}", file=sys.stderr, flush=True)
        record_verdict(WORKER_LOST)
    os._exit(WORKER_LOST)


def _come(environment: MutableMapping[str, str]) -> None:
    """Leave word with horovodrun that this worker is there."""
    with contextlib.suppress(OSError):
        _ask(environment, environment.get("HOROVOD_RANK", "0"), content=b"here")


def _missing(environment: MutableMapping[str, str]) -> List[int]:
    """The ranks of the workers that have left no word; none if there is nobody to ask."""
    missing = []
    for rank in range(int(environment.get("HOROVOD_SIZE", 1))):
        try:
            _ask(environment, str(rank))
        except urllib.error.HTTPError:
            missing.append(rank)
        except OSError:
            return []
    return missing


def _ask(environment: MutableMapping[str, str], rank: str, content: Optional[bytes] = None) -> None:
    """Read, or with `content` write, what horovodrun's table of keys has of a worker."""
    host, port = (environment.get(f"HOROVOD_GLOO_RENDEZVOUS_{name}") for name in ("ADDR", "PORT"))
    if not host:  # another launcher
        raise OSError("there is no table of keys")
    # horovodrun's own requests pass by any proxy, too.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url, method = f"http://{host}:{port}/gluon_effnets/{rank}", "GET" if content is None else "PUT"
    opener.open(urllib.request.Request(url, content, method=method), timeout=_REQUEST_S).close()
