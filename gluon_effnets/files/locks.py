"""One process at a time in a folder: a lock file that says which one, taken over from a process that is dead.

The operating system's lock on the file decides, where the file system has it (on NFS too, if its lock service runs).
What the file says decides where it has none, and between hosts.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from .write import CannotWrite, telling

__all__ = ["LOCK", "InUse", "alone_in", "require_same"]

log = logging.getLogger(__name__)

LOCK = "run.lock"
_held: Dict[str, int] = {}  # descriptors of the lock files by their folders


class InUse(ValueError):
    """Another process writes to the folder; the text says which one, and what to do."""


@contextlib.contextmanager
def alone_in(folder, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes out of a folder for the length of the block.

    Args:
        folder: It must be there.
        patience_s: How long to wait for a process that has the folder and may be about to end.

    Raises:
        InUse: Another process has it, or one of another host had it and nobody can tell whether it is alive.
        CannotWrite: The folder cannot be written.
    """
    place = os.path.realpath(folder)
    path, until = Path(place) / LOCK, time.monotonic() + patience_s
    if place in _held:
        raise InUse(f"{folder} is in use by this very process")
    while True:
        try:
            with telling(folder):
                handle = _take(path, Path(folder))
            break
        except InUse:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    _held[place] = handle
    try:
        yield
    finally:
        del _held[place]
        if _is_at(handle, path):
            path.unlink()
        os.close(handle)


def require_same(folder) -> None:
    """Raise CannotWrite if a folder is not there, or no longer the one, or within the one, that this process has."""
    place = os.path.realpath(folder)
    mine = [held for held in _held if place == held or place.startswith(held + os.sep)]
    if not os.path.isdir(place) or not all(_is_at(_held[held], Path(held) / LOCK) for held in mine):
        raise CannotWrite(
            f"{folder} is no longer the folder that this run began in: it was moved, removed or replaced. Put it back; "
            "the same command then goes on from its last checkpoint"
        )


def _take(path: Path, folder: Path) -> int:
    """The descriptor of the locked file with our record in it."""
    while True:
        handle, is_new = _opened(path)
        try:
            works = _lock(handle)
            # Whoever had the file may have deleted it in between.
            if _is_at(handle, path):
                if not is_new:
                    _take_over(_record_in(handle), works, path, folder)
                content = json.dumps(_own_record()).encode()
                os.ftruncate(handle, 0)
                os.pwrite(handle, content, 0)
                os.fsync(handle)
                return handle
        except BlockingIOError:
            record = _record_in(handle) or {}
            os.close(handle)
            raise InUse(f"{_whose(folder, record)}. Wait for it, stop it, or choose another folder") from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _opened(path: Path) -> Tuple[int, bool]:
    """The descriptor of the file, and whether it is new."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_EXCL, 0o644), True
    except FileExistsError:
        return os.open(path, flags, 0o644), False


def _lock(handle: int) -> bool:
    """Whether the file system has locks. Raises BlockingIOError if another process has this one."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError(*error.args) from None
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _take_over(record: Optional[Dict[str, Any]], works: bool, path: Path, folder: Path) -> None:
    """Raise InUse unless the process that wrote the record is dead. Without a record it died while it wrote it."""
    if record is None:
        dead = works
    elif record["boot"] == _boot() and _boot() is not None:
        dead = works or _started(record["pid"]) != record["started"]
    else:  # another start of this computer, or another computer
        dead = works and record["host"] == socket.gethostname()
    if not dead:
        raise InUse(f"{_whose(folder, record or {})}. If it has ended, delete {path}; else choose another folder")
    log.warning("%s, which is dead: this process takes its place", _whose(folder, record or {}))


def _own_record() -> Dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "since": now, "boot": _boot(), "started": _started(pid)}


def _record_in(handle: int) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(os.pread(handle, 10_000, 0))
        return record if record.keys() == _own_record().keys() and isinstance(record["pid"], int) else None
    except (ValueError, AttributeError):
        return None


def _whose(folder: Path, record: Dict[str, Any]) -> str:
    if not record:
        return f"{folder} is in use by a process that has not yet said which one"
    return f"{folder} is in use by process {record['pid']} on host {record['host']}, since {record['since']}"


def _boot() -> Optional[str]:
    """What names this start of this computer; None where the system does not tell."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _started(pid: int) -> Optional[int]:
    """When a process of this computer began, in ticks since it was started; None if there is no such process."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return None
