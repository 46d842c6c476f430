"""Sizes of images as they are shown, read from their headers before the first image is decoded."""

from __future__ import annotations

import itertools
from typing import Callable, List, Union

import numpy as np

from ....files.regular import opened
from ....runtime.header import Header, read_header
from ..decode import MOST_BYTES, UnreadableImageError, ordered_map, read_image_file
from ..records import progress
from ..settings import DataSettings

__all__ = ["file_header", "image_sizes"]

_START = 1 << 16  # bytes in which a JPEG says its size, unless a camera put a picture before
_PER_TASK = 64


def file_header(path: str) -> Header:
    """Return the header of an image file, of which as little as possible is read.

    Raises:
        UnreadableImageError: It is not there, cannot be read, or is no image.
    """
    try:
        with opened(path, "image", MOST_BYTES) as file:
            start = file.read(_START)
        header = read_header(start)
        if header.format == "JPEG":  # others may say behind their pixels how they are turned
            return header
    except (OSError, ValueError):
        pass  # the whole file tells why
    try:
        return read_header(read_image_file(path))
    except UnreadableImageError:
        raise
    except ValueError as error:
        raise UnreadableImageError(path, str(error)) from None


def image_sizes(count: int, header: Callable[[int], Header], settings: DataSettings, text: str) -> np.ndarray:
    """Return height and width of images as they are shown, turned as EXIF says: (count, 2); 0 for unreadable ones.

    Args:
        count: Number of the images.
        header: Returns the header of an image; raises UnreadableImageError.
        settings: `on_error` and `num_threads` count.
        text: What the progress bar is called.

    Raises:
        UnreadableImageError: For the first unreadable image, unless such images are skipped.
    """

    def shown(first: int) -> List[Union[tuple, UnreadableImageError]]:
        sizes: List[Union[tuple, UnreadableImageError]] = []
        for position in range(first, min(first + _PER_TASK, count)):
            try:
                found = header(position)
            except UnreadableImageError as error:
                sizes.append(error)
                continue
            size = found.height, found.width
            sizes.append(size[::-1] if found.orientation >= 5 else size)
        return sizes

    sizes = np.zeros((count, 2), np.int64)
    threads = settings.num_threads
    found = ordered_map(shown, range(0, count, _PER_TASK), threads, ahead=2 * threads)
    for position, size in enumerate(progress(itertools.chain.from_iterable(found), count, text)):
        if not isinstance(size, UnreadableImageError):
            sizes[position] = size
        elif settings.on_error == "raise":
            raise size
    return sizes
