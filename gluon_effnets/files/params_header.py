"""Files of MXNet's arrays (.params): checked in full before MXNet sees a byte of them, and sealed with a digest.

MXNet believes the sizes in such a file: 32 bytes that lie end the process. Here every number of the header is followed
through the whole file first, and MXNet gets the very bytes that were checked.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Dict, List, NamedTuple, Tuple, Union

from .._mxnet import mx
from .regular import MOST_WEIGHTS, UnreadableFileError, read_bytes
from .text import shortened

__all__ = ["DIGEST", "Entry", "blank_digest", "load_arrays", "read_header", "seal"]

# An array that is no parameter: SHA-256 of the file, in which these bytes themselves are zeros. Who does not know it
# has one array more.
DIGEST = "gluon_effnets.digest"
_DIGEST_BYTES = 32

_LIST = 0x112
# How shapes are written: with 32 bits a dimension and their number in place of the mark, or with 64 bits. The third
# format, of MXNet's NumPy arrays, is read by MXNet only where those are switched on.
_V1, _V2 = 0xF993FAC8, 0xF993FAC9
_MOST_ARRAYS, _MOST_AXES, _MOST_NAME = 1_000_000, 16, 1024
_DEVICES = (1, 2, 3, 5)  # processor, GPU, pinned and shared memory
_MOST_DEVICES = 64
# Bytes of a number by MXNet's number of its type: float 32, 64, 16; uint8, int32, int8, int64, bool, bfloat16.
_ITEM_BYTES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 12: 2}
_UINT8 = 3

Bytes = Union[bytes, memoryview]


class Entry(NamedTuple):
    """One array of a file: its name, shape, MXNet's number of its type, and where its numbers begin."""

    name: str
    shape: Tuple[int, ...]
    type_flag: int
    offset: int


