"""What is damaged in RecordIO files, by number, place and reason; and new files of all that can be saved."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path
from typing import BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from .decode import decode as decode_image
from .header import Header, read_header
from .recordio import (
    FIRST,
    MAGIC,
    RECORD_HEADER,
    WHOLE,
    Record,
    Writer,
    index_beside,
    padded,
    read_index,
    read_record,
    split,
    unpack,
    words_of,
)

__all__ = ["Damage", "Found", "Report", "check", "repair", "rows_of", "survey"]

_CHUNK = 1 << 20
_SHOWN = 7  # labels of a list
# Of detection: the numbers of a header and of an object stand first; an object is a class and four sides of its box.
_LEAST_HEADER, _LEAST_OBJECT = 2, 5


class Damage(NamedTuple):
    """Something that is damaged.

    Attributes:
        number: Of the record in the file, from 0; None for the index as a whole.
        offset: Where it begins, in bytes.
        reason: What is wrong, as a part of a sentence.
    """

    number: Optional[int]
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"record {self.number} at byte {self.offset}: {self.reason}" if self.number is not None else self.reason


class Found(NamedTuple):
    """A record that was come upon; its bytes, or what is wrong with it.

    `number` and `offset` are as of a damage.
    """

    number: int
    offset: int
    payload: bytes = b""
    reason: Optional[str] = None

    def read(self, decode: bool = False) -> Tuple[Record, Header]:
        """Return the record and the header of its image.

        Args:
            decode: Decode the image; else only its header is read.

        Raises:
            ValueError: The record is damaged, or its image is.
        """
        if self.reason is not None:
            raise ValueError(self.reason)
        record = unpack(self.payload, self.number, self.offset)
        if not np.isfinite(record.labels).all():
            raise ValueError(f"its labels {record.labels[:6].tolist()} are not finite")
        return record, _header(record.content, decode)


class Report(NamedTuple):
    """What is in a file of records.

    Attributes:
        records: Number of the records that can be read.
        damages: What is damaged.
        labels: How many records have how many labels.
        formats: How many images are in which format.
        classes: How many records, or objects, are of which class, where labels are classes.
        detection: Whether labels are objects.
    """

    records: int
    damages: List[Damage]
    labels: Dict[int, int]
    formats: Dict[str, int]
    classes: Dict[int, int]
    detection: bool

    @property
    def summary(self) -> str:
        """What can be read, in one line."""
        formats = ", ".join(f"{count:,} {name}" for name, count in sorted(self.formats.items())) or "no images"
        counts = sorted(self.labels)
        labels = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "no"
        what = f"{sum(self.classes.values()):,} boxes" if self.detection else f"{labels} label(s) each"
        if self.classes:
            what += f" of {len(self.classes):,} classes ({min(self.classes)} to {max(self.classes)})"
        damages = f"{len(self.damages):,} damage(s)" if self.damages else "nothing is damaged"
        return f"{self.records:,} records; {formats}; {what}; {damages}"


def survey(path) -> Iterator[Found]:
    """Yield all records of a file in its order, also the damaged ones: after these it goes on at the next beginning.

    A file is read once from its beginning to its end, a record at a time; the index is not looked at.

    Args:
        path: The .rec file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no RecordIO file at {path}")
    size, at, number = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while at < size:
            found = read_record(file, at, size)
            if isinstance(found, str):
                yield Found(number, at, reason=found)
                at = _next_beginning(file, at + 4, size)
            else:
                payload, end = found
                reason, at_next = None, end
                if end < size and not _begins(file, end):
                    reason, at_next = _doubt(file, at, end, size, payload)
                yield Found(number, at, payload, reason)
                at = at_next
            number += 1


