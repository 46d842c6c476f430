"""Decoding of one encoded image, and of many in threads that keep their order; pixels to input of a network."""

from __future__ import annotations

import collections
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, Iterable, TypeVar

import numpy as np

from .augment import cv2_module, normalise
from .settings import DataSettings

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class UnreadableImageError(ValueError):
    """An image whose bytes no decoder understands; the text names where it lies."""


def decode_image(encoded: bytes, where: str) -> np.ndarray:
    """Decodes JPEG, PNG or another format OpenCV reads to (h, w, 3) uint8 RGB.

    Grey and CMYK images are converted, transparency is dropped. The EXIF orientation is ignored, as in the
    pipelines behind published ImageNet results.

    Raises:
        UnreadableImageError: The bytes are no readable image; `where` stands in the text.
    """
    cv2 = cv2_module()
    image = None
    if encoded:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if image is None:
        raise UnreadableImageError(
            f"{where} is no readable image ({len(encoded):,} bytes).\n"
            "Replace or remove it, or set data.on_error=skip to train without it."
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def to_input(images: np.ndarray, settings: DataSettings) -> np.ndarray:
    """What a network gets of RGB pixels: (..., h, w, c) on the scale 0..255 -> (..., c, h, w) float32, normalised."""
    step = -1 if settings.channel_order == "bgr" else 1
    return normalise(images[..., ::step], settings.mean[::step], settings.std[::step])


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
