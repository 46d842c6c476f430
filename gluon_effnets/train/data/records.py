"""RecordIO files: finding them, checking every header before use, and reading single records."""

from __future__ import annotations

import itertools
import logging
import os
from typing import Iterator, NamedTuple

import numpy as np

from ...files.regular import opened
from ...files.write import write_text
from ...progress import progress_bar
from ...runtime.recordio import (
    IMAGE_HEADER,
    LENGTH_BITS,
    MAGIC,
    RECORD_HEADER,
    has_all_parts,
    join_parts,
    offsets_of,
    padded,
    read_index,
)
from .decode import UnreadableImageError, decode_image, named, ordered_map
from .settings import missing_path_message

_CHUNK = 1 << 16
_PER_TASK = 64
_MOST_BYTES = 1 << 46
_log = logging.getLogger("gluon_effnets")


class RecordFile(NamedTuple):
    """A checked RecordIO file.

    Attributes:
        path: Of the file.
        index_path: None where the file came without an index.
        content: The mapped file, uint8.
        keys, offsets, starts, ends: Per record, shape (n,), ascending by offset: its key in the index,
            where it begins, and the byte range of the encoded image; `ends` is -1 for a record stored in parts.
        labels: Class indices, shape (n,), int32.
    """

    path: str
    index_path: str | None
    content: np.ndarray
    keys: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray

    def where(self, position: int) -> str:
        """How messages name a record."""
        return f"{self.path}, record {self.keys[position]} (byte {self.offsets[position]})"

    def view(self, position: int) -> memoryview:
        """The encoded image of one record; of the file only what is looked at is read."""
        start, end = int(self.starts[position]), int(self.ends[position])
        if end < 0:
            header = start - int(self.offsets[position]) - RECORD_HEADER
            return memoryview(join_parts(self.content, int(self.offsets[position])))[header:]
        return memoryview(self.content.data)[start : max(start, end)]

    def encoded(self, position: int) -> bytes:
        """The encoded image of one record."""
        return bytes(self.view(position))

    def read(self, position: int) -> np.ndarray:
        """The decoded image of one record, (h, w, 3) uint8 RGB."""
        return decode_image(self.encoded(position), self.where(position))


def find_index(path: str) -> str | None:
    """The index beside a ``.rec`` file, or None."""
    index_path = os.path.splitext(path)[0] + ".idx"
    return index_path if os.path.exists(index_path) else None