def check(path, decode: bool = False) -> Report:
    """Read a file of records from its beginning to its end, and compare its index with it.

    Args:
        path: The .rec file.
        decode: Decode all images; else only their headers are read.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return _inspect(path, decode, lambda found: None)


def _inspect(path, decode: bool, keep: Callable[[Found], None]) -> Report:
    """What `check` does; `keep` gets every record that can be read."""
    records, damages, offsets = 0, [], {}
    labels: Counter = Counter()
    formats: Counter = Counter()
    singles: Counter = Counter()
    objects: Counter = Counter()
    for found in survey(path):
        offsets[found.offset] = found.number
        try:
            record, header = found.read(decode)
        except ValueError as error:
            damages.append(Damage(found.number, found.offset, str(error)))
            continue
        keep(found)
        records += 1
        labels[len(record.labels)] += 1
        formats[header.format] += 1
        boxes = objects_of(record.labels)
        objects.update(int(row[0]) for row in boxes if row[0] == int(row[0]))
        if len(record.labels) == 1 and record.label == int(record.label):
            singles[int(record.label)] += 1
        elif boxes.size and not _are_boxes(boxes):
            damages.append(Damage(found.number, found.offset, "a box of its labels has no area or a negative class"))
    detection = bool(objects) and not singles
    damages += _compare_index(path, offsets)
    return Report(records, damages, dict(labels), dict(formats), dict(objects if detection else singles), detection)


def repair(path, target, decode: bool = False) -> Report:
    """Write all records that can be read into a new file with an index; those keep their keys and their bytes.

    Args:
        path: The .rec file.
        target: The new .rec file.
        decode: Leave out records whose image does not decode.

    Returns:
        The report of `check` on the old file; `records` were written.

    Raises:
        FileNotFoundError: There is no old file.
        FileExistsError: There is a new file already.
        ValueError: No record can be read.
    """
    keys, used = {}, set()
    for key, offset in _rows(path)[0]:
        if key not in used and offset not in keys:
            keys[offset] = key
            used.add(key)
    unused = itertools.count(max(used, default=-1) + 1)
    with Writer(target) as writer:

        def keep(found: Found) -> None:
            key = keys.get(found.offset)
            writer.append_payload(next(unused) if key is None else key, found.payload)

        report = _inspect(path, decode, keep)
        if not report.records:
            raise ValueError(f"{path} has no record that can be read")
    return report


def rows_of(path, limit: Optional[int] = None) -> Iterator[Tuple[int, int, int, str, str]]:
    """Yield (number, key, byte, labels, image) of the records of a file, as texts of a list show them."""
    keys = {offset: key for key, offset in _rows(path)[0]}
    for found in itertools.islice(survey(path), limit):
        try:
            record, header = found.read()
        except ValueError as error:
            labels, image = "damaged", str(error)
        else:
            numbers = [f"{label:g}" for label in record.labels]
            labels = " ".join(numbers[:_SHOWN]) + (f" ... ({len(numbers)})" if len(numbers) > _SHOWN else "")
            image = f"{header.format} {header.width} x {header.height}, {len(record.content):,} bytes"
        yield found.number, keys.get(found.offset, found.number), found.offset, labels, image


def objects_of(labels: np.ndarray) -> np.ndarray:
    """Return the objects of detection labels, (n, numbers of an object); none (0, 5) if they are something else."""
    if len(labels) >= _LEAST_HEADER:
        header, width = labels[:2]
        fits = header == int(header) and width == int(width) and header >= _LEAST_HEADER and width >= _LEAST_OBJECT
        if fits and len(labels) >= header and (len(labels) - int(header)) % int(width) == 0:
            return labels[int(header) :].reshape(-1, int(width))
    return np.empty((0, _LEAST_OBJECT), np.float32)


def _are_boxes(objects: np.ndarray) -> bool:
    kinds, left, top, right, bottom = objects[:, :5].T
    return bool(((kinds >= 0) & (left < right) & (top < bottom)).all())


def _begins(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return words_of(file.read(4)).tolist() == [MAGIC]


def _next_beginning(file: BinaryIO, at: int, size: int) -> int:
    """The next place at which a record begins, or the end of the file."""
    while at < size:
        file.seek(at)
        words = words_of(file.read(_CHUNK))
        for place in np.flatnonzero(words[:-1] == MAGIC):
            if split(int(words[place + 1]))[0] in (WHOLE, FIRST):
                return at + 4 * int(place)
        # The last word may be the magic number, whose length is in the next chunk.
        at += max(4 * (len(words) - 1), 4)
    return size


def _doubt(file: BinaryIO, at: int, end: int, size: int, payload: bytes) -> Tuple[Optional[str], int]:
    """What is wrong with a record behind which none begins, None if it is the next one; and where to go on.

    Its length may be damaged, or the beginning of the next record.
    """
    following = _next_beginning(file, at + 4, size)
    if following < end:
        return "its length leads over the beginning of another record", following
    file.seek(end + 4)
    word = words_of(file.read(4))
    if len(word) and end + RECORD_HEADER + padded(split(int(word[0]))[1]) == following:
        return None, end  # the next record lacks its magic number alone
    try:
        _header(unpack(payload).content, decode=True)
    except ValueError:
        return f"its length leads to byte {end}, where no record begins", following
    return None, end


def _header(content: bytes, decode: bool) -> Header:
    """The header of an image. Raises ValueError if it is none, or, with `decode`, a damaged one."""
    try:
        if decode:
            decode_image(content, "its image")
        return read_header(content)
    except (OSError, ValueError) as error:
        text = str(error)
        raise ValueError(text if text.startswith("its image") else f"its image {text}") from None


def _rows(path) -> Tuple[List[Tuple[int, int]], List[Damage]]:
    """The rows of the index of a file, and its damage; no rows if there is no index."""
    index = index_beside(Path(path).expanduser())
    if not index.is_file():
        return [], []
    try:
        return read_index(index), []
    except ValueError as error:
        return [], [Damage(None, 0, str(error).rstrip("."))]


def _compare_index(path, offsets: Dict[int, int]) -> List[Damage]:
    """How an index differs from the records, by their offsets and numbers."""
    rows, damages = _rows(path)
    index = index_beside(path)
    if not rows:
        return damages
    for key, offset in rows:
        if offset not in offsets:
            damages.append(Damage(None, offset, f"{index} names record {key} at byte {offset}, where none begins"))
    for what, counts in (("key", Counter(key for key, _ in rows)), ("byte", Counter(offset for _, offset in rows))):
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            text = f"{index} names {len(twice)} {what}(s) more than once, {what} {twice[0]} first"
            damages.append(Damage(None, 0, text))
    missing = sorted(offsets.keys() - {offset for _, offset in rows})
    if missing:
        where = f"record {offsets[missing[0]]} at byte {missing[0]}"
        damages.append(Damage(None, missing[0], f"{index} lacks {len(missing)} record(s), {where} first"))
    return damages
