"""RecordIO files: the format, a reader, and a writer whose files are equal to MXNet's, byte by byte.

A record is the magic number, a word of its part (3 bits) and length (29 bits), and so many bytes, filled up to four.
Where the bytes of a record hold the magic number at a multiple of four, it is left out, and the record goes on in
another part: 1 is the first part, 2 one in the middle, 3 the last, 0 a whole record. So the number marks beginnings.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

__all__ = [
    "IMAGE_HEADER",
    "LENGTH_BITS",
    "MAGIC",
    "RECORD_HEADER",
    "Reader",
    "Record",
    "Writer",
    "join_parts",
    "offsets_of",
    "pack",
    "padded",
    "read_index",
    "split",
    "unpack",
]

MAGIC = 0xCED7230A
LENGTH_BITS = 29
# Magic and length of a part (8 bytes); flag, label and two 64-bit numbers of a record with an image (24 bytes).
RECORD_HEADER, IMAGE_HEADER = 8, 24
WHOLE, FIRST, MIDDLE, LAST = range(4)
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_LARGEST = 1 << LENGTH_BITS


class Record(NamedTuple):
    """A record with an image.

    Attributes:
        key: In the index, or its number from 0 where there is none.
        offset: Where it begins in the file, in bytes.
        labels: float32 (n,); one of a class, or those of detection: lengths of the header and of an object, objects.
        id, id2: The two whole numbers of MXNet's header; the first is the key, as im2rec writes it.
        content: The encoded image.
        listed: Whether the labels stand behind the header, as a list; else there is one, inside of it.
    """

    key: int
    offset: int
    labels: np.ndarray
    id: int
    id2: int
    content: bytes
    listed: bool = False

    @property
    def label(self) -> float:
        """The only label. Raises ValueError if there are others."""
        if len(self.labels) != 1:
            raise ValueError(f"record {self.key} has {len(self.labels)} labels, not one")
        return float(self.labels[0])


_LONGEST_LINE = 100  # of an index, whose numbers NumPy must hold


def padded(length):
    """The bytes that a part of a length takes, without its header."""
    return (length + 3) // 4 * 4


def split(word: int) -> Tuple[int, int]:
    """Return part and length of the second word of a part."""
    return word >> LENGTH_BITS, word & (_LARGEST - 1)


def pack(content: bytes, label: Union[float, Sequence[float], np.ndarray], id: int = 0, id2: int = 0) -> bytes:
    """Return the bytes of a record with an image, as `mxnet.recordio.pack` does.

    Args:
        content: The encoded image.
        label: A number, or the numbers of a list.
        id, id2: The two whole numbers of the header.
    """
    if isinstance(label, (int, float, np.number)):
        return struct.pack("<IfQQ", 0, label, id, id2) + content
    labels = np.asarray(label, "<f4").ravel()
    return struct.pack("<IfQQ", labels.size, 0, id, id2) + labels.tobytes() + content


def unpack(payload: bytes, key: int = 0, offset: int = 0) -> Record:
    """Return the record of which `pack` made the bytes.

    Raises:
        ValueError: They are too few for the header, or for the labels that it counts.
    """
    if len(payload) < IMAGE_HEADER:
        raise ValueError(f"it has {len(payload)} bytes, fewer than the header of an image")
    flag, label, id, id2 = struct.unpack_from("<IfQQ", payload)
    begin = IMAGE_HEADER + 4 * flag
    if begin > len(payload):
        raise ValueError(f"its header counts {flag} labels, more than its {len(payload)} bytes hold")
    labels = np.frombuffer(payload, "<f4", flag, IMAGE_HEADER) if flag else np.array([label], np.float32)
    return Record(key, offset, labels, id, id2, payload[begin:], bool(flag))


def encode(payload: bytes) -> bytes:
    """Return the bytes of a record in the file. Raises ValueError if it is too long for the format."""
    if len(payload) >= _LARGEST:
        raise ValueError(f"a record has {len(payload):,} bytes; the format takes fewer than {_LARGEST:,}")
    ends = [4 * int(place) for place in np.flatnonzero(words_of(payload) == MAGIC)]
    kinds = [FIRST, *[MIDDLE] * (len(ends) - 1), LAST] if ends else [WHOLE]
    parts = []
    for part, begin, end in zip(kinds, [0, *(end + 4 for end in ends)], [*ends, len(payload)]):
        parts += [_MAGIC_BYTES, struct.pack("<I", part << LENGTH_BITS | end - begin), payload[begin:end]]
    return b"".join(parts) + bytes(padded(len(payload)) - len(payload))


def words_of(content: bytes) -> np.ndarray:
    """Return the whole words of bytes, (n,) uint32."""
    return np.frombuffer(content[: len(content) // 4 * 4], "<u4")


def join_parts(content: np.ndarray, at: int) -> bytes:
    """Return the bytes of the record that begins at a place of a mapped file (uint8)."""
    parts = []
    while at + RECORD_HEADER <= len(content):
        part, length = split(struct.unpack("<II", content[at : at + RECORD_HEADER].tobytes())[1])
        at += RECORD_HEADER
        parts.append(content[at : at + length].tobytes())
        if part in (WHOLE, LAST):
            break
        at += padded(length)
    return _MAGIC_BYTES.join(parts)


def has_all_parts(words: np.ndarray, at: int, end: int) -> bool:
    """Whether the parts from one word of a file to another are a first one, others, and a last one that ends there."""
    first = True
    while at + 2 <= end and words[at] == MAGIC:
        part, length = split(int(words[at + 1]))
        if (part == FIRST) != first or part not in (FIRST, MIDDLE, LAST):
            return False
        at += (RECORD_HEADER + padded(length)) // 4
        if part == LAST:
            return at == end
        first = False
    return False


def offsets_of(path) -> np.ndarray:
    """Return where the records of a file begin, found by stepping from one to the next, int64 (n,).

    Raises:
        ValueError: The file was cut short or is damaged.
    """
    offsets, at, size, within_parts = [], 0, os.path.getsize(path), False
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(RECORD_HEADER)
            if len(head) < RECORD_HEADER:
                raise ValueError(f"{path} was cut short within the record at byte {at}; copy it again.")
            magic, word = struct.unpack("<II", head)
            part, length = split(word)
            if magic != MAGIC or part > LAST or (part in (MIDDLE, LAST)) != within_parts:
                raise ValueError(f"{path} is damaged at byte {at}: no record begins there; copy or make it again.")
            within_parts = part in (FIRST, MIDDLE)
            if part in (WHOLE, FIRST):
                offsets.append(at)
            at += RECORD_HEADER + padded(length)
    return np.array(offsets, np.int64)


def read_index(path) -> List[Tuple[int, int]]:
    """Return the rows (key, offset) of an index.

    Raises:
        ValueError: A line is something else, or there is none.
    """
    rows = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                if len(line) > _LONGEST_LINE:
                    raise ValueError
                key, offset = (int(part) for part in line.split())
                if not 0 <= key < 1 << 62 or not -1 << 62 < offset < 1 << 62:
                    raise ValueError
            except ValueError:
                raise ValueError(f"{path}, line {number} is not 'key<TAB>offset'.") from None
            rows.append((key, offset))
    if not rows:
        raise ValueError(f"{path} is empty.")
    return rows


def index_beside(path) -> Path:
    """Return the path of the index of a file of records."""
    return Path(path).with_suffix(".idx")


class Reader:
    """The records of a file, one after the other, or by their keys in the index; never more than one in memory.

    Args:
        path: The .rec file; its .idx is used if it lies beside it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A record that is read, or the index, is damaged.

    Example:
        >>> with Reader("val.rec") as records:
        ...     for record in records:
        ...         print(record.key, record.label, len(record.content))
    """

    def __init__(self, path):
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(f"no RecordIO file at {path}")
        self._file: BinaryIO = open(self.path, "rb")  # noqa: SIM115  closed by close()
        self._offsets: Optional[Dict[int, int]] = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def offsets(self) -> Dict[int, int]:
        """Where records begin, by their keys, in the order of the index."""
        if self._offsets is None:
            index = index_beside(self.path)
            rows = read_index(index) if index.is_file() else enumerate(map(int, offsets_of(self.path)))
            self._offsets = dict(rows)
        return self._offsets

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Record]:
        """The records in the order of the file."""
        keys = {offset: key for key, offset in self.offsets.items()}
        at, number, size = 0, 0, os.path.getsize(self.path)
        while at < size:
            payload, end = self._read(at)
            yield self._record(keys.get(at, number), at, payload)
            at, number = end, number + 1

    def __getitem__(self, key: int) -> Record:
        """The record of a key. Raises KeyError if there is none."""
        offset = self.offsets[key]
        return self._record(key, offset, self._read(offset)[0])

    def _record(self, key: int, offset: int, payload: bytes) -> Record:
        try:
            return unpack(payload, key, offset)
        except ValueError as error:
            raise ValueError(f"{self.path}, record {key} (byte {offset}) is damaged: {error}") from None

    def _read(self, offset: int) -> Tuple[bytes, int]:
        """The bytes of the record at an offset, and where it ends."""
        found = read_record(self._file, offset, os.path.getsize(self.path))
        if isinstance(found, str):
            raise ValueError(f"{self.path} is damaged at byte {offset}: {found}")
        return found


def read_record(file: BinaryIO, offset: int, size: int) -> Union[str, Tuple[bytes, int]]:
    """Return the bytes of the record at an offset of a file, and where it ends; or what is wrong with it.

    Args:
        file: Open for reading.
        offset: Where the record begins.
        size: Of the file in bytes.
    """
    parts: List[bytes] = []
    at = offset
    while True:
        file.seek(at)
        head = file.read(RECORD_HEADER)
        if len(head) < RECORD_HEADER:
            return "the file ends within the record"
        magic, word = struct.unpack("<II", head)
        part, length = split(word)
        if magic != MAGIC:
            return f"the part at byte {at} is missing" if parts else "no record begins there"
        if part not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            return f"at byte {at} stands part {part} of another record"
        end = at + RECORD_HEADER + padded(length)
        if end > size:
            return f"its {length:,} bytes lead to byte {end:,}, beyond the end of the file at {size:,}"
        parts.append(file.read(length))
        at = end
        if part in (WHOLE, LAST):
            return _MAGIC_BYTES.join(parts), at


class Writer:
    """Writes records and their index; the two files are there when all is written, or not at all.

    Args:
        path: The .rec file; its index is the .idx beside it.

    Raises:
        FileExistsError: One of the two files is there already.

    Example:
        >>> with Writer("birds.rec") as records:
        ...     records.append(Path("crane.jpg").read_bytes(), label=0)
    """

    def __init__(self, path):
        self.path = Path(path).expanduser()
        self._targets = (self.path, index_beside(self.path))
        if self.path.suffix != ".rec":
            raise ValueError(f"{path} must end in .rec")
        for target in self._targets:
            if target.exists():
                raise FileExistsError(f"{target} is there already; it is not written over")
        self._parts = [target.with_name(f"{target.name}.part{os.getpid()}") for target in self._targets]
        self._records: BinaryIO = open(self._parts[0], "wb")  # noqa: SIM115  closed by close()
        self._index: BinaryIO = open(self._parts[1], "wb")  # noqa: SIM115
        self._keys: Dict[int, int] = {}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close() if kind is None else self.discard()

    def __len__(self) -> int:
        return len(self._keys)

    def append(
        self,
        content: bytes,
        label: Union[float, Sequence[float], np.ndarray],
        key: Optional[int] = None,
        id: Optional[int] = None,
        id2: int = 0,
    ) -> None:
        """Add a record with an image.

        Args:
            content: The encoded image.
            label: A number, or the numbers of a list, as detection has them.
            key: In the index; None: the next number.
            id, id2: The two whole numbers of MXNet's header; None: the key.

        Raises:
            ValueError: The key is there already, or the record is too long.
        """
        key = len(self._keys) if key is None else key
        self.append_payload(key, pack(content, label, key if id is None else id, id2))

    def append_payload(self, key: int, payload: bytes) -> None:
        """Add a record by its bytes. Raises as `append` does."""
        if key in self._keys:
            raise ValueError(f"the key {key} is there already")
        offset = self._keys[key] = self._records.tell()
        self._records.write(encode(payload))
        self._index.write(f"{key}\t{offset}\n".encode("ascii"))

    def close(self) -> None:
        """Put the two files in their places."""
        for file, part, target in zip((self._records, self._index), self._parts, self._targets):
            if not file.closed:
                file.flush()
                os.fsync(file.fileno())
                file.close()
                os.replace(part, target)

    def discard(self) -> None:
        """Leave nothing behind."""
        for file, part in zip((self._records, self._index), self._parts):
            file.close()
            if part.exists():
                part.unlink()
