"""From RGB pixels to the input of a network: resize, cut out the center, normalize."""

from __future__ import annotations

import math
from typing import Any, Sequence, Tuple

import numpy as np
from PIL import Image

__all__ = [
    "central_square",
    "evaluation_crop",
    "luminance",
    "resize_by_pillow",
    "resized",
    "shorter_side",
    "size_with_shorter",
    "to_input",
]

PILLOW_FILTERS = {"pillow_bilinear": Image.Resampling.BILINEAR, "pillow_bicubic": Image.Resampling.BICUBIC}
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
# Of OpenCV's arithmetic for uint8: weights have 11 bits, and of their products 4 + 16 + 2 are rounded away.
_WEIGHT = 1 << 11


def shorter_side(image_size: int, crop: float) -> int:
    """Return the length of the shorter side before the center is cut out."""
    # In floating point 224 / 0.7 lies just above 320.
    return math.ceil(image_size / crop - 1e-6)


def size_with_shorter(shape: Sequence[int], shorter: int) -> Tuple[int, int]:
    """Return (height, width) of an image of a shape with another shorter side; the longer one is rounded down."""
    height, width = shape[:2]
    return (shorter * height // width, shorter) if height > width else (shorter, shorter * width // height)


def central_square(image: np.ndarray, crop: float) -> np.ndarray:
    """Return the central square of `crop` times the shorter side, rounded as TensorFlow's EfficientNet code does."""
    height, width = image.shape[:2]
    side = max(1, int(crop * min(height, width) + 1e-6))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return image[top : top + side, left : left + side]


def evaluation_crop(
    image: np.ndarray, image_size: int, crop: float, interpolation: str, crop_first: bool = False
) -> np.ndarray:
    """Return what a network is shown of an image, (h, w, 3) uint8 -> (image_size, image_size, 3).

    Args:
        image: RGB pixels.
        image_size, crop: The shorter side gets `image_size` / `crop` pixels, and the center is cut out.
        crop_first: The central square of `crop` times the shorter side is cut out and resized instead.
        interpolation: 'pillow_bilinear', 'pillow_bicubic', or 'bilinear': as OpenCV does it, without low-pass filter.
    """
    if crop_first:
        image, crop = central_square(image, crop), 1.0
    height, width = size_with_shorter(image.shape, shorter_side(image_size, crop))
    top, left = (height - image_size) // 2, (width - image_size) // 2
    rows, columns = slice(top, top + image_size), slice(left, left + image_size)
    if image.shape[:2] == (height, width):
        return image[rows, columns]
    if interpolation in PILLOW_FILTERS:
        return resize_by_pillow(image, height, width, interpolation)[rows, columns]
    return _bilinear(image, height, width, rows, columns)


def resized(image: np.ndarray, side: int, interpolation: str) -> np.ndarray:
    """Return a whole image (h, w, 3) uint8 as a square of `side` pixels, in whatever ratio, as detectors are shown it.

    Args:
        interpolation: As of `evaluation_crop`.
    """
    if image.shape[:2] == (side, side):
        return image
    if interpolation in PILLOW_FILTERS:
        return resize_by_pillow(image, side, side, interpolation)
    return _bilinear(image, side, side, slice(0, side), slice(0, side))


def resize_by_pillow(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """Resize (h, w, c) uint8 of one or three channels with one of Pillow's filters."""
    gray = image.shape[2] == 1
    resized = Image.fromarray(image[..., 0] if gray else image).resize((width, height), PILLOW_FILTERS[interpolation])
    return np.asarray(resized).reshape(height, width, image.shape[2])


def luminance(image: np.ndarray) -> np.ndarray:
    """Return the gray pixels of an image, (h, w, 3) -> (h, w, 1) float32."""
    return (image @ _LUMINANCE)[..., np.newaxis]


def to_input(images: np.ndarray, wanted: Any) -> np.ndarray:
    """Return what a network gets of pixels on the scale 0..255: (..., h, w, c) -> (..., c, h, w) float32, normalized.

    Args:
        images: RGB, of which a network of one channel gets the luminance; or gray, for such a network.
        wanted: A `Preprocessing`, or what else has its `mean`, `std` and `channel_order`.
    """
    if len(wanted.mean) == 1 and images.shape[-1] == 3:
        images = luminance(images)
    step = -1 if wanted.channel_order == "bgr" else 1
    return _normalized(images[..., ::step], wanted.mean[::step], wanted.std[::step])


def _normalized(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    scaled = np.array(np.moveaxis(images, -1, -3), np.float32, order="C")
    scaled -= np.array(mean, np.float32)[:, None, None]
    scaled /= np.array(std, np.float32)[:, None, None]
    return scaled


def _bilinear(image: np.ndarray, height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    """A window of OpenCV's resize(INTER_LINEAR), in its own arithmetic of whole numbers."""
    if image.shape[:2] == (2 * height, 2 * width):  # there it averages the four pixels
        twice = image[2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop].astype(np.int32)
        return ((twice[::2, ::2] + twice[1::2, ::2] + twice[::2, 1::2] + twice[1::2, 1::2] + 2) >> 2).astype(np.uint8)
    above, below, weight_above, weight_below = _neighbors(image.shape[0], height, rows)
    left, right, weight_left, weight_right = _neighbors(image.shape[1], width, columns)

    def along_rows(lines: np.ndarray) -> np.ndarray:
        pixels = image[lines]
        return pixels[:, left].astype(np.int32) * weight_left[:, None] + pixels[:, right] * weight_right[:, None]

    upper = (along_rows(above) >> 4) * weight_above[:, None, None] >> 16
    lower = (along_rows(below) >> 4) * weight_below[:, None, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _neighbors(length: int, target: int, window: slice) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels that each new one lies between, and their weights, which have a sum of 2048."""
    scale = 1 / (target / length)
    place = ((np.arange(window.start, window.stop) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    share = place - first.astype(np.float32)
    weights = [np.rint(part * np.float32(_WEIGHT)).astype(np.int32) for part in (np.float32(1) - share, share)]
    return np.clip(first, 0, length - 1), np.clip(first + 1, 0, length - 1), weights[0], weights[1]
