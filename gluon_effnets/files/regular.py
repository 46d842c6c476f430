"""Opening files: regular ones alone, up to a size, and by plain names beside the file that names them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Iterator, Optional

from ..runtime.files import named
from .text import shortened

__all__ = ["MOST_TEXT", "MOST_WEIGHTS", "UnreadableFileError", "beside", "opened", "read_bytes", "read_text", "sha256"]

MOST_TEXT = 1 << 24  # bytes of a file that people may write
MOST_WEIGHTS = (1 << 31) - 1  # bytes of a file of arrays
_MOST_HASHED = 1 << 32
_WHY = {
    errno.ELOOP: "is a link in a circle",
    errno.EACCES: "may not be read (permission denied)",
    errno.ENXIO: "is no regular file",
}


class UnreadableFileError(ValueError):
    """A file that is there, but is not read.

    Args:
        path: How messages name it.
        reason: What is wrong with it, as the rest of a sentence.
    """

    def __init__(self, path, reason: str):
        super().__init__(f"{named(path)} {reason}")
        self.reason = reason


@contextlib.contextmanager
def opened(path, what: str = "file", most: int = MOST_TEXT) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a pipe, a device or a socket is never waited for.

    Args:
        path: Of the file; `~` is not expanded.
        what: What it should be, for the error text: "weights".
        most: Bytes that it may have.

    Raises:
        FileNotFoundError: It is not there.
        UnreadableFileError: It is a folder, a pipe, a device or too large, or may not be read.
    """
    try:
        # A pipe that nobody writes to would otherwise hold the process.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise FileNotFoundError(f"no {what} at {named(path)}") from None
    except OSError as error:
        reason = _WHY.get(error.errno or 0, f"cannot be read: {error.strerror}")
        raise UnreadableFileError(path, reason) from error
    except ValueError:  # a zero byte, or half a character
        raise UnreadableFileError(path, "is no name that a file can have") from None
    refused = _refused(os.fstat(descriptor), most)
    if refused:
        os.close(descriptor)
        raise UnreadableFileError(path, refused)
    with open(descriptor, "rb") as file:
        yield file


def _refused(status: os.stat_result, most: int) -> Optional[str]:
    """Why a file is not read, or None."""
    if not stat.S_ISREG(status.st_mode):
        return "is a folder" if stat.S_ISDIR(status.st_mode) else "is no regular file"
    return f"has {status.st_size:,} bytes; at most {most:,} are read" if status.st_size > most else None


def read_bytes(path, what: str = "file", most: int = MOST_TEXT) -> bytes:
    """Return the content of a regular file. Raises as `opened` does."""
    with opened(path, what, most) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise UnreadableFileError(path, f"cannot be read: {error.strerror}") from error
    if len(content) > most:  # files of the system say that they have no bytes
        raise UnreadableFileError(path, f"has more than {most:,} bytes")
    return content


def read_text(path, what: str = "file", most: int = MOST_TEXT) -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark. Raises as `opened` does.

    UnreadableFileError also for another encoding.
    """
    content = read_bytes(path, what, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFileError(
            path, f"is no text in UTF-8: line {line} has the byte 0x{content[error.start]:02x}"
        ) from None


def sha256(path) -> str:
    """Return the digest of a regular file. Raises as `opened` does."""
    digest = hashlib.sha256()
    with opened(path, "file", _MOST_HASHED) as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def beside(folder, name: str, whose) -> Path:
    """Return the path of a file that another one names, which may lie beside that one alone.

    Args:
        folder: Where both lie.
        name: As it stands in the other file.
        whose: The other file, for the error text.

    Raises:
        ValueError: The name is a path, or a link that leads out of the folder.
    """
    if name != os.path.basename(name) or name in ("", ".", "..") or "\\" in name or not name.isprintable():
        raise ValueError(
            f"{whose} names {shortened(name)}; it may name files beside itself alone, without their folder"
        )
    path = Path(folder) / name
    try:
        if os.path.islink(path) and path.resolve().parent != Path(folder).resolve():
            raise ValueError(
                f"{whose} names {shortened(name)}, a link that leads out of its folder; copy the file itself"
            )
    except (OSError, RuntimeError):
        raise ValueError(f"{whose} names {shortened(name)}, a link in a circle") from None
    return path
