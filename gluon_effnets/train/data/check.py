"""The check of a record file before use: which images cannot be read, and which ones MXNet's reader reads as we do.

The result is kept beside the file, so that a second start and the other workers of a host need not look at every
record again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np

from ...files.npz import read_npz
from ...files.regular import opened
from ...files.write import CannotWrite, make_folder, write_bytes
from ...runtime.header import Header, read_header, upright
from .augment import cv2_module
from .decode import UnreadableImageError
from .records import RecordFile, decode_all, find_index, progress, scan_records

__all__ = ["CheckedRecords", "open_checked"]

_log = logging.getLogger("gluon_effnets")

_VERSION = 2
# Clocks of file systems tick in milliseconds: a file may change after the check and still bear the same time.
_SETTLED_S = 2.0
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
_PROBES, _PROBE_SIDE = 512, 16
_ARRAYS = {"keys": np.int64, "offsets": np.int64, "starts": np.int64, "ends": np.int64, "labels": np.int32}


class CheckedRecords(NamedTuple):
    """What the check found.

    Args:
        records: The file.
        sizes: Height and width of the stored pixels, (n, 2) int32; 0 where no image is.
        for_mxnet: Whether MXNet's reader surely reads the same pixels as `decode_image`, (n,) bool: JPEG and PNG,
            turned alike.
        unreadable: What is wrong with the images that cannot be read, by position, as far as it was found: damage
            inside of an image is not.
    """

    records: RecordFile
    sizes: np.ndarray
    for_mxnet: np.ndarray
    unreadable: Dict[int, str]

    def first_error(self) -> UnreadableImageError | None:
        """The error about the first unreadable image, or None."""
        if not self.unreadable:
            return None
        position = min(self.unreadable)
        return UnreadableImageError(self.records.where(position), self.unreadable[position])


def open_checked(path: str, num_threads: int) -> CheckedRecords:
    """Check a record file, or take the result of an earlier check if the file is still the same.

    Args:
        path: The ``.rec`` file.
        num_threads: For images that must be decoded, because they do not end as an image does.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The index does not fit, the file was cut short, or a record is damaged.
    """
    with _alone(path):
        checked = _kept(path)
        if checked is None:
            checked = _check(scan_records(path), num_threads)
            _keep(checked)
    return checked


def _check(records: RecordFile, num_threads: int) -> CheckedRecords:
    """Read the headers of all images, decode those that end oddly, and ask MXNet how it turns those with EXIF."""
    num = len(records.keys)
    sizes, for_mxnet = np.zeros((num, 2), np.int32), np.zeros(num, bool)
    unreadable: Dict[int, str] = {}
    odd: List[int] = []
    probes: List[Tuple[int, bytes, int]] = []
    for position in progress(range(num), num, f"checking the images of {records.path}"):
        encoded = records.view(position)
        try:
            header = read_header(encoded)
        except ValueError as error:
            unreadable[position] = str(error)
            continue
        sizes[position] = header.height, header.width
        for_mxnet[position] = _is_plain(header)
        if header.app1_end:
            probes.append((position, bytes(encoded[2 : header.app1_end]), header.orientation))
        if not _is_whole(header, encoded):
            odd.append(position)
    text = f"decoding what may have been cut short in {records.path}"
    for position, found in zip(odd, decode_all(records, np.array(odd, np.int64), num_threads, text)):
        if isinstance(found, UnreadableImageError):
            unreadable[position] = found.reason
    for first in range(0, len(probes), _PROBES):
        positions, segments, orientations = zip(*probes[first : first + _PROBES])
        for_mxnet[list(positions)] &= _turned_alike(segments, orientations)
    for_mxnet[list(unreadable)] = False
    return CheckedRecords(records, sizes, for_mxnet, unreadable)


def _is_plain(header: Header) -> bool:
    """Whether MXNet's OpenCV, of 2018, knows this kind of image; it does not look at EXIF of PNG."""
    return (header.format == "JPEG" and header.ordinary) or (header.format == "PNG" and header.orientation == 1)


def _is_whole(header: Header, encoded: memoryview) -> bool:
    """Whether an image ends as its format does; MXNet's reader takes a JPEG that was cut short for whole."""
    end = {"JPEG": _JPEG_END, "PNG": _PNG_END}.get(header.format, b"")
    return bytes(encoded[len(encoded) - len(end) :]) == end