class _Reader:
    """Numbers of a buffer, one after the other. Raises struct.error at its end."""

    def __init__(self, data: Bytes):
        self.data, self.at = data, 0

    def take(self, form: str) -> Tuple[int, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def one(self, form: str) -> int:
        return self.take(form)[0]

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise _Damaged("is cut short: its arrays are larger than the file")
        self.at += size


class _Damaged(Exception):
    pass


def read_header(data: Bytes, path="this file") -> List[Entry]:
    """Return what is in the bytes of a .params file, without a look at the numbers in its arrays.

    Args:
        data: All bytes of the file.
        path: How messages name it.

    Raises:
        ValueError: It is no such file, cut short, or damaged; or its arrays are sparse or have no names.
    """
    try:
        return _header(_Reader(data))
    except struct.error:
        raise UnreadableFileError(path, "is not a .params file, or it is cut short") from None
    except _Damaged as error:
        raise UnreadableFileError(path, f"is not a .params file that can be read: it {error}") from None


def _header(reader: _Reader) -> List[Entry]:
    mark, reserved, count = reader.take("QQQ")
    if mark != _LIST or reserved:
        raise _Damaged("does not begin as one, or is cut short")
    if count > min(_MOST_ARRAYS, len(reader.data)):
        raise _Damaged(f"says that it has {count:,} arrays")
    arrays = [_array(reader) for _ in range(count)]
    names = _names(reader, count)
    if reader.at != len(reader.data):
        raise _Damaged(f"goes on for {len(reader.data) - reader.at:,} bytes after its end")
    return [Entry(name, *array) for name, array in zip(names, arrays)]


def _array(reader: _Reader) -> Tuple[Tuple[int, ...], int, int]:
    """Shape, type and place of the next array, which is stepped over."""
    mark = reader.one("I")
    if mark == _V2:
        if reader.one("i") != 0:
            raise _Damaged("has a sparse array")
    axes = reader.one("i") if mark in (_V1, _V2) else mark
    if not 1 <= axes <= _MOST_AXES:
        raise _Damaged(f"has an array of {axes} axes")
    shape = reader.take(f"{axes}{'q' if mark in (_V1, _V2) else 'I'}")
    if min(shape) < 1:
        raise _Damaged(f"has an array of the shape {shape}")
    device, number, type_flag = reader.take("iii")
    if device not in _DEVICES or not 0 <= number < _MOST_DEVICES:
        raise _Damaged(f"has an array for the unknown device {device}({number})")
    if type_flag not in _ITEM_BYTES:
        raise _Damaged(f"has an array of the unknown type {type_flag}")
    offset, size = reader.at, _ITEM_BYTES[type_flag]
    for length in shape:
        size *= length
    reader.skip(size)
    return shape, type_flag, offset


def _names(reader: _Reader, count: int) -> List[str]:
    found = reader.one("Q")
    if found != count:
        raise _Damaged("holds arrays without names" if not found else f"has {count:,} arrays, but {found:,} names")
    names: Dict[str, None] = {}
    for _ in range(count):
        length = reader.one("Q")
        if not 1 <= length <= _MOST_NAME:
            raise _Damaged(f"has a name of {length:,} characters")
        begin = reader.at
        reader.skip(length)
        try:
            name = bytes(reader.data[begin : reader.at]).decode("utf-8")
        except UnicodeDecodeError:
            raise _Damaged("has a name that is no text") from None
        if not name.isprintable() or name in names:
            raise _Damaged(
                f"has the name {shortened(name)} twice" if name in names else f"has the name {shortened(name)}"
            )
        names[name] = None
    return list(names)


def load_arrays(path, what: str = "weights") -> Dict[str, mx.nd.NDArray]:
    """Return the arrays of a .params file by name, on the device that they were saved from, if it is there.

    Args:
        path: Of the file.
        what: What it should be, for the error text.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no such file, cut short, or not as it was written: by its own digest, if it has one.
    """
    content = read_bytes(path, what, MOST_WEIGHTS)
    entries = read_header(content, path)
    digest = next((entry for entry in entries if entry.name == DIGEST), None)
    if digest is None and any(_resembles(entry.name) for entry in entries):
        raise UnreadableFileError(path, "is damaged: even the name of the digest in it is; copy it again")
    if digest is not None and not _is_sealed(content, digest):
        remedy = f"copy it again, or if a program of yours changed it, let that leave out the array {DIGEST}"
        raise UnreadableFileError(path, f"is damaged: it is not as it was written, by the digest in it; {remedy}")
    if not entries:
        return {}
    try:
        arrays = mx.nd.load_frombuffer(content)
    except mx.base.MXNetError:
        raise UnreadableFileError(path, "is not a .params file that this version of MXNet can read") from None
    if digest is not None:
        del arrays[DIGEST]
    return arrays


def _resembles(name: str) -> bool:
    """Whether a name is the digest's with a few characters changed."""
    return len(name) == len(DIGEST) and sum(one != other for one, other in zip(name, DIGEST)) <= 2


def blank_digest() -> Dict[str, mx.nd.NDArray]:
    """Return the entry of a file that `seal` fills in."""
    return {DIGEST: mx.nd.zeros(_DIGEST_BYTES, dtype="uint8")}


def seal(path) -> None:
    """Write its digest into a file that was saved with `blank_digest`. Raises OSError if it cannot be written."""
    content = read_bytes(path, "weights", MOST_WEIGHTS)
    [entry] = [entry for entry in read_header(content, path) if entry.name == DIGEST]
    with open(path, "r+b") as file:
        file.seek(entry.offset)
        file.write(_digest(content, entry))
        file.flush()
        os.fsync(file.fileno())


def _is_sealed(content: bytes, entry: Entry) -> bool:
    if entry.shape != (_DIGEST_BYTES,) or entry.type_flag != _UINT8:
        return False
    return content[entry.offset : entry.offset + _DIGEST_BYTES] == _digest(content, entry)


def _digest(content: bytes, entry: Entry) -> bytes:
    whole, view = hashlib.sha256(), memoryview(content)
    for part in (view[: entry.offset], bytes(_DIGEST_BYTES), view[entry.offset + _DIGEST_BYTES :]):
        whole.update(part)
    return whole.digest()
