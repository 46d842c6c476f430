"""Reading and decoding of one image, and of many in threads that keep their order; pixels to input of a network."""

from __future__ import annotations

import collections
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, Iterable, TypeVar

import numpy as np

from ...files.regular import UnreadableFileError, read_bytes
from ...runtime.header import read_header, upright
from .augment import cv2_module

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_BYTES = 1 << 30  # of an image


class UnreadableImageError(ValueError):
    """An image that no decoder reads.

    Args:
        where: How messages name the image.
        reason: What is wrong with it, as the rest of a sentence.
    """

    def __init__(self, where: str, reason: str):
        super().__init__(f"{where} {reason}.\nReplace or remove it, or set data.on_error=skip to train without it.")
        self.where, self.reason = where, reason


def named(errors: Iterable[UnreadableImageError], shown: int = 3) -> str:
    """The images of some errors as a text, with the first few of them named."""
    places = [error.where for error in errors]
    return ", ".join(places[:shown]) + (", ..." if len(places) > shown else "")


def decode_image(encoded: bytes, where: str) -> np.ndarray:
    """Decode JPEG, PNG, WebP or another format that OpenCV reads to (h, w, 3) uint8 RGB.

    Gray and CMYK images are converted, 16 bits are cut to 8, transparency is dropped, and the pixels are turned as
    EXIF's orientation says, equally in all versions of OpenCV.

    Args:
        encoded: The image.
        where: How a message names it.

    Raises:
        UnreadableImageError: The bytes are no image, a damaged one, or one that is larger than is decoded.
    """
    cv2 = cv2_module()
    try:
        header = read_header(encoded)
    except ValueError as error:
        raise UnreadableImageError(where, str(error)) from None
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableImageError(where, f"is no readable image ({len(encoded):,} bytes of {header.format})")
    if header.orientation > 1:
        image = upright(image, header.orientation)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_image_file(path: str) -> bytes:
    """Return the content of an image file.

    Raises:
        UnreadableImageError: It is not there, may not be read, or is a folder, a pipe or a device.
    """
    try:
        return read_bytes(path, "image", MOST_BYTES)
    except FileNotFoundError as error:
        reason = "is a link to nothing" if os.path.islink(path) else "is not there"
        raise UnreadableImageError(path, reason) from error
    except UnreadableFileError as error:
        raise UnreadableImageError(path, error.reason) from error


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], num_threads: int, ahead: int
) -> Generator[_Result, None, None]:
    """`map` in threads, in the order of `items`; `ahead` items are begun beyond the one handed out."""
    pool = ThreadPoolExecutor(num_threads)
    pending: Deque[Future[_Result]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Without this an abandoned epoch would still decode everything that was begun.
        for future in pending:
            future.cancel()
        pool.shutdown(wait=True)