def _turned_alike(segments: Tuple[bytes, ...], orientations: Tuple[int, ...]) -> np.ndarray:
    """Whether MXNet's reader turns images by these JPEG segments as `upright` does.

    Its own look at EXIF stops at less than ours, so it is asked itself: with the segments in front of a tiny image.
    """
    cv2 = cv2_module()
    half = _PROBE_SIDE // 2
    corners = np.array([[0, 80], [160, 240]], np.uint8).repeat(half, axis=0).repeat(half, axis=1)
    tiny = cv2.imencode(".jpg", corners)[1].tobytes()
    pixels = cv2.imdecode(np.frombuffer(tiny, np.uint8), cv2.IMREAD_COLOR)
    with tempfile.TemporaryDirectory(prefix="gluon_effnets-") as folder:
        paths = [os.path.join(folder, name) for name in ("probes.idx", "probes.rec")]
        writer = mx.recordio.MXIndexedRecordIO(*paths, "w")
        for key, segment in enumerate(segments):
            writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, 0, key, 0), tiny[:2] + segment + tiny[2:]))
        writer.close()
        reader = {"path_imgidx": paths[0], "path_imgrec": paths[1], "data_shape": (3, _PROBE_SIDE, _PROBE_SIDE)}
        try:
            batches = mx.io.ImageRecordIter(**reader, batch_size=len(segments), device_id=-1, verbose=False)
            images = next(batches).data[0].asnumpy().transpose(0, 2, 3, 1)
        except mx.base.MXNetError:
            return np.zeros(len(segments), bool)
    expected = {orientation: upright(pixels, orientation) for orientation in set(orientations)}
    return np.array([np.array_equal(image, expected[wanted]) for image, wanted in zip(images, orientations)])


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Let one process of a host check the file, while the others wait for what it keeps."""
    with contextlib.ExitStack() as stack:
        # What is wrong with the file the check itself says. Some network file systems have no such locks; then each
        # worker checks for itself.
        with contextlib.suppress(OSError, ValueError):
            fcntl.flock(stack.enter_context(opened(path, "record file", 1 << 46)), fcntl.LOCK_EX)
        yield


def _places(path: str) -> List[Path]:
    """Where the result may lie: beside the file, or in the user's folder for such things."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gluon_effnets"
    digest = hashlib.sha256(os.path.abspath(path).encode("utf-8", "surrogateescape")).hexdigest()
    own, shared = Path(path).with_suffix(".checked.npz"), cache / f"{digest[:32]}.checked.npz"
    # For the superuser everything can be written; a folder that nobody may write is left alone all the same.
    return [own, shared] if os.stat(own.parent).st_mode & 0o222 else [shared]


def _stamp(path: str) -> np.ndarray:
    """What changes when the file or its index changes, or what would be found in it."""
    versions = f"{_VERSION} {cv2_module().__version__} {mx.__version__}"
    states = [int.from_bytes(hashlib.sha256(versions.encode()).digest()[:4], "big")]
    for name in (path, find_index(path)):
        status = os.stat(name) if name else None
        # The time of the last change of state, which no archive sets, tells a result that came with the file.
        states += [status.st_size, status.st_mtime_ns, status.st_ctime_ns] if status else [-1, -1, -1]
    return np.array(states, np.int64)


def _kept(path: str) -> Optional[CheckedRecords]:
    """The result of an earlier check, or None if there is none, or it is not of these files."""
    for place in _places(path):
        # Whatever is wrong with the result, it can be found again.
        with contextlib.suppress(Exception):
            found = read_npz(place, "result of a check")
            if np.array_equal(found["stamp"], _stamp(path)):
                return _restored(path, found)
    return None


def _restored(path: str, found: Dict[str, np.ndarray]) -> Optional[CheckedRecords]:
    """The result in these arrays, if they fit together and into the file."""
    num, size = len(found["keys"]), os.path.getsize(path)
    fits = all(found[name].shape == (num,) and found[name].dtype == kind for name, kind in _ARRAYS.items())
    offsets, starts, ends = found["offsets"], found["starts"], found["ends"]
    inside = (np.diff(offsets) > 0).all() and (0 <= offsets).all() and (offsets < starts).all() and (ends <= size).all()
    whole = found["sizes"].shape == (num, 2) and found["for_mxnet"].shape == (num,) and (found["labels"] >= 0).all()
    places, reasons = found["unreadable"], found["reasons"]
    if not (num and fits and inside and whole and len(places) == len(reasons)):
        return None
    content = np.memmap(path, np.uint8, mode="r")
    records = RecordFile(path, find_index(path), content, *(found[name] for name in _ARRAYS))
    unreadable = dict(zip(places.tolist(), reasons.tolist()))
    return CheckedRecords(records, found["sizes"], found["for_mxnet"].astype(bool), unreadable)


def _keep(checked: CheckedRecords) -> None:
    """Write the result for the next start, if it can be written and the file is at rest."""
    records = checked.records
    newest = max(os.path.getmtime(name) for name in (records.path, records.index_path) if name)
    if time.time() - newest < _SETTLED_S:
        return
    arrays = {name: getattr(records, name) for name in _ARRAYS}
    arrays.update(stamp=_stamp(records.path), sizes=checked.sizes, for_mxnet=checked.for_mxnet)
    arrays["unreadable"] = np.array(list(checked.unreadable), np.int64)
    arrays["reasons"] = np.array(list(checked.unreadable.values()), np.str_)
    content = io.BytesIO()
    np.savez(content, **arrays)
    for place in _places(records.path):
        with contextlib.suppress(CannotWrite):
            make_folder(place.parent)
            write_bytes(place, content.getvalue())
            return