def scan_records(path: str, most_labels: int = 1) -> RecordFile:
    """Reads the headers of all records of a ``.rec`` file (not the images) and checks them.

    MXNet's reader ends the process on a missing index, and passes over a damaged record without a word;
    hence the check before it opens the file.

    Args:
        path: Of the file.
        most_labels: That a record may have. With more than one, labels are lists of boxes, which are not looked at:
            `labels` of the result are 0.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The index does not fit, the file was cut short, or a record is damaged.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(missing_path_message(path, os.path.dirname(path) or "."))
    with opened(path, "record file", _MOST_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
    if not size:
        raise ValueError(f"{path} is empty; make or copy it again.")
    if size % 4:
        raise ValueError(f"{path} was cut short: its size ({size} bytes) is no multiple of 4; copy it again.")
    words = np.memmap(path, np.dtype("<u4"), mode="r")
    index_path = find_index(path)
    if index_path:
        keys, offsets = _read_index(index_path, path, size)
    else:
        offsets = offsets_of(path)
        keys = np.arange(len(offsets))
    return _check_records(path, index_path, words, keys, offsets, most_labels)


def write_index(records: RecordFile, path: str) -> None:
    """Writes the index that `records` lacks."""
    write_text(path, "".join(f"{key}\t{offset}\n" for key, offset in zip(records.keys, records.offsets)))


def read_images(records: RecordFile, num_threads: int, on_error: str) -> tuple[list[np.ndarray], list[int]]:
    """The images of all records and their positions, the unreadable ones left out if `on_error` is skip."""
    images, kept, errors = [], [], []
    positions = np.arange(len(records.keys))
    for position, found in enumerate(decode_all(records, positions, num_threads, f"reading {records.path}")):
        if not isinstance(found, UnreadableImageError):
            images.append(found)
            kept.append(position)
        elif on_error == "raise":
            raise found
        else:
            errors.append(found)
    if errors:
        _log.warning("%s: %d unreadable image(s) left out: %s", records.path, len(errors), named(errors))
    return images, kept


def find_unreadable(records: RecordFile, positions: np.ndarray, num_threads: int) -> UnreadableImageError | None:
    """The error about the first record among `positions` that does not decode, or None."""
    text = f"looking for the damaged record in {records.path}"
    found = decode_all(records, positions, num_threads, text)
    return next((image for image in found if isinstance(image, UnreadableImageError)), None)


def decode_all(
    records: RecordFile, positions: np.ndarray, num_threads: int, text: str
) -> Iterator[np.ndarray | UnreadableImageError]:
    """The image, or the error, of each record in the order of `positions`."""

    def decode(part: np.ndarray) -> list[np.ndarray | UnreadableImageError]:
        results: list[np.ndarray | UnreadableImageError] = []
        for position in part:
            try:
                results.append(records.read(position))
            except UnreadableImageError as error:
                results.append(error)
        return results

    # Handing over small images one by one would cost more than decoding them.
    parts = [positions[first : first + _PER_TASK] for first in range(0, len(positions), _PER_TASK)]
    decoded = ordered_map(decode, parts, num_threads, ahead=2 * num_threads)
    return progress(itertools.chain.from_iterable(decoded), len(positions), text)


def progress(items, total: int, text: str):
    """A progress bar on standard error that appears only if the work takes more than two seconds."""
    return progress_bar(items, total=total, desc=text, delay=2)


def _read_index(index_path: str, path: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    # A record has at least 32 bytes, and a line of the index fewer than twice as many.
    with opened(index_path, "index", 2 * size + 64):
        pass
    try:
        rows = read_index(index_path)
    except ValueError as error:
        raise ValueError(f"{error}\nDelete the file, it is rebuilt from {path}.") from None
    keys, offsets = np.array(rows, np.int64).T
    ascending = np.argsort(offsets, kind="stable")
    keys, offsets = keys[ascending], offsets[ascending]
    outside = offsets + RECORD_HEADER + IMAGE_HEADER > size
    if outside.any():
        raise ValueError(
            f"{index_path} names record {keys[outside][0]} at byte {offsets[outside][0]}, but {path} ends "
            f"at {size}.\nThe .rec file was cut short, or the two do not belong together: copy both again."
        )
    if (offsets < 0).any() or (offsets % 4).any() or (np.diff(offsets) == 0).any():
        raise ValueError(f"{index_path} does not belong to {path}; delete it, it is rebuilt from the .rec file.")
    return keys, offsets


def _check_records(
    path: str, index_path: str | None, words: np.ndarray, keys: np.ndarray, offsets: np.ndarray, most_labels: int
) -> RecordFile:
    """Checks magic, length and label of every record at `offsets`."""
    size = len(words) * 4
    if offsets[-1] + RECORD_HEADER + IMAGE_HEADER > size:
        raise ValueError(f"{path} was cut short within record {keys[-1]} at byte {offsets[-1]}; copy it again.")
    part, lengths, labels, extra = (np.empty(len(offsets), np.int64) for _ in range(4))
    chunks = range(0, len(offsets), _CHUNK)
    for first in progress(chunks, len(chunks), f"checking {path} (x{_CHUNK:,})"):
        span = slice(first, first + _CHUNK)
        at = offsets[span] // 4
        damaged = words[at] != MAGIC
        if damaged.any():
            bad = first + int(np.argmax(damaged))
            raise ValueError(
                f"{path}, record {keys[bad]}: no record begins at byte {offsets[bad]}.\n"
                "The file is damaged, or its .idx belongs to another file: delete the .idx, it is rebuilt."
            )
        part[span], lengths[span] = words[at + 1] >> LENGTH_BITS, words[at + 1] & ((1 << LENGTH_BITS) - 1)
        num_labels = words[at + 2].astype(np.int64)
        if (num_labels > most_labels).any():
            bad = first + int(np.argmax(num_labels > most_labels))
            needed = f"at most {most_labels:,} are read"
            if most_labels == 1:
                needed = "one class index is needed (detrec:DIR reads lists of boxes, for detectors)"
            raise ValueError(f"{path}, record {keys[bad]} has {num_labels[bad - first]} labels; {needed}.")
        # A label packed as a list of one number stands behind the header instead of in it.
        label_at = np.where(num_labels == 1, at + (RECORD_HEADER + IMAGE_HEADER) // 4, at + 3)
        if most_labels == 1:
            labels[span] = _class_indices(words[np.minimum(label_at, len(words) - 1)], path, keys[span])
        else:
            labels[span] = 0
        extra[span] = 4 * num_labels
    ends = offsets + RECORD_HEADER + lengths
    _check_ends(path, keys, offsets, part, offsets + RECORD_HEADER + padded(lengths), size)
    for position in np.flatnonzero(part):
        end = int(offsets[position + 1]) if position + 1 < len(offsets) else size
        if not has_all_parts(words, int(offsets[position]) // 4, end // 4):
            raise ValueError(
                f"{path}, record {keys[position]} at byte {offsets[position]} is stored in parts, of which some are "
                "missing; copy or make the file again."
            )
    starts = offsets + RECORD_HEADER + IMAGE_HEADER + extra
    ends = np.where(part == 0, ends, -1)
    return RecordFile(path, index_path, words.view(np.uint8), keys, offsets, starts, ends, labels.astype(np.int32))


def _class_indices(words: np.ndarray, path: str, keys: np.ndarray) -> np.ndarray:
    labels = words.view("<f4")
    with np.errstate(invalid="ignore"):
        bad = ~((labels >= 0) & (labels < 1 << 24) & (labels == np.floor(labels)))
    if bad.any():
        record = int(np.argmax(bad))
        raise ValueError(f"{path}, record {keys[record]} has label {labels[record]:g}; it must be 0, 1, 2, ...")
    return labels.astype(np.int64)


def _check_ends(
    path: str, keys: np.ndarray, offsets: np.ndarray, part: np.ndarray, ends: np.ndarray, size: int
) -> None:
    following = np.append(offsets[1:], size)
    if ends[-1] > size:
        raise ValueError(
            f"{path} was cut short: record {keys[-1]} ends at byte {ends[-1]}, the file at {size}.\nCopy it again."
        )
    wrong = np.where(part == 0, ends != following, ends >= following)
    if wrong.any():
        bad = int(np.argmax(wrong))
        raise ValueError(
            f"{path}, record {keys[bad]} ends at byte {ends[bad]}, but the next record of the .idx begins at "
            f"{following[bad]}.\nThe .idx lacks records or belongs to another file: delete it, it is rebuilt."
        )
