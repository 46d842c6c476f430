"""NumPy's .npz archives: sizes, methods and types checked before an array is made, and nothing unpickled."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from typing import Dict, Tuple

import numpy as np

from .regular import MOST_WEIGHTS, UnreadableFileError, opened
from .text import shortened, shown

__all__ = ["read_npz"]

_MOST_ARRAYS, _MOST_HEADER = 100_000, 10_000
_KINDS = "biufU"
# As NumPy writes it; its own reader evaluates the text.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][a-zA-Z]\d{1,6})', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18},? ?)*)\), \}\s*"
)


def read_npz(path, what: str = "file", most: int = MOST_WEIGHTS) -> Dict[str, np.ndarray]:
    """Return the arrays of an archive by name.

    Args:
        path: Of the file.
        what: What it should be, for the error text.
        most: Bytes of all arrays together.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no such archive, cut short, encrypted, or packed by an unknown method; it holds objects, or
            more than fits into a memory.
    """
    with opened(path, what, most) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _arrays(archive, most)
        except _Refused as error:
            raise UnreadableFileError(path, str(error)) from None
        except NotImplementedError:
            raise UnreadableFileError(path, "is packed by a method that is not known here") from None
        # What zipfile and zlib raise for damaged files: these, and for some lies errors of arithmetic.
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            ValueError,
            LookupError,
            OverflowError,
        ) as error:
            reason = shown(str(error)) or type(error).__name__
            raise UnreadableFileError(path, f"is no archive of arrays, or it is cut short: {reason}") from None


class _Refused(Exception):
    pass


def _arrays(archive: zipfile.ZipFile, most: int) -> Dict[str, np.ndarray]:
    entries = archive.infolist()
    if len(entries) > _MOST_ARRAYS or sum(entry.file_size for entry in entries) > most:
        raise _Refused(f"holds more than {most:,} bytes, or {_MOST_ARRAYS:,} arrays")
    for entry in entries:
        if entry.flag_bits & 1:
            raise _Refused("is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Refused(f"is packed by the method {entry.compress_type}, which is not known here")
        if not entry.filename.endswith(".npy"):
            raise _Refused(f"holds {shortened(entry.filename)}, which is no array")
    return {entry.filename[: -len(".npy")]: _array(archive, entry) for entry in entries}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as file:
        start = file.read(8)
        wide = start[6:7] != b"\x01"
        length = int.from_bytes(file.read(4 if wide else 2), "little")
        if start[:6] != b"\x93NUMPY" or length > _MOST_HEADER:
            raise _Refused(f"holds {shortened(entry.filename)}, which is no array")
        kind, columns_first, shape = _header(file.read(length), entry.filename)
        size = kind.itemsize * math.prod(shape)
        if size != entry.file_size - 8 - (4 if wide else 2) - length:
            raise _Refused(f"says that {shortened(entry.filename)} has {size:,} bytes, and it has others")
        content = file.read(size + 1)  # one more: at the end the archive's sum is compared
    if len(content) != size:
        raise _Refused(f"is cut short within {shortened(entry.filename)}")
    return np.frombuffer(content, kind).reshape(shape, order="F" if columns_first else "C").copy()


def _header(header: bytes, name: str) -> Tuple[np.dtype, bool, Tuple[int, ...]]:
    match = _HEADER.fullmatch(header)
    if match is None:
        raise _Refused(f"holds {shortened(name)}, which is no array of numbers")
    kind = np.dtype(match.group(1).decode())
    shape = tuple(int(length) for length in match.group(3).split(b",") if length.strip())
    if kind.kind not in _KINDS or len(shape) > 32 or (kind.itemsize == 0 and math.prod(shape)):
        raise _Refused(f"holds {shortened(name)}, which is no array of numbers")
    return kind, match.group(2) == b"True", shape
