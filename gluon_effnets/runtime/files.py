"""Reading files of others: regular ones alone, up to a size, and by plain names beside the file that names them.

`gluon_effnets/files/regular.py` does the same for the package: the runtime imports nothing that its wheel has not.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["beside", "named", "printable", "read_bytes"]

MOST_BYTES = 1 << 30
# What Windows lacks of these is 0. A pipe that nobody writes to would otherwise hold the process.
_FLAGS = [getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY")]


def read_bytes(path, what: str, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Args:
        path: Of the file.
        what: What it should be, for the error text: "image".
        most: Bytes that it may have.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is a folder, a pipe, a device or too large, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | sum(_FLAGS))
    except FileNotFoundError:
        missing = "is a link to nothing" if os.path.islink(path) else "is not there"
        raise FileNotFoundError(f"no {what} at {named(path)}: it {missing}") from None
    except OSError as error:
        raise ValueError(f"{named(path)} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{named(path)} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no regular file'}")
        if status.st_size > most:
            raise ValueError(f"{named(path)} has {status.st_size:,} bytes; at most {most:,} are read")
        return file.read()


def named(path) -> str:
    """Return a path for a message: the middle left out if it is long, without what a terminal obeys."""
    text = str(path)
    text = text if len(text) <= 400 else f"{text[:198]}...{text[-198:]}"
    return printable(text.replace("\n", "?"))


def printable(text: str) -> str:
    """Return a text without what a terminal obeys, but for the ends of lines and tabs."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def beside(description: Path, name: object) -> Path:
    """Return the path of a file that a JSON file names, which lies beside that one.

    Raises:
        ValueError: The name is a path, or no text.
    """
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\:\0"):
        raise ValueError(f"{named(description)} names the file {name!r:.80}; it may name files beside itself alone")
    return description.parent / name
