"""What an encoded image says of itself before it is decoded: format, size, and how the camera was held."""

from __future__ import annotations

import io
import struct
from typing import Iterator, NamedTuple, Tuple, Union

import numpy as np
from PIL import Image

__all__ = ["MAX_ASPECT", "MAX_PIXELS", "Header", "read_header", "upright"]

# As many pixels as Pillow takes; decoding more would let a file of some kilobytes fill the memory.
MAX_PIXELS = 178_956_970
# The shorter side is made as long as the network's input, and the longer one grows with it.
MAX_ASPECT = 100

_PNG_START = b"\x89PNG\r\n\x1a\n"
_EXIF_START = b"Exif\0\0"
_ORIENTATION, _SHORT, _LONG = 0x0112, 3, 4
_PNG_TAIL = 1 << 16
_MOST_PARTS = 10_000  # of a header: chunks, segments, bytes between them; none has as many
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORDINARY_FRAMES = (0xC0, 0xC1, 0xC2)  # sequential and progressive, with Huffman's code
_APP1, _START_OF_SCAN, _FILL = 0xE1, 0xDA, 0xFF

Bytes = Union[bytes, memoryview]


class Header(NamedTuple):
    """The header of an image.

    Args:
        format: As Pillow names it.
        height, width: Of the stored pixels.
        orientation: Of EXIF, 1 to 8: how the stored pixels are turned upright.
        ordinary: Whether a JPEG is of the kinds that every decoder reads.
        app1_end: Of a JPEG the byte behind its first APP1 segment, where EXIF stands; 0 without one.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    ordinary: bool = True
    app1_end: int = 0


def read_header(encoded: Bytes) -> Header:
    """Read the header of an image; of its pixels nothing is touched.

    Raises:
        ValueError: It is no image, or larger than is decoded; the text goes on after the name of the image.
    """
    try:
        header = _parse(encoded)
    except (struct.error, IndexError):
        header = None
    if header is None or header.height < 1 or header.width < 1:
        raise ValueError(f"is no readable image ({len(encoded):,} bytes)")
    _, height, width = header[:3]
    if height * width > MAX_PIXELS:
        raise ValueError(f"is {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} in all are decoded")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"is {width:,} x {height:,} pixels; one side may be {MAX_ASPECT} times the other")
    return header


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (h, w, c) as EXIF's orientation says, to what the camera saw."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _parse(data: Bytes) -> Header | None:
    start = bytes(data[:12])
    if start[:3] == b"\xff\xd8\xff":
        return _jpeg(data)
    if start[:8] == _PNG_START:
        return _png(data)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return _webp(data)
    if start[:2] == b"BM":
        return _bmp(data)
    return _other(data)


def _jpeg(data: Bytes) -> Header | None:
    at, orientation, app1_end = 2, 0, 0
    for _ in range(_MOST_PARTS):
        if data[at] != 0xFF:
            return None
        filled = at
        while data[at + 1] == _FILL:
            at += 1
            if at - filled > _MOST_PARTS:
                return None
        marker = data[at + 1]
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if marker in _START_OF_FRAME:
            precision, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            ordinary = marker in _ORDINARY_FRAMES and precision == 8 and channels in (1, 3, 4)
            return Header("JPEG", height, width, orientation or 1, ordinary, app1_end)
        if marker == _START_OF_SCAN:
            return None
        if marker == _APP1:
            app1_end = app1_end or end
            if not orientation and data[at + 4 : at + 10] == _EXIF_START:
                orientation = _exif_orientation(data[at + 10 : end])
        at = end
    return None


def _png(data: Bytes) -> Header | None:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        return None
    exif = next((data[at : at + length] for kind, at, length in _png_chunks(data) if kind == b"eXIf"), None)
    if exif is None:
        # It may stand behind the pixels, whose many chunks are not walked through: in a file they would all be read.
        tail = bytes(data[-_PNG_TAIL:])
        found = tail.rfind(b"eXIf")
        exif = tail[found + 4 :] if found >= 0 else b""
    return Header("PNG", height, width, _exif_orientation(exif))


def _png_chunks(data: Bytes) -> Iterator[Tuple[bytes, int, int]]:
    """Kind, first byte and length of the chunks before the pixels."""
    at, kind = 8, b""
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data) or kind == b"IDAT":
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, length
        at += length + 12


def _webp(data: Bytes) -> Header | None:
    kind = bytes(data[12:16])
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", height & 0x3FFF, width & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    if kind != b"VP8X":
        return None
    width, height = (int.from_bytes(bytes(data[at : at + 3]), "little") + 1 for at in (24, 27))
    at, orientation = 12, 1
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            exif = bytes(data[at + 8 : at + 8 + length])
            orientation = _exif_orientation(exif[len(_EXIF_START) :] if exif.startswith(_EXIF_START) else exif)
        at += 8 + length + length % 2
    return Header("WEBP", height, width, orientation)


def _bmp(data: Bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", abs(height), width)


def _other(data: Bytes) -> Header | None:
    """TIFF, which OpenCV turns upright itself, JPEG 2000, PPM and the rest."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return Header(image.format or "", image.height, image.width)
    # Damaged bytes raise errors of many types in Pillow's readers.
    except Exception:
        return None


def _exif_orientation(exif: Bytes) -> int:
    """The orientation of a block of EXIF data, 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, first)
        for at in range(first + 2, first + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + ("I" if kind == _LONG else "H"), exif, at + 8)
                return value if kind in (_SHORT, _LONG) and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
