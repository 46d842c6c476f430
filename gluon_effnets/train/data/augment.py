"""Augmentation and evaluation transforms on uint8 images, drawing from a generator given by the caller."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from ..._requirements import optional_import
from ...runtime.pixels import PILLOW_FILTERS, central_square, resize_by_pillow, shorter_side, size_with_shorter
from .rand_augment import rand_augment
from .settings import PLAIN, DataSettings

# Principal components of ImageNet's RGB values (Krizhevsky et al. 2012, section 4.1) on the scale 0..255.
_PCA_SCALE = np.array([55.46, 4.794, 1.148], np.float32)
_PCA_VECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
_GREY = np.array([0.299, 0.587, 0.114])
_WINDOW_ATTEMPTS = 10
# The box of random erasing: share of the area, width / height.
ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)


def cv2_module():
    """OpenCV, with the pip command in the error where it is missing."""
    return optional_import("cv2", extra="opencv", why="decode and resize images")


def resize(image: np.ndarray, height: int, width: int, interpolation: str = "bilinear") -> np.ndarray:
    """Resize of an (h, w, c) image of one or three channels.

    `bilinear`: as in MXNet's image pipeline there is no low-pass filter; Pillow's two have one.
    """
    if image.shape[:2] == (height, width):
        return image
    if interpolation in PILLOW_FILTERS:
        return resize_by_pillow(image, height, width, interpolation)
    cv2 = cv2_module()
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, image.shape[2])


def crop_window(
    height: int, width: int, area: Sequence[float], aspect: Sequence[float], random: np.random.RandomState
) -> tuple[int, int, int, int]:
    """Draws (top, left, height, width) of a random resized crop: area uniform, aspect log-uniform.

    Where no draw fits into the image the largest centred window of an allowed aspect is taken.
    """
    window = _fitting_window(height, width, area, aspect, random)
    if window:
        return window
    ratio = min(max(width / height, aspect[0]), aspect[1])
    crop_w, crop_h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - crop_h) // 2, (width - crop_w) // 2, max(crop_h, 1), max(crop_w, 1)


def _fitting_window(
    height: int, width: int, area: Sequence[float], aspect: Sequence[float], random: np.random.RandomState
) -> tuple[int, int, int, int] | None:
    for _ in range(_WINDOW_ATTEMPTS):
        target = height * width * random.uniform(area[0], area[1])
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        window_w, window_h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < window_w <= width and 0 < window_h <= height:
            return random.randint(height - window_h + 1), random.randint(width - window_w + 1), window_h, window_w
    return None


def erase(pixels: np.ndarray, settings: DataSettings, random: np.random.RandomState) -> None:
    """With the probability of the settings put N(0, 1) noise into a box of normalised (c, h, w) pixels, in place.

    The box (random erasing, arXiv 1708.04896) has 2 % to a third of the area and an aspect of 0.3 to 3.3.
    """
    if settings.augment in PLAIN or not settings.random_erasing or random.uniform() >= settings.random_erasing:
        return
    window = _fitting_window(pixels.shape[1], pixels.shape[2], ERASED_AREA, ERASED_ASPECT, random)
    if window:
        top, left, height, width = window
        noise = random.standard_normal((len(pixels), height, width))
        pixels[:, top : top + height, left : left + width] = noise


def jitter_color(image: np.ndarray, strength: float, random: np.random.RandomState) -> np.ndarray:
    """Scales brightness, contrast and saturation by 1 +- `strength` in random order; float32 in 0..255.

    Each change blends the image with black, its mean grey, or its own grey pixels.
    """
    cv2 = cv2_module()
    image = image.astype(np.float32)
    factors = 1 + random.uniform(-strength, strength, 3)
    for change in random.permutation(3):
        factor = factors[change]
        color_map = np.zeros((3, 4))
        color_map[:, :3] = factor * np.eye(3)
        if change == 1:
            color_map[:, 3] = (1 - factor) * (_GREY @ cv2.mean(image)[:3])
        elif change == 2:
            color_map[:, :3] += (1 - factor) * _GREY
        image = np.clip(cv2.transform(image, color_map), 0, 255)
    return image


def pca_shift(std: float, random: np.random.RandomState) -> np.ndarray:
    """One RGB offset along the principal components of ImageNet's colours, shape (3,), float32."""
    return _PCA_VECTORS @ (random.normal(0, std, 3).astype(np.float32) * _PCA_SCALE)


def augment_imagenet(image: np.ndarray, settings: DataSettings, random: np.random.RandomState) -> np.ndarray:
    """Random resized crop, mirror and RandAugment, on RGB also colour jitter and PCA noise.

    (h, w, c) uint8 -> (image_size, image_size, c) float32.
    """
    whole = image.shape[:2]
    top, left, height, width = crop_window(whole[0], whole[1], settings.crop_area, settings.crop_aspect, random)
    interpolation = settings.interpolation
    if interpolation == "pillow_random":
        interpolation = list(PILLOW_FILTERS)[random.randint(len(PILLOW_FILTERS))]
    side = settings.image_size
    image = resize(image[top : top + height, left : left + width], side, side, interpolation)
    if settings.mirror and random.randint(2):
        image = image[:, ::-1]
    if settings.rand_augment:
        image = rand_augment(image, settings.rand_augment, settings.mean, random)
    if image.shape[2] != 3:
        return image.astype(np.float32)
    if settings.color_jitter:
        image = jitter_color(image, settings.color_jitter, random)
    if settings.pca_noise:
        color_map = np.column_stack([np.eye(3), pca_shift(settings.pca_noise, random)])
        image = cv2_module().transform(image.astype(np.float32), color_map)
    return image.astype(np.float32)


def augment_small(images: np.ndarray, settings: DataSettings, random: np.random.RandomState) -> np.ndarray:
    """`small` and `shift`, with RandAugment where the settings have it: (n, h, w, c) uint8 -> the same."""
    images = shift_and_mirror(images, settings.pad, settings.mirror and settings.augment == "small", random)
    if settings.rand_augment:
        images = np.stack([rand_augment(image, settings.rand_augment, settings.mean, random) for image in images])
    return images


def shift_and_mirror(images: np.ndarray, pad: int, mirror: bool, random: np.random.RandomState) -> np.ndarray:
    """Black border, random crop to the old size, half of them mirrored: (n, h, w, c) uint8 -> the same."""
    num, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = random.randint(2 * pad + 1, size=(num, 1)) + np.arange(height)
    columns = random.randint(2 * pad + 1, size=(num, 1)) + np.arange(width)
    if mirror:
        flip = random.randint(2, size=num).astype(bool)
        columns[flip] = columns[flip, ::-1]
    return padded[np.arange(num)[:, None, None], rows[:, :, None], columns[:, None, :]]


def resize_shorter(image: np.ndarray, size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Resizes so that the shorter side has `size` pixels (the longer one rounded down)."""
    return resize(image, *size_with_shorter(image.shape, size), interpolation)


def eval_resize(settings: DataSettings) -> int:
    """Length of the shorter side before the evaluation crop."""
    return shorter_side(settings.image_size, settings.eval_crop)


def center_crop(image: np.ndarray, size: int, shorter: int, interpolation: str = "bilinear") -> np.ndarray:
    """Shorter side to `shorter`, then the central `size` x `size` window."""
    image = resize_shorter(image, shorter, interpolation)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def evaluation_crop(image: np.ndarray, settings: DataSettings) -> np.ndarray:
    """What an evaluation shows of a decoded image: (h, w, c) uint8 -> (image_size, image_size, c)."""
    if not settings.eval_crop_first:
        return center_crop(image, settings.image_size, eval_resize(settings), settings.eval_interpolation)
    window = central_square(image, settings.eval_crop)
    return resize(window, settings.image_size, settings.image_size, settings.eval_interpolation)


def augment_photo(image: np.ndarray, settings: DataSettings, random: np.random.RandomState) -> np.ndarray:
    """The training transform of one decoded image of any size: (h, w, c) uint8 -> (s, s, c)."""
    if settings.augment == "imagenet":
        return augment_imagenet(image, settings, random)
    if settings.augment == "evaluation":
        return evaluation_crop(image, settings)
    image = center_crop(image, settings.image_size, settings.image_size)
    if settings.augment == "none":
        return image
    return augment_small(image[None], settings, random)[0]
